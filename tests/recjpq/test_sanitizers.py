"""The compiled core under sanitizers: no access out of bounds, no undefined behaviour, no data race."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "recjpq" / "native"
FUZZ = Path(__file__).with_name("fuzz_scoring.cpp")
COMPILER = os.environ.get("CXX", "g++")


def compile_with(sanitizers: str, directory: Path) -> Path:
    """Build the fuzz driver; skip the test where the compiler or its sanitizers are not installed."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no compiler {COMPILER}")
    flags = [
        f"-fsanitize={sanitizers}",
        "-fno-sanitize-recover=all",
        "-std=c++20",
        "-O1",
        "-ffp-contract=off",
    ]
    empty = directory / "empty.cpp"
    empty.write_text("int main() {}")
    probe = subprocess.run(
        [COMPILER, *flags, empty, "-o", directory / "empty"], capture_output=True, check=False
    )
    if probe.returncode or subprocess.run([directory / "empty"], check=False).returncode:
        pytest.skip(f"{COMPILER} has no -fsanitize={sanitizers} here")
    sources = [path for path in NATIVE.glob("*.cpp") if path.name not in ("bindings.cpp", "id_index.cpp")]

    def compile_one(source: Path) -> Path:
        compiled = directory / f"{source.stem}.o"
        subprocess.run([COMPILER, *flags, f"-I{NATIVE}", "-c", source, "-o", compiled], check=True)
        return compiled

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, [FUZZ, *sources]))
    program = directory / "fuzz_scoring"
    subprocess.run([COMPILER, *flags, "-pthread", *objects, "-o", program], check=True)
    return program


@pytest.mark.parametrize(("sanitizers", "rounds"), [("address,undefined", 25), ("thread", 5)])
def test_random_calls(sanitizers: str, rounds: int, tmp_path: Path) -> None:
    program = compile_with(sanitizers, tmp_path)
    done = subprocess.run([program, str(rounds)], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, f"{rounds} rounds passed"), done.stdout + done.stderr
