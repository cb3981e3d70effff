"""The stage `export`: a trained model as a checked artifact."""

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pyarrow.parquet as pq
import torch

from recjpq.artifact import Golden, ModelDescription, replay, write_artifact
from recjpq.scoring import load_scorer
from training.backbone import Backbone
from training.config import Config
from training.dataset import ITEM_TABLE, Dataset
from training.embedding import RecJPQEmbedding
from training.encoder_graph import TOLERANCE, encoder_graph, onnx_encoder
from training.errors import ExportError
from training.recommender_graph import recommender_graph

GOLDEN_HISTORIES = 8
GOLDEN_K = 10
LIBRARIES = ("recjpq", "numpy", "torch", "onnx", "onnxruntime")


def export(
    config: Config,
    model: Backbone,
    dataset: Dataset,
    metrics: Mapping[str, Any],
    artifacts: Path,
    version: str | None = None,
) -> Path:
    """Write `artifacts/<version>` (the UTC time by default) and return its path.

    Raises:
        ExportError: the model has a full item table; or a graph, run by ONNX Runtime, does not give what
            PyTorch and the scorer give.
        ArtifactExistsError: the version is there already.
    """
    if not isinstance(model.embedding, RecJPQEmbedding):
        raise ExportError(
            "model.item_embedding is 'full', expected 'recjpq': an artifact holds codes and an encoder of "
            "score tables; a full item table can be trained and evaluated, to compare with, and not be served"
        )
    now = datetime.now(UTC)
    item_codes = model.embedding.item_codes.cpu().numpy()
    encoder = encoder_graph(model.cpu())
    recommender = recommender_graph(encoder, item_codes, config.model.max_length)
    golden = _golden(model, item_codes, config.run.seed)
    check_recommender(recommender, golden)
    description = ModelDescription(
        name=config.run.name,
        version=version or now.strftime("%Y%m%dT%H%M%SZ"),
        created_at=now.isoformat(timespec="seconds"),
        backbone=config.model.backbone,
        num_items=len(item_codes),
        max_length=config.model.max_length,
        num_splits=item_codes.shape[1],
        num_sub_ids=config.codes.num_sub_ids,
        dim=config.model.dim,
        training_config=config.model_dump(mode="json"),
        data=dataset.summary,
        metrics=metrics,
        libraries={"python": platform.python_version()}
        | {n: importlib.metadata.version(n) for n in LIBRARIES},
        git_revision=_git_revision(),
    )
    replay(golden, item_codes, onnx_encoder(encoder.SerializeToString()), load_scorer(item_codes))
    return write_artifact(
        artifacts,
        description,
        encoder=encoder.SerializeToString(),
        recommender=recommender.SerializeToString(),
        item_codes=item_codes,
        items=pq.read_table(dataset.path / ITEM_TABLE),
        golden=golden,
        sub_embeddings=model.embedding.sub_embeddings.detach().cpu().numpy(),
    )


def check_beats_popularity(report: Mapping[str, Any], *, force: bool) -> bool:
    """Raise ExportError unless the model beats popularity on the test cases; return whether force did it."""
    metric = report["headline"]
    model, popularity = report["model"][metric], report["popularity"][metric]
    if model > popularity or force:
        return bool(model <= popularity)
    raise ExportError(
        f"the model's {metric.upper()} on the test cases is {model:.4f}, that of popularity "
        f"{popularity:.4f}: "
        "expected more than popularity of a model that is to be served; train longer or with other settings "
        "(report.html shows where it falls behind), or pass --force to export it all the same"
    )


def check_recommender(recommender: onnx.ModelProto, golden: Golden) -> None:
    """Raise ExportError unless the one-graph recommender gives the golden histories' top-k.

    Scores must agree within the tolerance, and a differing item is allowed only where its score ties.
    """
    session = onnxruntime.InferenceSession(
        recommender.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    ids, scores = session.run(
        ["top_items", "top_scores"],
        {
            "items": golden.histories.astype(np.int64),
            "lengths": golden.lengths,
            "k": np.array([golden.top_ids.shape[1]], dtype=np.int64),
            "exclude_seen": np.array(False),
        },
    )
    allowed = TOLERANCE * golden.top_ids.shape[1] * max(1.0, float(np.abs(golden.score_tables).max()))
    difference = float(np.abs(scores - golden.top_scores).max())
    if not difference <= allowed:
        raise ExportError(
            f"recommender.onnx scores differ by {difference:.3g}, expected at most {allowed:.3g}"
        )
    for row, (found, expected) in enumerate(zip(ids, golden.top_ids, strict=True)):
        ties = -np.diff(golden.top_scores[row]) <= 2 * allowed  # of each item with the next
        tied = np.append(ties, True) | np.append(False, ties)  # the last may tie with what comes after it
        differing = found != expected
        if (differing & ~tied).any():
            raise ExportError(
                f"recommender.onnx gives items {found.tolist()} for golden history {row}, "
                f"expected {expected.tolist()}"
            )


def _golden(model: Backbone, item_codes: npt.NDArray[np.uint8], seed: int) -> Golden:
    """Record what the model makes of made-up histories, short and long: no user's data leaves training."""
    rng = np.random.default_rng([seed, 0x601D])
    longest = model.config.max_length
    lengths = np.unique(np.geomspace(1, longest, GOLDEN_HISTORIES).astype(np.int64))
    histories = rng.integers(0, len(item_codes), size=(len(lengths), longest), dtype=np.int32)
    histories[np.arange(longest) >= lengths[:, None]] = 0
    with torch.inference_mode():
        codes = torch.from_numpy(item_codes[histories])
        tables: npt.NDArray[np.float32] = model.encode(codes, torch.from_numpy(lengths)).numpy()
    best = load_scorer(item_codes, "numpy").top_k(tables, min(GOLDEN_K, len(item_codes)))
    return Golden(
        histories,
        lengths,
        tables,
        np.stack([row.ids for row in best]),
        np.stack([row.scores for row in best]),
    )


def _git_revision() -> str | None:
    root = Path(__file__).parent.parent
    if not (
        root / ".git"
    ).exists():  # installed from a wheel: the revision of what surrounds it would mislead
        return None
    try:
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (
        OSError,
        subprocess.CalledProcessError,
    ):  # no git on this machine, or a repository without commits
        return None
