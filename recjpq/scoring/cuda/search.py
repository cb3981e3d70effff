"""One search on a device: upload, collect, rounds of preparing and scanning, finish, download."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recjpq.scoring.checks import Call, not_finite
from recjpq.scoring.cuda.device import Arguments, Device, Memory
from recjpq.scoring.cuda.plan import (
    TILE_ITEMS,
    WARP,
    Layout,
    Tuning,
    choose_shape,
    ranks_to_best,
    round_sizes,
    tile_step,
)
from recjpq.scoring.protocol import DeviceTables, ItemIndices, ScoreTables, TopK

MAX_COLLECT_BLOCKS = 64
NOT_FINITE = 2**64 - 1

# The fields of `Search` in kernels.cu, in its order.
FIELDS = (
    "codes", "tables", "eligible", "listed_starts", "listed", "excluded_starts", "excluded",
    "thresholds", "counts", "candidates", "image", "best",
    "num_items", "num_splits", "num_sub_ids", "num_rows", "k", "capacity", "collected",
    "num_tiles", "tile_step", "tiles_seen", "group_shift", "copies", "sort_size",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Codes:
    """The catalogue on the device.

    Attributes:
        memory: [num_items or more][num_words] 32-bit words of four codes each.
        num_words: per item.
    """

    memory: Memory
    num_words: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a checked call that are searched together: either all with a list of items, or none.

    Attributes:
        score_tables: float32 (B, M, V), of the host or on the device.
        listed: per row the only items to score, each once; or None.
        excluded: per row the items never to return, ascending; or None if there are none.
        eligible: a bit for each item, for all rows; or None.
    """

    score_tables: ScoreTables
    listed: list[ItemIndices] | None
    excluded: list[ItemIndices] | None
    eligible: npt.NDArray[np.uint8] | Memory | None


class Workspace:
    """A queue of the device with the memory that one search needs; it grows and is used again."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.queue = device.queue()
        self._scratch: Memory | None = None
        self._staging = np.empty(0, dtype=np.uint8)

    def scratch(self, size_bytes: int) -> Memory:
        """Return memory of the device of at least this size."""
        if self._scratch is None or self._scratch.size_bytes < size_bytes:
            self._scratch = None  # first give back, then ask for more
            self._scratch = self._device.allocate(size_bytes)
        return self._scratch

    def staging(self, size_bytes: int) -> npt.NDArray[np.uint8]:
        """Return an array of the host of this size."""
        if len(self._staging) < size_bytes:
            self._staging = self._device.staging(size_bytes)
        return self._staging[:size_bytes]


class Workspaces:
    """A few workspaces that callers take in turns."""

    def __init__(self, device: Device, count: int) -> None:
        self._device = device
        self._free: list[Workspace] = []
        self._permits = threading.Semaphore(count)

    @contextmanager
    def borrow(self) -> Iterator[Workspace]:
        """Wait for a workspace and have it alone."""
        with self._permits:
            workspace = self._free.pop() if self._free else Workspace(self._device)
            try:
                yield workspace
            except BaseException:
                workspace.queue.wait()  # whatever was begun uses memory that goes now
                raise
            self._free.append(workspace)


def chunks_of(
    call: Call[ScoreTables], eligible: npt.NDArray[np.uint8] | Memory | None, tuning: Tuning
) -> Iterator[tuple[list[int], Rows]]:
    """Yield the rows of a call, those with a list of items apart from the others, in chunks."""
    scanned = [row for row, allowed in enumerate(call.allow) if allowed is None]
    listed = [row for row, allowed in enumerate(call.allow) if allowed is not None]
    for rows, has_lists in ((scanned, False), (listed, True)):
        longest = max((len(items) for row in rows if (items := call.allow[row]) is not None), default=0)
        row_bytes = 8 * max(capacity_of(call.num_items, call.k, tuning), longest)
        size = max(1, min(tuning.chunk_rows, tuning.chunk_bytes // row_bytes))
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            excluded = [_each_once(call.exclude[row]) for row in chunk]
            yield (
                chunk,
                Rows(
                    _tables_of(call.score_tables, chunk),
                    [_each_once(call.allow[row]) for row in chunk] if has_lists else None,
                    excluded if any(len(items) for items in excluded) else None,
                    eligible,
                ),
            )


def _tables_of(score_tables: ScoreTables, rows: list[int]) -> ScoreTables:
    """Return the tables of some rows, ascending."""
    if rows[-1] - rows[0] == len(rows) - 1:  # they lie together
        return score_tables[rows[0] : rows[-1] + 1]
    return np.asarray(score_tables)[rows]


def _each_once(items: ItemIndices | None) -> ItemIndices:
    return np.empty(0, dtype=np.int32) if items is None else np.unique(items)  # ascending


def capacity_of(num_items: int, k: int, tuning: Tuning) -> int:
    """Return how many candidates a row keeps: at least twice k, so that more always raise the threshold."""
    return min(num_items, 32 * k + tuning.spare)


class Search:
    """One chunk of rows on its way through the device."""

    def __init__(
        self,
        device: Device,
        workspace: Workspace,
        codes: Codes,
        num_items: int,
        k: int,
        rows: Rows,
        tuning: Tuning,
    ) -> None:
        self._device, self._queue, self._tuning = device, workspace.queue, tuning
        self._kernels = device.kernels(codes.num_words)
        self._workspace = workspace
        self._num_rows, num_splits, num_sub_ids = rows.score_tables.shape
        self._num_items, self._k = num_items, k
        self._shape = choose_shape(self._num_rows, codes.num_words, num_sub_ids, device.shared_bytes)
        self._listed = rows.listed is not None
        longest = max((len(items) for items in rows.listed or ()), default=0)
        self._collected = longest if self._listed else capacity_of(num_items, k, tuning)
        self._sort_size = 1 << (k - 1).bit_length()
        num_tiles = -(-num_items // TILE_ITEMS)
        self._fields = dict.fromkeys(FIELDS, 0) | {
            "codes": codes.memory.address, "num_items": num_items, "num_splits": num_splits,
            "num_sub_ids": num_sub_ids, "num_rows": self._num_rows, "k": k,
            "capacity": max(1, self._collected), "collected": self._collected, "num_tiles": num_tiles,
            "tile_step": tile_step(num_tiles), "group_shift": self._shape.group_shift,
            "copies": self._shape.copies, "sort_size": self._sort_size,
        }  # fmt: skip
        self._upload(rows)

    def run(self, numbers: Sequence[int]) -> list[TopK]:
        """Return the best of each row.

        Raises:
            ScoringError: a table on the device is not finite; `numbers` are what its rows are called.
        """
        sizes = [] if self._listed else round_sizes(self._num_items, self._collected, self._tuning.growth)
        self._collect()
        for size in sizes:
            self._round(size)
        best, counts = self._finish()
        for row in np.flatnonzero(counts == NOT_FINITE):
            raise not_finite(numbers[int(row)])
        while counts.max(initial=0) > self._fields["capacity"]:
            # Some rows kept only a part of their candidates; k of these give a threshold that leaves fewer.
            self._round(self._num_items)
            best, counts = self._finish()
        ids, scores = ranks_to_best(best)
        found = np.count_nonzero(best, axis=1)
        return [TopK(ids[row, :n].copy(), scores[row, :n].copy()) for row, n in enumerate(found)]

    def _upload(self, rows: Rows) -> None:
        inputs: dict[str, npt.NDArray[Any]] = {}
        if isinstance(rows.score_tables, DeviceTables):
            self._fields["tables"] = rows.score_tables.address
        else:
            inputs["tables"] = rows.score_tables
        for name, lists in (("listed", rows.listed), ("excluded", rows.excluded)):
            if lists is not None:
                inputs[f"{name}_starts"] = np.cumsum([0, *map(len, lists)], dtype=np.int64)
                inputs[name] = np.concatenate(lists)
        if isinstance(rows.eligible, np.ndarray):
            inputs["eligible"] = rows.eligible
        elif rows.eligible is not None:
            self._fields["eligible"] = rows.eligible.address
        passes = -(-self._num_rows // self._shape.rows)
        outputs = {
            "best": self._num_rows * (self._sort_size + 1) * 8,
            "thresholds": self._num_rows * 8,
            "counts": self._num_rows * 4,
            "candidates": self._num_rows * self._fields["capacity"] * 8,
            "image": passes * self._shape.image_bytes,
        }
        layout = Layout()
        offsets = {name: layout.place(array.nbytes) for name, array in inputs.items()}
        uploaded = layout.size_bytes
        offsets |= {name: layout.place(size) for name, size in outputs.items()}
        self._scratch = self._workspace.scratch(layout.size_bytes)
        self._fields |= {name: self._scratch.address + offset for name, offset in offsets.items()}
        self._best_offset = offsets["best"]
        staging = self._workspace.staging(max(uploaded, outputs["best"]))
        for name, array in inputs.items():
            staging[offsets[name] : offsets[name] + array.nbytes] = np.ravel(array).view(np.uint8)
        self._queue.write(self._scratch, 0, staging[:uploaded])

    def _collect(self) -> None:
        blocks = min(MAX_COLLECT_BLOCKS, max(1, -(-self._collected // self._tuning.threads)))
        self._launch("collect", (blocks, self._num_rows))

    def _round(self, num_items: int) -> None:
        """Raise the thresholds by the candidates found so far; find those of so many items anew."""
        shape, tuning = self._shape, self._tuning
        kind = "wide" if shape.per_thread > 1 else "narrow"
        passes = -(-self._num_rows // shape.rows)
        self._launch(f"prepare_{kind}", (passes * shape.rows, 1))
        tiles = self._fields["tiles_seen"] = -(-num_items // TILE_ITEMS)
        threads, scan = tuning.scan_threads, f"scan_{kind}"
        # No more blocks than run at once, of all passes together, which then read the same codes together.
        resident = self._device.resident_blocks(self._kernels[scan], threads, shape.shared_bytes)
        blocks = min(max(1, resident // passes), -(-tiles * WARP // threads))
        self._launch(scan, (blocks, passes), threads, shape.shared_bytes)

    def _finish(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """Return ranks (B, k), best first, 0 beyond the last; and how many candidates there were (B,)."""
        self._launch("finish", (self._num_rows, 1))
        size = self._num_rows * (self._sort_size + 1) * 8
        staging = self._workspace.staging(size)
        self._queue.read(self._scratch, self._best_offset, staging)
        self._queue.wait()
        rows = staging.view(np.uint64).reshape(self._num_rows, -1)
        return rows[:, : self._k].copy(), rows[:, -1].copy()

    def _launch(
        self, kernel: str, grid: tuple[int, int], threads: int | None = None, shared_bytes: int = 0
    ) -> None:
        arguments: Arguments = np.fromiter(self._fields.values(), dtype=np.int64, count=len(FIELDS))
        self._queue.launch(
            self._kernels[kernel], grid, threads or self._tuning.threads, shared_bytes, arguments
        )
