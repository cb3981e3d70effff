"""Types of the compiled module; see training/native."""

import numpy as np
import numpy.typing as npt

def score_softmax(
    tables: npt.NDArray[np.float32],
    candidate_codes: npt.NDArray[np.uint8],
    candidate_ids: npt.NDArray[np.int32],
    candidate_bias: npt.NDArray[np.float32] | None,
    target_codes: npt.NDArray[np.uint8],
    target_ids: npt.NDArray[np.int32],
    losses: npt.NDArray[np.float32],
    gradients: npt.NDArray[np.float32],
    threads: int,
) -> None: ...
def propagate_labels(
    offsets: npt.NDArray[np.int64],
    neighbours: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float32],
    order: npt.NDArray[np.int32],
    node_mass: npt.NDArray[np.float32],
    num_labels: int,
    balance: float,
    labels: npt.NDArray[np.uint8],
) -> int: ...
