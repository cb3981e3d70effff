"""The import rule: `training -> recjpq <- service`, each package imported whole in a fresh process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FORBIDDEN = {
    "recjpq": {"training", "service", "torch", "fastapi", "redis", "onnxruntime", "polars", "cuda"},
    "service": {"training", "torch", "polars", "onnx"},
    "training": {"service", "fastapi", "redis"},
}

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
def fail(name):
    raise ImportError(name)
for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".", onerror=fail):
    importlib.import_module(module.name)
print("\\n".join(sys.modules))
"""


def imported_by(package: str) -> set[str]:
    """Every module that is loaded once all modules of a package have been imported."""
    command = [sys.executable, "-c", IMPORT_ALL, package]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def modules_of(package: str) -> set[str]:
    """Every module of a package, by its files."""
    files = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / package).rglob("*.py")]
    return {".".join(file.parts).removesuffix(".__init__") for file in files}


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_package_imports_nothing_forbidden(package: str) -> None:
    modules = modules_of(package)
    imported = imported_by(package)
    assert modules <= imported, "the walk missed a module"
    assert {name.partition(".")[0] for name in imported} & FORBIDDEN[package] == set()
