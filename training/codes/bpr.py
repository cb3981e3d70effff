"""Codes from Bayesian personalised ranking (Rendle et al., UAI 2009)."""

import sys

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from implicit.cpu.bpr import BayesianPersonalizedRanking

from training.codes.matrix import item_mass
from training.codes.quantile import quantile_codes
from training.config import CodesConfig

LEARNING_RATE = 0.05
REGULARISATION = 0.01


def bpr_codes(config: CodesConfig, matrix: sp.csr_array, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Quantile codes of BPR item vectors with M components (RecJPQ, WSDM 2024, section 4.3).

    The items' biases are left out: they are popularity, and no component. One thread, because
    `implicit` updates without locks, so that more threads give other codes each time.
    """
    model = BayesianPersonalizedRanking(
        factors=config.num_splits,
        iterations=config.bpr_iterations,
        learning_rate=LEARNING_RATE,
        regularization=REGULARISATION,
        num_threads=1,
        random_state=int(rng.integers(2**31)),
    )
    model.fit(sp.csr_matrix(matrix), show_progress=sys.stderr.isatty())
    return quantile_codes(
        model.item_factors[:, : config.num_splits], config.num_sub_ids, rng, item_mass(config, matrix)
    )
