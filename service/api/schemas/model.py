"""The JSON of the served model and of the probes."""

from typing import Any, Literal

from pydantic import (
    Field,
)

from service.api.schemas.base import Answer


class Sizes(Answer):
    """A model's sizes, under the names of the artifact's manifest."""

    num_items: int
    max_length: int
    num_splits: int
    num_sub_ids: int
    dim: int


class Limits(Answer):
    """What a request may ask for."""

    max_k: int
    max_history: int
    max_exclude: int
    max_candidates: int
    max_filter_values: int
    max_batch: int
    max_timeout_ms: int
    max_new_items: int
    max_events: int
    max_found_items: int
    max_body_bytes: int
    max_id_length: int


class ServedModel(Answer):
    """A served model."""

    name: str
    version: str
    created_at: str
    backbone: str
    sizes: Sizes = Field(description="As the model was exported")
    added_items: int = Field(description="Items added since, while serving")
    retired_items: int = Field(description="Items that are recommended no more")
    metrics: dict[str, Any] = Field(description="Offline metrics with the protocol they were measured under")
    providers: list[str] = Field(description="ONNX Runtime's execution providers, the one in use first")
    scorer: str


class ChallengerModel(ServedModel):
    """The model that serves a share of the users."""

    share: float


class ModelResponse(ServedModel):
    """The served models, the champion first, and the limits of requests."""

    limits: Limits
    challenger: ChallengerModel | None
    previous: str | None = Field(description="The version that a rollback brings back")


class Status(Answer):
    """The answer of a probe."""

    status: Literal["alive", "ready", "started"]
