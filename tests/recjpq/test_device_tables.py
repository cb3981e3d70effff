"""Score tables that an encoder left on a GPU: searched where they are, refused as those of the host."""

from types import SimpleNamespace

import numpy as np
import pytest

from recjpq.errors import ScoringError
from recjpq.scoring import DeviceTables, load_scorer
from recjpq.scoring.cuda import CudaScorer
from recjpq.scoring.numpy_scorer import NumpyScorer
from tests.recjpq.gpu import need_gpu

RNG = np.random.default_rng(0)
ITEM_CODES = RNG.integers(256, size=(3000, 8), dtype=np.uint8)
TABLES = RNG.standard_normal((6, 8, 256)).astype(np.float32)


def not_to_be_called() -> np.ndarray:
    pytest.fail("the tables were downloaded")


@pytest.fixture(
    params=["emulated", pytest.param("cuda", marks=pytest.mark.gpu)],
)
def scorer(request: pytest.FixtureRequest) -> CudaScorer:
    if request.param == "emulated":
        return request.getfixturevalue("emulated_cuda").make_scorer(ITEM_CODES)
    need_gpu()
    return load_scorer(ITEM_CODES, "cuda")


def on_device(scorer: CudaScorer, tables: np.ndarray, *, readable: bool = False) -> DeviceTables:
    """Copy tables to the scorer's device, as an encoder would have left them there."""
    scorer.device.activate()
    memory, queue = scorer.device.allocate(tables.nbytes), scorer.device.queue()
    queue.write(memory, 0, tables)
    queue.wait()
    kept = SimpleNamespace(memory=memory, tables=tables)  # memory lives as long as the function does
    return DeviceTables(
        memory.address, tables.shape, lambda: kept.tables.copy() if readable else not_to_be_called()
    )


def assert_specified(
    scorer: CudaScorer, tables: DeviceTables, expected: np.ndarray, **filters: object
) -> None:
    specified = NumpyScorer(ITEM_CODES).top_k(expected, 10, **filters)
    for best, wanted in zip(scorer.top_k(tables, 10, **filters), specified, strict=True):
        assert best.ids.tolist() == wanted.ids.tolist()
        assert best.scores.tobytes() == wanted.scores.tobytes()


def test_tables_on_the_device_are_searched_without_a_download(scorer: CudaScorer) -> None:
    tables = on_device(scorer, TABLES)
    assert_specified(scorer, tables, TABLES)
    assert_specified(scorer, tables, TABLES, exclude=[np.arange(row, 50, dtype=np.int32) for row in range(6)])
    assert_specified(scorer, tables, TABLES, allow=np.arange(3000) % 3 == 0)


@pytest.mark.parametrize("rows", [slice(0, 1), slice(2, 5), slice(5, 6), slice(0, 6)])
def test_some_rows_of_a_batch(scorer: CudaScorer, rows: slice) -> None:
    assert_specified(scorer, on_device(scorer, TABLES)[rows], TABLES[rows])


def test_rows_with_lists_among_rows_without(scorer: CudaScorer) -> None:
    few = np.array([5, 7, 11], dtype=np.int32)
    together, apart = [few, few, None, None, None, None], [few, None, few, None, None, None]
    assert_specified(scorer, on_device(scorer, TABLES), TABLES, allow=together)
    assert_specified(scorer, on_device(scorer, TABLES, readable=True), TABLES, allow=apart)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(4, 0, 0), (4, 7, 255), (4, 3, 100)])
def test_what_is_not_finite_is_refused_by_its_row(
    scorer: CudaScorer, place: tuple[int, int, int], value: float
) -> None:
    tables = TABLES.copy()
    tables[place] = value
    for filters in ({}, {"allow": [np.arange(5, dtype=np.int32)] + [None] * 5}):
        with pytest.raises(ScoringError, match="row 4 holds NaN or infinity"):
            scorer.top_k(on_device(scorer, tables), 3, **filters)
    with pytest.raises(ScoringError, match="row 1 holds NaN or infinity"):
        scorer.top_k(on_device(scorer, tables)[3:5], 3)
    assert_specified(scorer, on_device(scorer, tables)[:4], TABLES[:4])


def test_a_table_of_nothing_finite_is_refused(scorer: CudaScorer) -> None:
    with pytest.raises(ScoringError, match="row 0 holds NaN or infinity"):
        scorer.top_k(on_device(scorer, np.full((1, 8, 256), np.nan, np.float32)), 3)


@pytest.mark.parametrize("shape", [(1, 7, 256), (1, 8, 255), (1, 8, 257)])
def test_a_wrong_shape_is_refused_before_anything_is_read(
    scorer: CudaScorer, shape: tuple[int, int, int]
) -> None:
    with pytest.raises(ScoringError, match="score_tables: found "):
        scorer.top_k(DeviceTables(0, shape, not_to_be_called), 3)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_the_other_backends_download_them(backend: str) -> None:
    tables = DeviceTables(0, TABLES.shape, TABLES.copy)
    scorer = load_scorer(ITEM_CODES, backend)
    for best, wanted in zip(scorer.top_k(tables[1:3], 5), scorer.top_k(TABLES[1:3], 5), strict=True):
        assert best.ids.tolist() == wanted.ids.tolist()
    assert len(tables) == 6
    assert np.array_equal(np.asarray(tables), TABLES)
