"""The training configuration: one TOML file, checked before any work starts."""

import tomllib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.errors import ConfigError

PositiveInt = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0.0, lt=1.0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RunConfig(_Section):
    """Where the run lives, what it is called, and its seed."""

    directory: Path = Field(description="every stage writes below it")
    name: str = Field(min_length=1, description="the model's name in its artifact")
    seed: int = Field(0, ge=0, lt=2**31, description="of codes, initialisation, batches, negatives, dropout")
    threads: int = Field(0, ge=0, description="CPU threads of PyTorch; 0 leaves PyTorch's own choice")
    tensorboard: bool = Field(False, description="write training curves to tensorboard/")
    mlflow: str | None = Field(None, description="MLflow's tracking URI: its server, or sqlite:///FILE")
    track_steps: PositiveInt = Field(20, description="steps between points of the curves")


class DataConfig(_Section):
    """The interaction log and, if there is one, the items' metadata."""

    interactions: Path = Field(description="CSV or Parquet file, one row per interaction")
    user_column: str = "user_id"
    item_column: str = "item_id"
    time_column: str | None = Field(
        None, description="orders a user's rows; without it the file's order does"
    )
    time_format: str | None = Field(
        None,
        min_length=1,
        description="how to read times that are neither numbers nor ISO 8601, such as %d/%m/%Y %H:%M",
    )
    metadata: Path | None = Field(None, description="CSV or Parquet file, one row per item")
    metadata_item_column: str = "item_id"
    list_columns: tuple[str, ...] = Field((), description="metadata columns whose text is a list of values")
    list_separator: str = Field(
        "|", min_length=1, description="what stands between the values of such a list"
    )


class SplitConfig(_Section):
    """Which interactions train and which test."""

    method: Literal["leave_one_out", "temporal"] = "leave_one_out"
    test_share: float = Field(
        0.1, gt=0.0, lt=1.0, description="temporal: share of the interactions that is at or after T"
    )
    test_from: int | datetime | None = Field(
        None, description="temporal: T itself, in place of the share: a date, or an integer as in times.npy"
    )


class CodesConfig(_Section):
    """How items are split into codes (RecJPQ, WSDM 2024, section 4)."""

    method: Literal["svd", "bpr", "graph", "pq", "qr", "random"] = "svd"
    num_splits: int = Field(8, ge=1, le=64, description="M, codes per item")
    num_sub_ids: int = Field(256, ge=2, le=256, description="V, sub-ids per split")
    weights: Literal["binary", "counts"] = Field("binary", description="SVD of 0/1 or of interaction counts")
    balance: Literal["interactions", "items"] = Field(
        "interactions", description="what a quantile of svd and bpr holds a V-th of; items, as published"
    )
    unique: bool = Field(False, description="no two items share all M codes")
    pq_norm_power: float = Field(1.0, ge=0.0, le=1.0, description="below 1, rare items get finer codes (pq)")
    bpr_iterations: PositiveInt = Field(15, description="passes of BPR over the interactions")


class ModelConfig(_Section):
    """The backbone and its sizes."""

    backbone: Literal["bert4rec", "gru4rec", "sasrec"] = "sasrec"
    item_embedding: Literal["full", "recjpq"] = Field(
        "recjpq", description="sub-embeddings named by codes, or one embedding per item, to compare with"
    )
    dim: PositiveInt = Field(
        128, description="D, width of an item embedding; a multiple of heads, and of M unless additive"
    )
    composition: Literal["concatenated", "additive"] = Field(
        "additive",
        description="an item is M sub-embeddings of width D added up, or M of width D/M end to end",
    )
    max_length: PositiveInt = Field(200, description="L, items of history that the model sees")
    num_blocks: PositiveInt = Field(2, description="Transformer blocks, or GRU layers")
    num_heads: PositiveInt = 1
    ffn_dim: PositiveInt | None = Field(None, description="width of the feed-forward layer; D by default")
    relative_positions: bool = Field(
        True, description="attention also weighs items by their distance (sasrec, bert4rec)"
    )
    dropout: Probability = 0.2
    mask_probability: Probability = Field(0.2, description="of each item of a sequence (bert4rec)")
    mask_last_probability: Probability = Field(
        0.1, description="of masking only a sequence's last item, as when serving (bert4rec)"
    )


class TrainConfig(_Section):
    """The loss and the optimisation."""

    loss: Literal["bce", "gbce", "sampled_softmax", "softmax"] = "softmax"
    negatives: PositiveInt | None = Field(
        None, description="gbce: for each position, 256 by default; sampled_softmax: for a whole batch, 8192"
    )
    popular_negatives: float = Field(
        0.5, ge=0.0, lt=1.0, description="share drawn by popularity, the rest uniformly (sampled_softmax)"
    )
    gbce_t: float = Field(0.75, ge=0.0, le=1.0, description="calibration: 0 is BCE, 1 fully calibrated")
    batch_size: PositiveInt = Field(128, description="sequences per step")
    learning_rate: float = Field(1e-3, gt=0.0)
    warmup_steps: int = Field(100, ge=0)
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="of the learning rate after warm-up; cosine: falls to 0 at max_epochs"
    )
    windows: Literal["last", "all"] = Field(
        "last", description="of a sequence longer than L: its end, or all of it, cut at random places"
    )
    weight_decay: float = Field(0.0, ge=0.0)
    gradient_clip: float = Field(1.0, gt=0.0, description="largest norm of the gradient")
    max_epochs: PositiveInt = 100
    select: Literal["best", "last"] = Field(
        "best", description="whose weights are kept: of the best validation, or of the last epoch"
    )
    patience: PositiveInt = Field(
        10, description="epochs without a better validation NDCG@10 before stopping"
    )
    validation_users: int = Field(512, ge=1, description="users whose last training item validates")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the backbone's matrix products; auto: bfloat16 on a GPU that has it"
    )
    checkpoint_minutes: float = Field(5.0, gt=0.0, description="longest time between checkpoints")


class EvaluationConfig(_Section):
    """How the model is measured."""

    ks: tuple[PositiveInt, ...] = Field((1, 5, 10, 20, 100), min_length=1)
    exclude_seen: bool = Field(True, description="items of the history are not candidates")
    batch_size: PositiveInt = 256


class Config(_Section):
    """The whole configuration file."""

    run: RunConfig
    data: DataConfig
    split: SplitConfig = SplitConfig()
    codes: CodesConfig = CodesConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        whole = self.model.composition == "additive" and self.codes.method != "pq"
        parts = 1 if whole else self.codes.num_splits
        for name, divisor in (("codes.num_splits", parts), ("model.num_heads", self.model.num_heads)):
            if self.model.dim % divisor:
                raise ValueError(
                    f"model.dim is {self.model.dim}, expected a multiple of {name}, which is {divisor}"
                )
        return self

    @model_validator(mode="after")
    def _times_are_there(self) -> Self:
        if self.split.method == "temporal" and self.data.time_column is None:
            raise ValueError(
                "split.method is 'temporal', which needs the time of every interaction: "
                "set data.time_column, or choose leave_one_out"
            )
        return self

    @model_validator(mode="after")
    def _format_is_of_times(self) -> Self:
        if self.data.time_format is not None and self.data.time_column is None:
            raise ValueError(
                f"data.time_format is {self.data.time_format!r}, the form of data.time_column: set that too"
            )
        return self

    @model_validator(mode="after")
    def _lists_are_of_metadata(self) -> Self:
        if self.data.list_columns and self.data.metadata is None:
            raise ValueError(
                f"data.list_columns is {list(self.data.list_columns)}, columns of the items' metadata: set "
                "data.metadata as well"
            )
        if (key := self.data.metadata_item_column) in self.data.list_columns:
            raise ValueError(f"data.list_columns has {key!r}, the column of the items' ids, expected others")
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a TOML file, apply overrides such as `train.loss=gbce`, and check every value.

    Raises:
        ConfigError: the file cannot be read or is not TOML, or a key or value is wrong; the message
            names key, value and what was expected.
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML ({error})") from error
    for override in overrides:
        _override(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(_explain(e) for e in error.errors())) from error


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    section, dot, name = key.partition(".")
    if not (equals and dot and section and name) or not isinstance(values.setdefault(section, {}), dict):
        raise ConfigError(f"override {override!r}: expected SECTION.KEY=VALUE, such as train.loss=gbce")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:  # a bare word, such as a path or the name of a choice
        value = text
    values[section][name] = value


def _explain(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if not key:
        return message
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "extra_forbidden":
        section = Config.model_fields.get(str(error["loc"][0]))
        inner = getattr(section.annotation, "model_fields", {}) if section else {}
        return f"{key} is not a setting; expected one of {', '.join(inner or Config.model_fields)}"
    if error["type"] == "tuple_type":
        return f"{key} is {error['input']!r}: expected a list, such as [{error['input']!r}]"
    return f"{key} is {error['input']!r}: {message[0].lower()}{message[1:]}"
