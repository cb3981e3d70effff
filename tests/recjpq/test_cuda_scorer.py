"""The GPU scorer's own paths on the emulated device: passes, rounds, overflow, chunks, memory, plans."""

from math import gcd
from types import SimpleNamespace

import numpy as np
import pytest

from recjpq.errors import BackendUnavailableError
from recjpq.scoring import GrowingScorer
from recjpq.scoring.cuda import CudaScorer
from recjpq.scoring.cuda.plan import choose_shape, pack_bits, round_sizes, tile_step
from recjpq.scoring.numpy_scorer import NumpyScorer


def assert_specified(scorer: GrowingScorer, item_codes: np.ndarray, tables: np.ndarray, k: int, **filters):
    expected = NumpyScorer(item_codes).top_k(tables, k, **filters)
    for best, wanted in zip(scorer.top_k(tables, k, **filters), expected, strict=True):
        assert best.ids.tolist() == wanted.ids.tolist()
        assert best.scores.tobytes() == wanted.scores.tobytes()


def random_case(seed: int, num_items: int, num_splits: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    item_codes = rng.integers(256, size=(num_items, num_splits), dtype=np.uint8)
    return item_codes, rng.standard_normal((rows, num_splits, 256)).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 4, 5, 8, 16, 17, 32, 33])
@pytest.mark.parametrize("num_splits", [3, 8, 12])
def test_any_number_of_rows(emulated_cuda: SimpleNamespace, num_splits: int, rows: int) -> None:
    item_codes, tables = random_case(rows, 3000, num_splits, rows)
    assert_specified(emulated_cuda.make_scorer(item_codes), item_codes, tables, 5)


@pytest.mark.parametrize("kilobytes", [227, 99, 48, 16, 9])
def test_little_shared_memory(emulated_cuda: SimpleNamespace, kilobytes: int) -> None:
    # From 128 rows in one pass down to four.
    item_codes, tables = random_case(0, 2000, 8, 70)
    device = emulated_cuda.module.EmulatedDevice(emulated_cuda.device._directory, kilobytes * 1024)
    scorer = CudaScorer(item_codes, device, tuning=emulated_cuda.module.TUNING)
    assert_specified(scorer, item_codes, tables, 3)


def test_too_little_shared_memory_is_refused(emulated_cuda: SimpleNamespace) -> None:
    device = emulated_cuda.module.EmulatedDevice(emulated_cuda.device._directory, 4096)
    with pytest.raises(
        BackendUnavailableError, match="found 4096 bytes of shared memory for a block, expected"
    ):
        CudaScorer(np.full((3, 8), 255, np.uint8), device)


def test_too_many_candidates_are_found_again_under_a_higher_threshold(emulated_cuda: SimpleNamespace) -> None:
    # The first items to be collected are every 40th of the catalogue: they alone are bad.
    item_codes = np.random.default_rng(0).integers(1, 256, size=(96 * 40, 1), dtype=np.uint8)
    item_codes[::40] = 0
    table = np.arange(256, dtype=np.float32)[None, None]
    device = emulated_cuda.device
    device.launched.clear()
    assert_specified(emulated_cuda.make_scorer(item_codes, growth=1000), item_codes, table, 1)
    assert device.launched.count("finish") > 1


def test_a_few_eligible_items_leave_no_threshold(emulated_cuda: SimpleNamespace) -> None:
    item_codes, tables = random_case(0, 5000, 8, 2)
    scorer = emulated_cuda.make_scorer(item_codes)
    for eligible in (1, 9, 500):
        assert_specified(scorer, item_codes, tables, 10, allow=np.arange(5000) % (5000 // eligible) == 7)


def test_rows_with_and_without_lists_in_chunks(emulated_cuda: SimpleNamespace) -> None:
    item_codes, tables = random_case(0, 3000, 8, 50)
    rng = np.random.default_rng(1)
    lists = [rng.integers(3000, size=int(size), dtype=np.int32) for size in rng.integers(2000, size=50)]
    allow = [None if row % 3 else items for row, items in enumerate(lists)]
    exclude = [None if row % 4 else items[:200] for row, items in enumerate(lists)]
    for change in ({"chunk_rows": 7}, {"chunk_bytes": 1}):
        scorer = emulated_cuda.make_scorer(item_codes, **change)
        assert_specified(scorer, item_codes, tables, 20, allow=allow, exclude=exclude)


def test_k_beyond_what_a_block_sorts_in_shared_memory(emulated_cuda: SimpleNamespace) -> None:
    item_codes, tables = random_case(0, 3000, 8, 2)
    for k in (1024, 1025, 2999):
        assert_specified(emulated_cuda.make_scorer(item_codes), item_codes, tables, k)


def test_searches_of_before_do_not_see_what_is_appended_in_place(emulated_cuda: SimpleNamespace) -> None:
    scorer = emulated_cuda.make_scorer(np.zeros((100, 3), np.uint8))
    scorer.append(np.ones((1, 3), np.uint8))  # new memory, with room for 49 more
    memory = scorer._snapshot.codes.memory
    scorer.append(np.ones((49, 3), np.uint8))
    assert scorer._snapshot.codes.memory is memory
    scorer.append(np.ones((1, 3), np.uint8))
    assert scorer._snapshot.codes.memory is not memory
    table = np.tile(np.array([0, 1], np.float32), (1, 3, 1))
    assert scorer.top_k(table, 60)[0].ids.tolist() == [*range(100, 151), *range(9)]


def test_every_tile_is_visited_once_and_the_first_few_are_spread() -> None:
    for tiles in (1, 2, 3, 7, 128, 1000, 7813):
        step = tile_step(tiles)
        assert gcd(step, tiles) == 1
        few = np.sort(np.arange(min(16, tiles)) * step % tiles)
        assert np.diff([*few, few[0] + tiles]).max() <= max(1, tiles / 6)


def test_rounds_grow_and_end_with_everything() -> None:
    assert round_sizes(100, 100, 16) == []
    assert round_sizes(101, 100, 16) == [101]
    assert round_sizes(1_000_000, 4416, 16) == [70_656, 1_000_000]


@pytest.mark.parametrize("rows", [1, 4, 5, 16, 17, 33, 64, 100, 256])
def test_threads_of_a_warp_have_banks_of_their_own(rows: int) -> None:
    # Shared memory gives 32 banks of 4 bytes at a time: to all threads, or to 8 if each reads 16 bytes.
    shape = choose_shape(rows, 2, 256, 227 * 1024)
    groups = 1 << shape.group_shift
    thread = np.arange(32)
    group, slot = thread % groups, thread // groups
    for step in range(4):
        column = (slot // 4 % shape.copies) * 4 * groups + (slot + step) % 4 * groups + group
        at_once = 32 // shape.per_thread
        for turn in column.reshape(-1, at_once):
            assert len(set(turn % at_once)) == at_once
        assert shape.copies * 4 * groups % at_once == 0  # so that the code does not change the bank


@pytest.mark.parametrize("count", [1, 8, 31, 32, 33, 100])
def test_bits_fill_whole_words(count: int) -> None:
    flags = np.random.default_rng(count).random(count) < 0.5
    words = pack_bits(flags).view(np.uint32)
    assert [bool(words[item >> 5] >> (item & 31) & 1) for item in range(count)] == flags.tolist()
