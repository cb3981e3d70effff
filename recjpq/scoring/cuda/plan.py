"""How one call is cut into launches: chunks of rows, the shape of a pass, rounds, and where things stand."""

from dataclasses import dataclass
from math import gcd

import numpy as np
import numpy.typing as npt

from recjpq.errors import BackendUnavailableError

TILE_ITEMS = 128  # kTileItems of kernels.cu
WARP = 32
ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class Tuning:
    """Sizes that change the time of a search, never its answer.

    Attributes:
        threads: of a block that collects, prepares or finishes.
        scan_threads: of a block that scans; a multiple of 32, at most 1,024.
        spare: how many candidates a row keeps beyond 32 k; and so the least that it samples first.
        growth: how many times more items each round scans than the one before.
        searches: how many may be on the device at once; others wait.
        chunk_rows, chunk_bytes: most rows, and most memory of their candidates, in one search; one row may
            take more.
    """

    threads: int = 512
    scan_threads: int = 1024
    spare: int = 4096
    growth: int = 16
    searches: int = 4
    chunk_rows: int = 256
    chunk_bytes: int = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Shape:
    """How the rows of one pass lie in a block's shared memory.

    Attributes:
        per_thread: words of rounded deficits that a thread adds up at once, 1 or 4.
        group_shift: log2 of the threads that share one item.
        copies: of the deficits, so that threads with other items do not wait for the same bank.
        rows: how many rows that makes.
        shared_bytes: how much it takes.
    """

    per_thread: int
    group_shift: int
    copies: int
    rows: int
    shared_bytes: int

    @property
    def image_bytes(self) -> int:
        """One pass's deficits, without the copies."""
        return self.shared_bytes // self.copies


def choose_shape(num_rows: int, num_words: int, num_sub_ids: int, shared_bytes: int) -> Shape:
    """Return the pass with the fewest readings of the codes that fits into shared memory.

    Raises:
        BackendUnavailableError: not even the smallest fits.
    """
    rows_per_word = 4 if num_words <= 2 else 2
    entry_bytes = num_words * num_sub_ids * 4 * 4  # of all splits, for one word of each
    per_thread = 4 if num_rows > 4 * rows_per_word and 4 * entry_bytes <= shared_bytes else 1
    if entry_bytes > shared_bytes:
        raise BackendUnavailableError(
            f"backend 'cuda': found {shared_bytes} bytes of shared memory for a block, expected at least "
            f"{entry_bytes} for {4 * num_words} splits of {num_sub_ids}; use 'cpu' or 'auto'"
        )
    words = max(1, -(-num_rows // (per_thread * rows_per_word)))
    shift = min((words - 1).bit_length(), WARP.bit_length() - 1)
    while (entry_bytes * per_thread << shift) > shared_bytes:
        shift -= 1
    copies = max(1, 8 // per_thread >> shift)
    while (entry_bytes * per_thread << shift) * copies > shared_bytes:
        copies //= 2
    rows = (per_thread << shift) * rows_per_word
    return Shape(per_thread, shift, copies, rows, (entry_bytes * per_thread << shift) * copies)


def tile_step(num_tiles: int) -> int:
    """Return a step that visits every tile once and the first few spread over all (the golden ratio)."""
    step = max(1, round(num_tiles * 0.6180339887498949))
    while gcd(step, num_tiles) != 1:
        step += 1
    return step


def round_sizes(num_items: int, collected: int, growth: int) -> list[int]:
    """Return how many items each scan visits: ever more, at last all; nothing if all were collected.

    A round finds about `growth` times k candidates, as the one before tells which score k of its items reach.
    """
    sizes: list[int] = []
    if collected < num_items:
        size = collected * growth
        while size < num_items:
            sizes.append(size)
            size *= growth
        sizes.append(num_items)
    return sizes


class Layout:
    """Where arrays stand in one piece of memory, each at a multiple of 256 bytes."""

    def __init__(self) -> None:
        self.size_bytes = 0

    def place(self, size_bytes: int) -> int:
        """Reserve so much and return its offset."""
        offset = self.size_bytes
        self.size_bytes += -(-size_bytes // ALIGNMENT) * ALIGNMENT
        return offset


def pack_codes(item_codes: npt.NDArray[np.uint8], num_words: int) -> npt.NDArray[np.uint8]:
    """Return codes (n, M) as (n, 4 * num_words), zero beyond the last split."""
    if item_codes.shape[1] == 4 * num_words:
        return np.ascontiguousarray(item_codes)
    packed = np.zeros((len(item_codes), 4 * num_words), dtype=np.uint8)
    packed[:, : item_codes.shape[1]] = item_codes
    return packed


def pack_bits(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return a bit for each flag, the first in the lowest bit, in whole 32-bit words."""
    bits = np.packbits(flags, bitorder="little")
    return np.pad(bits, (0, -len(bits) % 4))


def ranks_to_best(
    ranks: npt.NDArray[np.uint64],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Return the items and scores of ranks (see `rank_of` in kernels.cu), in their shape."""
    ids = (~ranks.astype(np.uint32)).view(np.int32)
    ascending = (ranks >> np.uint64(32)).astype(np.uint32)
    high = np.uint32(0x80000000)
    scores = np.where(ascending & high, ascending ^ high, ~ascending).view(np.float32)
    return ids, scores
