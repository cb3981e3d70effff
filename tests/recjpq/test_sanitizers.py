"""The compiled core under sanitizers and as 64-bit ARM runs it: exact, within bounds, without a data race."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

COMPILER = os.environ.get("CXX", "g++")
ARM_COMPILER, ARM_EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
NATIVE = Path(__file__).parents[2] / "recjpq" / "native"
FUZZ = Path(__file__).with_name("fuzz_scoring.cpp")
FLAGS = ("-std=c++20", "-O1", "-ffp-contract=off")
NEED_PYTHON = ("bindings.cpp", "id_index.cpp")


def runs(command: list[str], directory: Path, runner: tuple[str, ...] = ()) -> bool:
    """Say whether an empty program can be compiled so, and run."""
    source, program = directory / "empty.cpp", directory / "empty"
    source.write_text("int main() {}")
    if subprocess.run([*command, source, "-o", program], capture_output=True, check=False).returncode:
        return False
    return subprocess.run([*runner, program], capture_output=True, check=False).returncode == 0


def build_fuzz(command: list[str], directory: Path) -> Path:
    """Return the driver, compiled and linked with this command."""
    sources = [FUZZ, *(path for path in NATIVE.glob("*.cpp") if path.name not in NEED_PYTHON)]

    def compile_one(source: Path) -> Path:
        compiled = directory / f"{source.stem}.o"
        subprocess.run([*command, *FLAGS, f"-I{NATIVE}", "-c", source, "-o", compiled], check=True)
        return compiled

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    program = directory / "fuzz_scoring"
    subprocess.run([*command, "-pthread", *objects, "-o", program], check=True)
    return program


def check_fuzz(program: Path, rounds: int, runner: tuple[str, ...] = ()) -> None:
    """Run so many rounds; any difference, or a sanitizer's complaint, is a failure."""
    done = subprocess.run(
        [*runner, program, str(rounds)], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"{rounds} rounds passed"), done.stdout + done.stderr


@pytest.mark.parametrize(("sanitizers", "rounds"), [("address,undefined", 25), ("thread", 5)])
def test_random_calls(sanitizers: str, rounds: int, tmp_path: Path) -> None:
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no compiler {COMPILER}")
    command = [COMPILER, f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    if not runs(command, tmp_path):
        pytest.skip(f"{COMPILER} has no -fsanitize={sanitizers} here")
    check_fuzz(build_fuzz(command, tmp_path), rounds)


def test_random_calls_on_arm(tmp_path: Path) -> None:
    for tool in (ARM_COMPILER, ARM_EMULATOR):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}; Debian has it in g++-aarch64-linux-gnu and qemu-user")
    command = [ARM_COMPILER, "-static"]
    if not runs(command, tmp_path, (ARM_EMULATOR,)):
        pytest.skip(f"{ARM_EMULATOR} cannot run what {ARM_COMPILER} makes")
    check_fuzz(build_fuzz(command, tmp_path), 5, (ARM_EMULATOR,))
