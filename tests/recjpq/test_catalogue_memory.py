"""What a catalogue takes of memory."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjpq import _native

MEASURE = """
import os
import sys
from pathlib import Path
import numpy as np
from recjpq.catalogue import Catalogue

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

directory, num_items = Path(sys.argv[1]), int(sys.argv[2])
Catalogue.load(directory / "one.parquet", np.zeros((1, 1), np.uint8))
codes = np.zeros((num_items, 1), np.uint8)
before = resident_bytes()
catalogue = Catalogue.load(directory / "items.parquet", codes)
grown = resident_bytes() - before
assert catalogue.indices_of([f"item-{num_items - 1:08d}"]).tolist() == [num_items - 1]
print(grown / num_items)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_a_million_items_cost_less_than_forty_bytes_each(tmp_path: Path) -> None:
    # An id of 13 bytes costs 13 + 4 (Arrow) + 8.4 (index), and its count 4: 30 bytes. All but the index are
    # linear in N, so ten million items take about 0.3 GB; a dict of str takes over 1.5 GB.
    num_items = 1_000_000
    ids = pa.array([f"item-{number:08d}" for number in range(num_items)])
    items = pa.table({"item_id": ids, "count": np.arange(num_items)})
    pq.write_table(items, tmp_path / "items.parquet")
    pq.write_table(items.slice(0, 1), tmp_path / "one.parquet")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), str(num_items)],
        # Freed memory goes back to the system at once, so that what stays resident is what is in use.
        env=os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 25 < float(done.stdout) < 40


@pytest.mark.parametrize("num_items", [1000, 43_690, 43_691, 100_000, 1_000_000])
def test_the_index_takes_six_to_twelve_bytes_an_item_at_any_size(num_items: int) -> None:
    # So ten million items take at most 120 MB (67 MB in fact: 2^24 slots of 4 bytes).
    ids = np.frombuffer(np.arange(num_items, dtype=np.uint32).tobytes(), dtype=np.uint8)
    index = _native.IdIndex(np.arange(num_items + 1, dtype=np.int64) * 4, ids)
    assert index.first_duplicate is None
    assert 6 <= index.size_bytes / num_items <= 12.01
