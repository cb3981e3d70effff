"""Exact top-k over a catalogue of codes: one contract, several back-ends."""

from recjpq.scoring.load import load_scorer
from recjpq.scoring.protocol import (
    DeviceTables,
    GrowingScorer,
    ItemIndices,
    RowFilter,
    Scorer,
    ScoreTables,
    TopK,
)

__all__ = [
    "DeviceTables",
    "GrowingScorer",
    "ItemIndices",
    "RowFilter",
    "ScoreTables",
    "Scorer",
    "TopK",
    "load_scorer",
]
