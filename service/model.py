"""A model that is ready to serve: its artifact checked, its answers replayed, its memory warm."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recjpq.artifact import ModelDescription, load_artifact, replay
from recjpq.growing_catalogue import GrowingCatalogue
from recjpq.scoring import GrowingScorer, load_scorer
from recjpq.similar import SubEmbeddingSimilarity
from service.encoder import Encoder, OnnxEncoder
from service.settings import Settings


@dataclass(frozen=True, eq=False)
class Model:
    """What one version needs to answer, shared by all threads; only items are added to it, or retired.

    Attributes:
        sub_embeddings: float32 (M, V, W), what items are compared by; None if the artifact has none.
    """

    description: ModelDescription
    catalogue: GrowingCatalogue
    encoder: Encoder
    scorer: GrowingScorer
    sub_embeddings: npt.NDArray[np.float32] | None = None

    @cached_property
    def similarity(self) -> SubEmbeddingSimilarity | None:
        """How items are compared, or None."""
        return None if self.sub_embeddings is None else SubEmbeddingSimilarity(self.sub_embeddings)


def load_model(settings: Settings, path: Path) -> Model:
    """Load, verify and warm the artifact at a path.

    Raises:
        RecJPQError: the artifact must not be served, or the scorer cannot run here.
        RuntimeUnavailableError: the encoder cannot run here.
    """
    artifact = load_artifact(path)
    description, item_codes = artifact.manifest.model, artifact.catalogue.item_codes
    encoder = OnnxEncoder.open(artifact.encoder_path, description, settings.device, settings.encoder_threads)
    # Unless a scorer is named, it runs where the encoder was told to.
    backend = settings.device if settings.scorer == "auto" else settings.scorer
    scorer = load_scorer(item_codes, backend, num_sub_ids=description.num_sub_ids)
    replay(artifact.golden, item_codes, encoder.encode, scorer)
    catalogue = GrowingCatalogue(artifact.catalogue)
    model = Model(description, catalogue, encoder, scorer, artifact.sub_embeddings)
    _warm_up(model)
    return model


def _warm_up(model: Model) -> None:
    """Make what the first requests would otherwise wait for: the runtime's memory, pages, popularity."""
    for length in {1, model.description.max_length}:
        item_codes = model.catalogue.item_codes[np.zeros((1, length), dtype=np.int32)]  # (1, L, M)
        score_tables = model.encoder.encode(item_codes, np.array([length], dtype=np.int64))
        model.scorer.top_k(score_tables, 10)
    model.catalogue.most_popular(1)
