"""A model that is ready to serve: its artifact checked, its answers replayed, its memory warm."""

from dataclasses import dataclass

import numpy as np

from recjpq.artifact import ModelDescription, find_artifact, load_artifact, replay
from recjpq.catalogue import Catalogue
from recjpq.scoring import Scorer, load_scorer
from service.encoder import Encoder, OnnxEncoder
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Model:
    """What one version needs to answer; immutable, shared by all threads."""

    description: ModelDescription
    catalogue: Catalogue
    encoder: Encoder
    scorer: Scorer


def load_model(settings: Settings) -> Model:
    """Load, verify and warm the newest artifact at the setting's path.

    Raises:
        RecJPQError: the artifact must not be served, or the scorer cannot run here.
        RuntimeUnavailableError: the encoder cannot run here.
    """
    artifact = load_artifact(find_artifact(settings.model_path))
    description, item_codes = artifact.manifest.model, artifact.catalogue.item_codes
    encoder = OnnxEncoder.open(artifact.encoder_path, description, settings.device, settings.encoder_threads)
    # Unless a scorer is named, it runs where the encoder was told to.
    scorer = load_scorer(item_codes, settings.device if settings.scorer == "auto" else settings.scorer)
    replay(artifact.golden, item_codes, encoder.encode, scorer)
    model = Model(description, artifact.catalogue, encoder, scorer)
    _warm_up(model)
    return model


def _warm_up(model: Model) -> None:
    """Make what the first requests would otherwise wait for: the runtime's memory, pages, popularity."""
    for length in {1, model.description.max_length}:
        item_codes = model.catalogue.item_codes[np.zeros((1, length), dtype=np.int32)]  # (1, L, M)
        score_tables = model.encoder.encode(item_codes, np.array([length], dtype=np.int64))
        model.scorer.top_k(score_tables, 10)
    model.catalogue.most_popular(1)
