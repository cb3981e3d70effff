"""Print the project's requirements with some extras, one a line: `requirements.py PYPROJECT EXTRA...`."""

import sys
import tomllib
from pathlib import Path

path, *extras = sys.argv[1:]
project = tomllib.loads(Path(path).read_text(encoding="utf-8"))["project"]
for requirements in (project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)):
    sys.stdout.writelines(f"{requirement}\n" for requirement in requirements)
