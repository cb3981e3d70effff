"""The stage `codes`: every item split into M one-byte codes, before any training."""

from training.codes.matrix import interaction_matrix
from training.codes.quantile import quantile_codes
from training.codes.stage import Codes, make_codes

__all__ = ["Codes", "interaction_matrix", "make_codes", "quantile_codes"]
