"""One call in several threads: the answers of one."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from recjpq.errors import BackendUnavailableError, ScoringError
from recjpq.scoring import TopK, load_scorer
from recjpq.scoring.cpu_scorer import CpuScorer


def as_bytes(rows: list[TopK]) -> list[tuple[bytes, bytes]]:
    return [(row.ids.tobytes(), row.scores.tobytes()) for row in rows]


@pytest.fixture(scope="module")
def item_codes() -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(600_000, 4), dtype=np.uint8)  # 147 pages


@pytest.fixture(scope="module")
def tables() -> np.ndarray:
    tables = np.random.default_rng(1).standard_normal((9, 4, 256)).astype(np.float32)
    tables[0] = np.round(tables[0])  # many ties
    return tables


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_answers_do_not_depend_on_the_number_of_threads(
    item_codes: np.ndarray, tables: np.ndarray, threads: int
) -> None:
    alone, together = load_scorer(item_codes, "cpu"), load_scorer(item_codes, "cpu", threads=threads)
    expected = as_bytes(alone.top_k(tables, 100))
    assert as_bytes(together.top_k(tables, 100)) == expected  # rows shared
    for row in range(len(tables)):  # pages shared
        assert as_bytes(together.top_k(tables[row : row + 1], 100)) == expected[row : row + 1]


def test_many_callers_share_the_threads(item_codes: np.ndarray, tables: np.ndarray) -> None:
    scorer = load_scorer(item_codes, "cpu", threads=4)
    expected = as_bytes(scorer.top_k(tables, 10))
    with ThreadPoolExecutor(16) as callers:
        calls = [callers.submit(scorer.top_k, tables[row % 9 : row % 9 + 1], 10) for row in range(64)]
        calls += [callers.submit(scorer.top_k, tables, 10) for _ in range(8)]
        answers = [as_bytes(call.result()) for call in calls]
    assert answers[:64] == [expected[row % 9 : row % 9 + 1] for row in range(64)]
    assert answers[64:] == [expected] * 8


FORK = """
import os
import numpy as np
from recjpq.scoring import load_scorer

rng = np.random.default_rng(0)
scorer = load_scorer(rng.integers(256, size=(600_000, 4), dtype=np.uint8), "cpu", threads=4)
tables = rng.standard_normal((1, 4, 256)).astype(np.float32)
expected = scorer.top_k(tables, 10)[0].ids.tolist()  # the parent's threads are running
statuses = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if scorer.top_k(tables, 10)[0].ids.tolist() == expected else 1)
    statuses.append(os.waitpid(pid, 0)[1])
print(statuses, scorer.top_k(tables, 10)[0].ids.tolist() == expected)
"""


def test_a_forked_child_makes_its_own_threads() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[0, 0, 0] True"


@pytest.mark.parametrize("threads", [0, -1, 1.0, True, "2", None, 2000], ids=repr)
def test_bad_numbers_of_threads(threads: Any) -> None:
    with pytest.raises(ScoringError) as raised:
        load_scorer(np.zeros((1, 1), np.uint8), "cpu", threads=threads)
    assert str(raised.value) == f"threads: found {threads!r}, expected an integer from 1 to 1024"


def test_an_unknown_instruction_set_lists_the_choices() -> None:
    with pytest.raises(
        BackendUnavailableError, match=r"instruction_set: found 'sse9', expected one of .*portable"
    ):
        CpuScorer(np.zeros((1, 1), np.uint8), instruction_set="sse9")
    assert CpuScorer(np.zeros((1, 1), np.uint8), instruction_set="portable").instruction_set == "portable"


def test_the_index_is_small(item_codes: np.ndarray) -> None:
    # The codes again, sorted; 4 bytes per item to find it; presence, a thirty-second of the codes.
    size = CpuScorer(item_codes).size_bytes
    assert size < item_codes.nbytes * (1 + 1 / 32 + 0.01) + 4 * len(item_codes)
