"""Exact top-k over a catalogue of codes: one contract, several back-ends."""

from recjpq.scoring.load import load_scorer
from recjpq.scoring.protocol import GrowingScorer, ItemIndices, RowFilter, Scorer, TopK

__all__ = ["GrowingScorer", "ItemIndices", "RowFilter", "Scorer", "TopK", "load_scorer"]
