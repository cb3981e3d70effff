"""Choosing a scorer by name."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from recjpq.errors import BackendUnavailableError
from recjpq.scoring import load_scorer

ITEM_CODES = np.zeros((3, 2), dtype=np.uint8)

NO_GPU = """
import numpy as np
from recjpq.errors import BackendUnavailableError
from recjpq.scoring import load_scorer
try:
    load_scorer(np.zeros((3, 2), np.uint8), "cuda")
except BackendUnavailableError as error:
    print(error, end="")
"""


def backend_of_auto() -> str:
    """`cuda` where a GPU scorer can be made, else `cpu`."""
    try:
        return load_scorer(ITEM_CODES, "cuda").backend
    except BackendUnavailableError:
        return "cpu"


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_named_back_end_says_its_name(backend: str) -> None:
    assert load_scorer(ITEM_CODES, backend).backend == backend


def test_auto_is_the_default_and_says_what_it_chose() -> None:
    assert load_scorer(ITEM_CODES).backend == backend_of_auto()
    assert load_scorer(ITEM_CODES, "auto").backend == backend_of_auto()


@pytest.mark.parametrize("backend", ["gpu", "CPU", "", "numpy "], ids=repr)
def test_an_unknown_name_lists_the_choices(backend: str) -> None:
    with pytest.raises(BackendUnavailableError) as raised:
        load_scorer(ITEM_CODES, backend)
    assert str(raised.value) == f"backend: found {backend!r}, expected one of auto, cpu, cuda, numpy"


def test_cuda_says_what_is_missing_and_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_GPU], env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.search(r"(?s)^backend 'cuda': .*found .*use 'cpu' or 'auto'$", done.stdout)
