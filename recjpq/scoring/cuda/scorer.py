"""The GPU scorer."""

import threading
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from recjpq.scoring.checks import Call, CallChecker, check_codes, check_item_indices
from recjpq.scoring.cuda.device import Device, Memory, Queue
from recjpq.scoring.cuda.plan import Tuning, choose_shape, pack_bits, pack_codes
from recjpq.scoring.cuda.search import Codes, Search, Workspaces, chunks_of
from recjpq.scoring.protocol import ItemIndices, RowFilter, ScoreTables, TopK

UPLOAD_BYTES = 16 * 2**20  # of host memory, beside the codes themselves


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """One state of the catalogue.

    Attributes:
        codes: on the device; those beyond the checker's N belong to later states.
        checker: knows N.
        alive: bool (N,), False for retired items, and the same as bits on the device; None if all are alive.
    """

    codes: Codes
    checker: CallChecker
    alive: npt.NDArray[np.bool_] | None = None
    eligible: Memory | None = None


class CudaScorer:
    """Keeps the codes on a GPU and scores every item there; see `GrowingScorer`.

    A search works on the snapshot that it found. Appended codes are written behind those that any snapshot
    reads, or, when there is no room, together with all others into new memory.
    """

    backend = "cuda"

    def __init__(
        self,
        item_codes: npt.NDArray[np.uint8],
        device: Device,
        *,
        num_sub_ids: int | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        """Copy the catalogue to the device and compile the kernels.

        Args:
            item_codes: uint8 (N, M).
            device: where to search.
            num_sub_ids: V, if codes beyond it are to be refused.
            tuning: sizes, for tests and measurements.

        Raises:
            BackendUnavailableError: the device has no room, or the kernels cannot run there.
            ScoringError: the codes are not acceptable.
        """
        checker = check_codes(item_codes, num_sub_ids)
        num_words = -(-checker.num_splits // 4)
        choose_shape(1, num_words, num_sub_ids or checker.max_sub_id + 1, device.shared_bytes)
        self._device, self._tuning = device, tuning or Tuning()
        device.activate()
        device.kernels(num_words)
        self._workspaces = Workspaces(device, self._tuning.searches)
        self._writer = threading.Lock()
        self._queue = device.queue()  # of the writer
        codes = Codes(device.allocate(checker.num_items * num_words * 4), num_words)
        self._upload(codes, 0, item_codes)
        self._snapshot = _Snapshot(codes, checker)

    @property
    def num_items(self) -> int:
        """N, retired items included."""
        return self._snapshot.checker.num_items

    @property
    def device(self) -> Device:
        """Where it searches."""
        return self._device

    def top_k(
        self,
        score_tables: ScoreTables,
        k: int,
        *,
        exclude: RowFilter | None = None,
        allow: RowFilter | npt.NDArray[np.bool_] | None = None,
    ) -> list[TopK]:
        """See `Scorer.top_k`."""
        snapshot = self._snapshot
        call = snapshot.checker.check_on_device(score_tables, k, exclude, allow)
        self._device.activate()
        eligible = _eligible(call, snapshot)
        best: dict[int, TopK] = {}
        for chunk, rows in chunks_of(call, eligible, self._tuning):
            with self._workspaces.borrow() as workspace:
                search = Search(
                    self._device, workspace, snapshot.codes, call.num_items, call.k, rows, self._tuning
                )
                best.update(zip(chunk, search.run(chunk), strict=True))
        return [best[row] for row in range(len(call.score_tables))]

    def append(self, item_codes: npt.NDArray[np.uint8]) -> ItemIndices:
        """See `GrowingScorer.append`."""
        self._device.activate()
        with self._writer:
            before = self._snapshot
            first, checker = before.checker.num_items, before.checker.extended(item_codes)
            if len(item_codes):
                codes = self._with_room(before.codes, first, checker.num_items)
                self._upload(codes, first, item_codes)
                grown = replace(before, codes=codes, checker=checker)
                if before.alive is not None:
                    alive = np.pad(before.alive, (0, len(item_codes)), constant_values=True)
                    grown = self._with_alive(grown, alive)
                self._snapshot = grown
            return np.arange(first, checker.num_items, dtype=np.int32)

    def retire(self, items: ItemIndices) -> None:
        """See `GrowingScorer.retire`."""
        self._device.activate()
        with self._writer:
            before = self._snapshot
            check_item_indices("items", items, before.checker.num_items)
            if len(items):
                num_items = before.checker.num_items
                alive = np.ones(num_items, np.bool_) if before.alive is None else before.alive.copy()
                alive[items] = False
                self._snapshot = self._with_alive(before, alive)

    def _with_room(self, codes: Codes, num_items: int, wanted: int) -> Codes:
        """Return memory with these items and room for more; a half more, so that growing costs little."""
        item_bytes = codes.num_words * 4
        if wanted * item_bytes <= codes.memory.size_bytes:
            return codes
        memory = self._device.allocate(max(wanted, num_items + num_items // 2) * item_bytes)
        self._queue.copy(codes.memory, memory, num_items * item_bytes)
        self._queue.wait()
        return Codes(memory, codes.num_words)

    def _upload(self, codes: Codes, first: int, item_codes: npt.NDArray[np.uint8]) -> None:
        item_bytes = codes.num_words * 4
        step = max(1, UPLOAD_BYTES // item_bytes)
        for start in range(0, len(item_codes), step):
            packed = pack_codes(item_codes[start : start + step], codes.num_words)
            _write(self._queue, codes.memory, (first + start) * item_bytes, packed)

    def _with_alive(self, snapshot: _Snapshot, alive: npt.NDArray[np.bool_]) -> _Snapshot:
        bits = pack_bits(alive)
        eligible = self._device.allocate(len(bits))
        _write(self._queue, eligible, 0, bits)
        return replace(snapshot, alive=alive, eligible=eligible)


def _write(queue: Queue, target: Memory, offset: int, source: npt.NDArray[np.uint8]) -> None:
    queue.write(target, offset, source)
    queue.wait()


def _eligible(call: Call[ScoreTables], snapshot: _Snapshot) -> npt.NDArray[np.uint8] | Memory | None:
    """Return what is eligible for all rows, as bits."""
    if call.bitmap is None:
        return snapshot.eligible
    return pack_bits(call.bitmap if snapshot.alive is None else call.bitmap & snapshot.alive)
