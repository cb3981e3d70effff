"""Catalogues that change while they are searched."""

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from recjpq.errors import ScoringError
from recjpq.scoring import GrowingScorer, load_scorer
from recjpq.scoring.numpy_scorer import NumpyScorer

MakeScorer = Callable[[np.ndarray], GrowingScorer]

SCORES = np.array([[5, 1, 3, 4, 2]], dtype=np.float32)[None]  # (1, 1, V): of an item with that one code


def codes(*items: int) -> np.ndarray:
    return np.array(items, dtype=np.uint8).reshape(-1, 1)


def indices(*items: int) -> np.ndarray:
    return np.array(items, dtype=np.int32)


def best(scorer: GrowingScorer, k: int = 10, **filters: Any) -> list[int]:
    return scorer.top_k(SCORES, k, **filters)[0].ids.tolist()


def test_appended_items_get_the_next_indices_and_are_found(make_scorer: MakeScorer) -> None:
    scorer = make_scorer(codes(1, 2))
    first, second = scorer.append(codes(0, 4)), scorer.append(codes(3))
    assert (first.dtype, first.tolist(), second.tolist()) == (np.int32, [2, 3], [4])
    assert scorer.num_items == 5
    assert best(scorer) == [2, 4, 1, 3, 0]


def test_ties_between_old_and_new_items_go_to_the_lower_index(make_scorer: MakeScorer) -> None:
    scorer = make_scorer(codes(1, 0, 1))
    scorer.append(codes(0, 1))
    assert best(scorer, 4) == [1, 3, 0, 2]


def test_few_eligible_among_many_new_items_are_found_beside_the_old_ones(make_scorer: MakeScorer) -> None:
    """The new items are most of the catalogue, but too few of them are eligible to give a first threshold."""
    rng = np.random.default_rng(0)
    item_codes = rng.integers(256, size=(5200, 4), dtype=np.uint8)
    tables = rng.standard_normal((1, 4, 256)).astype(np.float32)
    allow = np.zeros(5200, dtype=np.bool_)
    allow[:50] = allow[[300, 1300, 2300, 3300, 4300]] = True
    scorer, specification = make_scorer(item_codes[:200]), NumpyScorer(item_codes)
    scorer.append(item_codes[200:])
    for k in (5, 10, 60):
        (found,), (expected,) = (each.top_k(tables, k, allow=allow) for each in (scorer, specification))
        assert found.ids.tolist() == expected.ids.tolist()


def test_retired_items_are_never_returned_and_keep_their_index(make_scorer: MakeScorer) -> None:
    scorer = make_scorer(codes(0, 1, 2, 3))
    scorer.retire(indices(0, 2, 2))
    assert best(scorer) == [3, 1]
    assert scorer.num_items == 4
    assert scorer.append(codes(0)).tolist() == [4]
    scorer.retire(indices(0, 3))
    assert best(scorer) == [4, 1]
    assert best(scorer, allow=[indices(0, 1, 3)]) == [1]
    assert best(scorer, allow=np.array([True, False, True, True, True])) == [4]
    scorer.retire(indices(1, 4))
    assert best(scorer) == []


def test_filters_reach_appended_items(make_scorer: MakeScorer) -> None:
    scorer = make_scorer(codes(1, 2))
    scorer.append(codes(0, 4))
    assert best(scorer, exclude=[indices(2)]) == [1, 3, 0]
    assert best(scorer, allow=[indices(3, 0)]) == [3, 0]
    assert best(scorer, allow=np.array([True, False, True, False])) == [2, 0]


def test_nothing_may_be_appended_or_retired(make_scorer: MakeScorer) -> None:
    scorer = make_scorer(codes(1, 2))
    assert scorer.append(codes()).tolist() == []
    scorer.retire(indices())
    assert best(scorer) == [1, 0]


def test_the_given_codes_may_change_afterwards(make_scorer: MakeScorer) -> None:
    scorer, more = make_scorer(codes(1, 2)), codes(0, 4)
    scorer.append(more)
    more[:] = 1
    assert best(scorer) == [2, 1, 3, 0]
    assert best(scorer, allow=[indices(2, 3)]) == [2, 3]


@pytest.mark.parametrize(
    ("item_codes", "message"),
    [
        (codes(0).astype(np.int64), "item_codes: found int64 (1, 1), expected uint8 (n, 1)"),
        (codes(0)[0], "item_codes: found uint8 (1,), expected uint8 (n, 1)"),
        ([[0]], "item_codes: found list of 1, expected uint8 (n, 1)"),
        (np.zeros((2, 3), np.uint8), "item_codes: found 3 splits, expected 1"),
        (np.broadcast_to(codes(0), (2**31 - 2, 1)), "expected at most 2147483647"),
    ],
)
def test_bad_codes_are_refused_and_change_nothing(
    make_scorer: MakeScorer, item_codes: Any, message: str
) -> None:
    scorer = make_scorer(codes(1, 2))
    with pytest.raises(ScoringError) as raised:
        scorer.append(item_codes)
    assert message in str(raised.value)
    assert (scorer.num_items, best(scorer)) == (2, [1, 0])


@pytest.mark.parametrize("items", [indices(0, 2), indices(-1), np.array([0]), [0], None], ids=repr)
def test_bad_indices_are_refused_and_change_nothing(make_scorer: MakeScorer, items: Any) -> None:
    scorer = make_scorer(codes(1, 2))
    with pytest.raises(ScoringError, match=r"^items: found"):
        scorer.retire(items)
    assert best(scorer) == [1, 0]


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_sub_ids_beyond_a_known_v_are_refused(backend: str) -> None:
    message = "item_codes: found sub-id 4, expected 0 to 3"
    with pytest.raises(ScoringError, match=message):
        load_scorer(codes(1, 4), backend, num_sub_ids=4)
    scorer = load_scorer(codes(1, 3), backend, num_sub_ids=4)
    with pytest.raises(ScoringError, match=message):
        scorer.append(codes(4))
    with pytest.raises(ScoringError, match="num_sub_ids: found 257, expected 1 to 256"):
        load_scorer(codes(1), backend, num_sub_ids=257)


def test_tables_must_cover_appended_codes(make_scorer: MakeScorer) -> None:
    scorer = make_scorer(codes(1, 2))
    scorer.append(codes(5))
    with pytest.raises(ScoringError, match="the catalogue's codes go up to 5"):
        best(scorer)


class Growing(RuleBasedStateMachine):
    """Any history of changes gives the answers of the specification after the same history."""

    make: MakeScorer

    @initialize(seed=st.integers(0, 2**32 - 1), num_items=st.sampled_from([1, 70, 5000]))
    def build(self, seed: int, num_items: int) -> None:
        self.rng = np.random.default_rng(seed)
        item_codes = self.rng.integers(40, size=(num_items, 3), dtype=np.uint8)
        self.scorer, self.specification = self.make(item_codes), NumpyScorer(item_codes)

    @rule(count=st.sampled_from([0, 1, 2, 65, 1000]), largest=st.sampled_from([2, 40, 256]))
    def append(self, count: int, largest: int) -> None:
        item_codes = self.rng.integers(largest, size=(count, 3), dtype=np.uint8)
        assert np.array_equal(self.scorer.append(item_codes), self.specification.append(item_codes))

    @rule(count=st.sampled_from([0, 1, 50]))
    def retire(self, count: int) -> None:
        items = self.rng.integers(self.scorer.num_items, size=count, dtype=np.int32)
        self.scorer.retire(items)
        self.specification.retire(items)

    @invariant()
    def same_answers(self) -> None:
        tables = self.rng.integers(-9, 10, size=(2, 3, 256)).astype(np.float32)
        allow = self.rng.random(self.scorer.num_items) < 0.5
        for k, filters in ((3, {}), (200, {}), (3, {"allow": allow})):
            found = self.scorer.top_k(tables, k, **filters)
            expected = self.specification.top_k(tables, k, **filters)
            for row, wanted in zip(found, expected, strict=True):
                assert np.array_equal(row.ids, wanted.ids)
                assert row.scores.tobytes() == wanted.scores.tobytes()


def test_any_history_equals_the_specification(make_scorer: MakeScorer) -> None:
    machine = type("Machine", (Growing,), {"make": staticmethod(make_scorer)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25, stateful_step_count=12, derandomize=True, database=None, deadline=None
        ),
    )


def test_a_search_sees_a_change_whole_or_not_at_all(make_scorer: MakeScorer) -> None:
    # Each change appends a pair of equal items, better than all before, and retires the pair before it: a
    # search that mixed two catalogues would find one of a pair, or none, or two pairs.
    rng = np.random.default_rng(0)
    scorer = make_scorer(rng.integers(100, size=(3000, 1), dtype=np.uint8))
    tables = np.arange(256, dtype=np.float32)[None, None]
    newest = scorer.append(codes(100, 100))
    stop, seen = threading.Event(), []

    def search() -> None:
        while not stop.is_set():
            found = scorer.top_k(tables, 4)[0]
            seen.append((found.ids.tolist(), found.scores.tolist()))

    readers = [threading.Thread(target=search) for _ in range(4)]
    for reader in readers:
        reader.start()
    for code in range(101, 200):
        added = scorer.append(codes(code, code))
        scorer.retire(newest)
        newest = added
    stop.set()
    for reader in readers:
        reader.join()
    assert seen
    for ids, scores in seen:
        better = sorted(score for score in scores if score >= 100)
        assert better in ([better[0]] * 2, [better[0]] * 2 + [better[0] + 1] * 2)
        pair = ids[: len(better)]
        assert pair == [item for first in pair[::2] for item in (first, first + 1)]


def test_writers_at_once_lose_nothing() -> None:
    scorer = load_scorer(codes(0), "cpu")
    given: list[int] = []

    def write(code: int) -> None:
        for _ in range(50):
            given.extend(scorer.append(codes(code)).tolist())

    writers = [threading.Thread(target=write, args=(code,)) for code in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(given) == list(range(1, 201))
    assert sorted(best(scorer, 500)) == list(range(201))


FORK = """
import os
import numpy as np
from recjpq.scoring import load_scorer

scorer = load_scorer(np.zeros((1, 1), np.uint8), "cpu")
with scorer._writing():  # as if another thread were inside
    pid = os.fork()
    if pid == 0:
        scorer.append(np.zeros((1, 1), np.uint8))
        os._exit(0 if scorer.num_items == 2 else 1)
    print(os.waitpid(pid, 0)[1], scorer.num_items)
"""


def test_a_forked_child_may_write_although_its_parent_was_writing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "0 1"
