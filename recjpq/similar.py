"""Items like an item, by what training learnt of their codes."""

import numpy as np
import numpy.typing as npt


class SubEmbeddingSimilarity:
    """Similarity of two items: the mean over splits of the cosine of their sub-embeddings.

    As a sum over splits of a number that depends on one sub-id, it has the form of a score table, so that the
    ordinary exact scorer finds the most similar items. 1 for an item with the same codes, at least -1.
    """

    def __init__(self, sub_embeddings: npt.NDArray[np.float32]) -> None:
        """Take the sub-embeddings, float32 (M, V, W); those of length zero are like nothing."""
        norms = np.linalg.norm(sub_embeddings, axis=2, keepdims=True)  # (M, V, 1)
        self._directions: npt.NDArray[np.floating] = sub_embeddings / np.where(norms > 0, norms, 1)

    def score_table(self, item_codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the table of similarities to an item of codes (M,), float32 (1, M, V)."""
        num_splits = len(self._directions)
        own = self._directions[np.arange(num_splits), item_codes]  # (M, W)
        cosines = np.einsum("mvw,mw->mv", self._directions, own)  # (M, V)
        table: npt.NDArray[np.float32] = (cosines / num_splits).astype(np.float32)[None]
        return table
