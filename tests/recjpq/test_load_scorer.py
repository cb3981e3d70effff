"""Choosing a scorer by name."""

import numpy as np
import pytest

from recjpq.errors import BackendUnavailableError
from recjpq.scoring import load_scorer

ITEM_CODES = np.zeros((3, 2), dtype=np.uint8)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_named_back_end_says_its_name(backend: str) -> None:
    assert load_scorer(ITEM_CODES, backend).backend == backend


def test_auto_is_the_default_and_says_what_it_chose() -> None:
    assert load_scorer(ITEM_CODES).backend == "cpu"
    assert load_scorer(ITEM_CODES, "auto").backend == "cpu"


@pytest.mark.parametrize("backend", ["gpu", "CPU", "", "numpy "], ids=repr)
def test_an_unknown_name_lists_the_choices(backend: str) -> None:
    with pytest.raises(BackendUnavailableError) as raised:
        load_scorer(ITEM_CODES, backend)
    assert str(raised.value) == f"backend: found {backend!r}, expected one of auto, cpu, cuda, numpy"


def test_cuda_fails_at_once_and_says_what_to_use() -> None:
    with pytest.raises(
        BackendUnavailableError, match="'cuda' is not part of this release; use 'cpu' or 'auto'"
    ):
        load_scorer(ITEM_CODES, "cuda")
