"""Models by name: a backbone over an item embedding."""

import numpy as np
import numpy.typing as npt
import torch

from training.backbone import Backbone
from training.bert4rec import BERT4Rec
from training.config import Config
from training.embedding import FullEmbedding, ItemEmbedding, RecJPQEmbedding
from training.gru4rec import GRU4Rec
from training.sasrec import SASRec

BACKBONES: dict[str, type[Backbone]] = {"bert4rec": BERT4Rec, "gru4rec": GRU4Rec, "sasrec": SASRec}


def make_model(
    config: Config,
    item_codes: npt.NDArray[np.uint8] | int,
    sub_embeddings: npt.NDArray[np.float32] | None = None,
) -> Backbone:
    """Return the configured model, its weights drawn from PyTorch's generator.

    Args:
        config: names backbone, sizes and item embedding.
        item_codes: uint8 (N, M); for a full item table, which has none, N.
        sub_embeddings: what RecJPQ's begin from in place of drawn ones, float32 (M, V, D/M).
    """
    return BACKBONES[config.model.backbone](config.model, _embedding(config, item_codes, sub_embeddings))


def _embedding(
    config: Config,
    item_codes: npt.NDArray[np.uint8] | int,
    sub_embeddings: npt.NDArray[np.float32] | None,
) -> ItemEmbedding:
    if isinstance(item_codes, int):
        return FullEmbedding(item_codes, config.model.dim)
    embedding = RecJPQEmbedding(
        torch.from_numpy(item_codes.copy()),
        config.codes.num_sub_ids,
        config.model.dim,
        additive=config.model.composition == "additive",
    )
    if sub_embeddings is not None:
        embedding.begin_from(torch.from_numpy(sub_embeddings))
    return embedding
