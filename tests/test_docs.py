"""Links and commands in the documentation resolve."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from training.__main__ import VERBS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
PROGRAMS = {"docker", "kubectl", "make", "python", "recjpq-train", "recjpq-serve"}


def slugs(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> Iterator[list[str]]:
    """Each command of ours that a page shows, in a block or in a line, with what follows it."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:bash|sh)?\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    in_lines = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    for line in lines + in_lines:
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # code of another kind
            continue
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if len(words) > 1 and (program := words[0].rpartition("/")[2]) in PROGRAMS:
            yield [program, *words[1:]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in slugs(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    for command in commands(page):
        problem = _problem(*command)
        assert problem is None, f"{shlex.join(command)}: {problem}"


def _problem(program: str, *words: str) -> str | None:
    """What is wrong with a command, or None."""
    wrong: str | bool | None = None
    match program, words:
        case "make", (target, *_) if target.islower():
            targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
            wrong = target not in targets and "no such target"
        case "python", ("-m", module, *_):
            wrong = not importlib.util.find_spec(module) and "no such module"
        case "recjpq-train", (verb, *arguments) if verb.islower():  # neither VERB nor a flag
            missing = [a for a in arguments if a.startswith("training/configs/") and not (ROOT / a).exists()]
            wrong = (verb not in {*VERBS, "download", "triton"} or missing) and "no such verb or file"
        case "docker", ("compose", *arguments):
            wrong = _compose_problem(arguments)
        case "docker", ("build", *arguments):
            stages = re.findall(r" AS ([a-z-]+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
            targets = {arguments[i + 1] for i, word in enumerate(arguments) if word == "--target"}
            wrong = not targets <= set(stages) and "no such target"
        case "kubectl", ("apply", "-k", path):
            wrong = not (ROOT / path / "kustomization.yaml").exists() and "no such overlay"
    return wrong or None


def _compose_problem(arguments: list[str]) -> str | None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", [])}
    if "--profile" in arguments and arguments[arguments.index("--profile") + 1] not in profiles:
        return "no such profile"
    if "run" in arguments and arguments[-1] not in services:
        return "no such service"
    return None


def test_the_check_reads_the_commands_of_the_front_page() -> None:
    found = [command[:2] for command in commands(ROOT / "README.md")]
    assert ["make", "demo"] in found
    assert ["recjpq-train", "all"] in found
    assert ["docker", "compose"] in found
    assert _problem("make", "no-such-target")
    assert _problem("python", "-m", "benchmarks.no_such_module")
    assert _problem("docker", "compose", "--profile", "none", "up")
