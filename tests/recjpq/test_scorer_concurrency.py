"""Scorers under threads and forks."""

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from recjpq.scoring import Scorer

MakeScorer = Callable[[np.ndarray], Scorer]

NUM_THREADS = 16


def test_many_threads_at_once_get_the_answers_of_one(make_scorer: MakeScorer) -> None:
    rng = np.random.default_rng(0)
    scorer = make_scorer(rng.integers(256, size=(20_000, 8), dtype=np.uint8))
    tables = rng.standard_normal((NUM_THREADS, 8, 256)).astype(np.float32)
    exclude = [rng.integers(20_000, size=500, dtype=np.int32) for _ in range(NUM_THREADS)]
    expected = scorer.top_k(tables, 50, exclude=exclude)
    together = threading.Barrier(NUM_THREADS)

    def search(row: int) -> list[tuple[bytes, bytes]]:
        together.wait()
        best = [scorer.top_k(tables[row : row + 1], 50, exclude=[exclude[row]])[0] for _ in range(5)]
        return [(one.ids.tobytes(), one.scores.tobytes()) for one in best]

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        answers = list(pool.map(search, range(NUM_THREADS)))
    assert answers == [[(row.ids.tobytes(), row.scores.tobytes())] * 5 for row in expected]


def test_other_threads_run_during_a_search(make_scorer: MakeScorer) -> None:
    # With this switch interval a thread gives way only where it blocks or releases the GIL itself, so the
    # watcher can find `searching` true only from inside a search. The table is too small for NumPy to
    # release the GIL while the arguments are checked.
    scorer = make_scorer(np.zeros((200_000, 8), dtype=np.uint8))
    tables = np.zeros((1, 8, 4), dtype=np.float32)
    searching = False
    go, seen = threading.Event(), threading.Event()

    def watch() -> None:
        go.wait()
        if searching:
            seen.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        go.set()
        searching = True
        for _ in range(500):  # the operating system may be slow to wake the watcher
            scorer.top_k(tables, 1)
            if seen.is_set():
                break
        searching = False
    finally:
        sys.setswitchinterval(interval)
    watcher.join()
    assert seen.is_set()


FORK = """
import os, sys, threading
import numpy as np
from recjpq.scoring import load_scorer

rng = np.random.default_rng(0)
scorer = load_scorer(rng.integers(256, size=(50_000, 8), dtype=np.uint8), sys.argv[1])
tables = rng.standard_normal((1, 8, 256)).astype(np.float32)
expected = scorer.top_k(tables, 10)[0].ids.tolist()

stop = threading.Event()
def search():
    while not stop.is_set():
        scorer.top_k(tables, 10)
threads = [threading.Thread(target=search) for _ in range(2)]
for thread in threads:
    thread.start()
statuses = []
for _ in range(10):  # each fork falls somewhere into the other threads' searches
    pid = os.fork()
    if pid == 0:
        os._exit(0 if scorer.top_k(tables, 10)[0].ids.tolist() == expected else 1)
    statuses.append(os.waitpid(pid, 0)[1])
stop.set()
print(statuses)
"""


def test_a_forked_child_searches_while_its_parent_does(make_scorer: MakeScorer) -> None:
    backend = make_scorer(np.zeros((1, 1), np.uint8)).backend
    if backend == "cuda":
        pytest.skip("cuda: a CUDA context does not survive a fork")
    command = [sys.executable, "-c", FORK, backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == str([0] * 10)
