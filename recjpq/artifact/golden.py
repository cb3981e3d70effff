"""Golden histories: recorded answers that a loaded model must give again before it serves."""

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from recjpq.errors import ArtifactGoldenError, ArtifactShapeError
from recjpq.scoring import Scorer

Encode = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.int64]], npt.NDArray[np.float32]]
"""``encode(item_codes (B, L, M) uint8, lengths (B,) int64) -> score_tables (B, M, V) float32``."""

TABLE_TOLERANCE = 1e-3
"""Largest difference of a score table entry, as a share of the largest entry: processors and ONNX Runtime
releases round differently, a wrong graph differs by far more."""


@dataclass(frozen=True, slots=True)
class Golden:
    """G histories with what the exported model made of them.

    Attributes:
        histories: item indices, left-aligned, zero beyond each length, int32 (G, L).
        lengths: int64 (G,).
        score_tables: float32 (G, M, V).
        top_ids: item indices, best first, int32 (G, K). top_scores: float32 (G, K).
    """

    histories: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    score_tables: npt.NDArray[np.float32]
    top_ids: npt.NDArray[np.int32]
    top_scores: npt.NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write a `.npz` without pickle."""
        np.savez(
            path, allow_pickle=False, **{field.name: getattr(self, field.name) for field in fields(self)}
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a `.npz`; raises ArtifactShapeError when an array is missing or has the wrong form."""
        wanted = {"histories": (np.int32, 2), "lengths": (np.int64, 1), "score_tables": (np.float32, 3),
                  "top_ids": (np.int32, 2), "top_scores": (np.float32, 2)}  # fmt: skip
        try:
            # Opened here, for NumPy leaves a file open that is no archive.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                golden = {name: arrays[name] for name in wanted}
        except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ArtifactShapeError(f"{path}: not the golden arrays of schema 1 ({error})") from error
        for name, (dtype, ndim) in wanted.items():
            if golden[name].dtype != dtype or golden[name].ndim != ndim:
                raise ArtifactShapeError(
                    f"{path}: {name} is {golden[name].dtype} {golden[name].shape}, "
                    f"expected {np.dtype(dtype)} of {ndim} dimensions"
                )
        return cls(**golden)


def replay(golden: Golden, item_codes: npt.NDArray[np.uint8], encode: Encode, scorer: Scorer) -> None:
    """Check that an encoder and a scorer still give the recorded answers.

    Raises:
        ArtifactGoldenError: the recorded tables are not finite, the encoder's differ from them by more than
            the tolerance, or the top-k of the recorded ones is not the recorded top-k, bit for bit.
    """
    if not np.isfinite(golden.score_tables).all():
        raise ArtifactGoldenError(
            "golden replay: the recorded score tables hold NaN or infinity, expected finite scores; "
            "export the model again"
        )
    tables = encode(item_codes[golden.histories], golden.lengths)  # (G, M, V)
    if tables.shape != golden.score_tables.shape or tables.dtype != np.float32:
        raise ArtifactGoldenError(
            f"golden replay: the encoder gave tables of {tables.dtype} {tables.shape}, "
            f"expected float32 {golden.score_tables.shape}"
        )
    difference = float(np.abs(tables - golden.score_tables).max())
    allowed = TABLE_TOLERANCE * float(np.abs(golden.score_tables).max())
    if not difference <= allowed:  # also true for NaN
        raise ArtifactGoldenError(
            f"golden replay: score tables differ by {difference:.3g}, expected at most {allowed:.3g}; "
            "the encoder does not compute what was exported: export again, or try another execution provider"
        )
    top_k = golden.top_ids.shape[1]
    for row, best in enumerate(scorer.top_k(golden.score_tables, top_k)):
        ids, scores = golden.top_ids[row], golden.top_scores[row]
        if not (np.array_equal(best.ids, ids) and np.array_equal(best.scores, scores)):
            raise ArtifactGoldenError(
                f"golden replay: history {row} gave items {best.ids.tolist()} from scorer "
                f"{scorer.backend!r}, expected {ids.tolist()}; the codes or the scorer are not those exported"
            )
