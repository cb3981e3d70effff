"""The stage `codes`: every item split into M one-byte codes, before any training."""

from training.codes.matrix import interaction_matrix
from training.codes.quantile import quantile_codes
from training.codes.stage import Codes, codes_made_from, make_codes

__all__ = ["Codes", "codes_made_from", "interaction_matrix", "make_codes", "quantile_codes"]
