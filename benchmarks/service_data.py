"""Artifacts to serve in the benchmark of the service, of any size, and histories of their users.

`trained`: a trained model's own encoder; its most popular items, or all of them and as many more as are
wanted, whose codes are drawn from the real ones and perturbed (`data.resample`). `random`: an encoder that
was never trained over uniform codes, which no bound can prune: the worst case.
"""

import json
import platform
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.data import Codes, encode, resample
from benchmarks.synthetic_log import LogSizes, write_log
from recjpq.artifact import Golden, ModelDescription, find_artifact, load_artifact, write_artifact
from recjpq.scoring import load_scorer

Indices = npt.NDArray[np.int32]
Histories = list[Indices]

NUM_SPLITS, NUM_SUB_IDS = 8, 256
ENCODED, GOLDEN_HISTORIES = 256, 8
STAND_IN = """
[run]
directory = {directory}
name = "stand-in"
seed = 0
[data]
interactions = {log}
time_column = "time"
[model]
dim = 128
max_length = 50
[train]
loss = "sampled_softmax"
negatives = 1024
batch_size = 128
learning_rate = 0.003
max_epochs = {epochs}
select = "last"
validation_users = 200
"""


@dataclass(frozen=True, slots=True)
class Source:
    """Where catalogues come from.

    Attributes:
        kind: `trained` or `random`.
        encoder: the file of the encoder's graph.
        codes: uint8 (N, M), the most popular item first.
        counts: interactions of each, int64 (N,).
        histories: users' item indices, oldest first, at most L of each.
        max_length: L. dim: D. num_sub_ids: V.
    """

    kind: str
    encoder: Path
    codes: Codes
    counts: npt.NDArray[np.int64]
    histories: Histories
    max_length: int
    dim: int
    num_sub_ids: int = NUM_SUB_IDS

    @classmethod
    def trained(cls, path: Path, dataset: Path | None, users: int, seed: int = 0) -> "Source":
        """Take an artifact, and users of the dataset it was trained on; without one, made-up users.

        A made-up user takes items by their popularity alone: such tables are flatter than a real user's.
        """
        artifact = load_artifact(find_artifact(path))
        all_counts = artifact.catalogue.counts.astype(np.int64)
        by_popularity = np.argsort(-all_counts, kind="stable")
        counts = all_counts[by_popularity]
        model = artifact.manifest.model
        longest = model.max_length
        if dataset is None:
            histories = made_up(counts, users, longest, seed)
        else:
            rank = np.empty(len(counts), dtype=np.int32)
            rank[by_popularity] = np.arange(len(counts), dtype=np.int32)
            histories = [rank[history] for history in _users_of(dataset, users, longest, seed)]
        codes = np.array(artifact.catalogue.item_codes[by_popularity])
        return cls(
            "trained", artifact.encoder_path, codes, counts, histories, longest, model.dim, model.num_sub_ids
        )

    @classmethod
    def random(cls, directory: Path, *, dim: int, max_length: int, users: int, seed: int = 0) -> "Source":
        """Draw an encoder's weights; the catalogue is of a million items of uniform codes."""
        rng = np.random.default_rng([seed, dim, max_length])
        codes = rng.integers(0, NUM_SUB_IDS, size=(1_000_000, NUM_SPLITS), dtype=np.uint8)
        encoder = directory / f"untrained-{dim}-{max_length}.onnx"
        if not encoder.exists():
            directory.mkdir(parents=True, exist_ok=True)
            encoder.write_bytes(_untrained(codes[:1000], dim, max_length, seed))
        counts = np.maximum(1, 100_000 / np.arange(1, len(codes) + 1)).astype(np.int64)
        histories = made_up(counts, users, max_length, seed)
        return cls("random", encoder, codes, counts, histories, max_length, dim)


def made_up(counts: npt.NDArray[np.int64], users: int, longest: int, seed: int) -> Histories:
    """Return users of log-normal lengths, the median a third of the longest, with items by their counts."""
    rng = np.random.default_rng([seed, users])
    lengths = np.clip(rng.lognormal(np.log(max(1, longest / 3)), 1.0, size=users).astype(int), 1, longest)
    ends = np.cumsum(counts)
    items = np.searchsorted(ends, rng.integers(0, ends[-1], size=lengths.sum()), side="right")
    return np.split(items.astype(np.int32), np.cumsum(lengths)[:-1])


def of_full_length(source: Source, users: int, seed: int = 0) -> Source:
    """Give a source users whose histories are as long as the model sees."""
    rng = np.random.default_rng([seed, users])
    items = rng.integers(0, len(source.codes), size=(users, source.max_length), dtype=np.int32)
    return replace(source, histories=list(items))


def make_artifact(parent: Path, source: Source, num_items: int, seed: int = 0) -> tuple[Path, Histories]:
    """Write an artifact of `num_items` items, unless it is there; return it, and histories over its items.

    Item i is called `item-0000000i`; what comes after the source's own is as popular as the least of them.
    """
    name = f"{source.kind}-{source.dim}-{source.max_length}"
    histories = [history[history < num_items] for history in source.histories]
    histories = [history for history in histories if history.size]
    if not (parent / name / f"n{num_items}").exists():
        _write(parent / name, source, num_items, histories, seed)
    return parent / name / f"n{num_items}", histories


def item_ids(indices: npt.NDArray[np.integer]) -> list[str]:
    """Return the ids of item indices."""
    return [f"item-{index:08d}" for index in indices.tolist()]


def stand_in(directory: Path, *, quick: bool) -> tuple[Path, Path]:
    """Train a small model on a made-up log, unless it is there; return its artifacts and its dataset."""
    sizes = (
        LogSizes(users=400, items=300, interactions=6_000, topics=10)
        if quick
        else LogSizes(users=30_000, items=50_000, interactions=900_000, topics=500)
    )
    run = directory / ("stand-in-quick" if quick else "stand-in")
    if not (run / "artifacts").exists():
        log, config = run / "log.parquet", run / "config.toml"
        write_log(log, sizes)
        values = {"directory": json.dumps(str(run)), "log": json.dumps(str(log)), "epochs": 1 if quick else 3}
        config.write_text(STAND_IN.format(**values))
        command = [sys.executable, "-m", "training", "all", "--config", str(config), "--force"]
        subprocess.run(command, check=True)
    return run / "artifacts", run / "dataset"


def _write(parent: Path, source: Source, num_items: int, histories: Histories, seed: int) -> None:
    rng = np.random.default_rng([seed, num_items])
    codes, counts = source.codes[:num_items], source.counts[:num_items]
    if more := num_items - len(codes):
        if source.kind == "random":
            added = rng.integers(0, NUM_SUB_IDS, size=(more, codes.shape[1]), dtype=np.uint8)
        else:
            tables = encode(source.encoder, source.codes, source.histories[:ENCODED])
            added = resample(source.codes, tables, more, rng)
        codes = np.concatenate([codes, added])
        counts = np.concatenate([counts, np.full(more, counts[-1])])
    from training.recommender_graph import recommender_graph  # noqa: PLC0415  # needs torch

    encoder = onnx.load(source.encoder)
    numbers = pc.utf8_lpad(pc.cast(pa.array(np.arange(num_items)), pa.string()), 8, "0")
    golden = _golden(source, codes, histories[:GOLDEN_HISTORIES])
    description = ModelDescription(
        name=f"bench-{source.kind}", version=f"n{num_items}", created_at=datetime.now(UTC).isoformat(),
        backbone="sasrec", num_items=num_items, max_length=source.max_length, num_splits=codes.shape[1],
        num_sub_ids=source.num_sub_ids, dim=source.dim, training_config={}, data={}, metrics={},
        libraries={"python": platform.python_version()}, git_revision=None,
    )  # fmt: skip
    write_artifact(
        parent, description, encoder=encoder.SerializeToString(),
        recommender=recommender_graph(encoder, codes, source.max_length).SerializeToString(),
        item_codes=codes,
        items=pa.table({"item_id": pc.binary_join_element_wise("item-", numbers, ""), "count": counts}),
        golden=golden,
    )  # fmt: skip


def _golden(source: Source, codes: Codes, histories: Histories) -> Golden:
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    padded = np.zeros((len(histories), lengths.max()), dtype=np.int32)  # (G, L)
    for row, history in enumerate(histories):
        padded[row, : len(history)] = history
    tables = encode(source.encoder, codes, histories)
    best = load_scorer(codes, "numpy").top_k(tables, 10)
    return Golden(
        padded, lengths, tables, np.stack([b.ids for b in best]), np.stack([b.scores for b in best])
    )


def _users_of(dataset: Path, users: int, longest: int, seed: int) -> Histories:
    items, offsets = (np.load(dataset / f"{name}.npy", mmap_mode="r") for name in ("items", "offsets"))
    able = np.flatnonzero(np.diff(offsets) >= 2)
    chosen = np.random.default_rng(seed).choice(able, size=min(users, len(able)), replace=False)
    return [np.array(items[max(offsets[u], offsets[u + 1] - longest) : offsets[u + 1]]) for u in chosen]


def _untrained(codes: Codes, dim: int, max_length: int, seed: int) -> bytes:
    import torch  # noqa: PLC0415

    from training.config import CodesConfig, Config, DataConfig, ModelConfig, RunConfig  # noqa: PLC0415
    from training.encoder_graph import encoder_graph  # noqa: PLC0415
    from training.models import make_model  # noqa: PLC0415

    config = Config(
        run=RunConfig(directory=Path("unused"), name="untrained"),
        data=DataConfig(interactions=Path("unused")),
        codes=CodesConfig(num_splits=NUM_SPLITS, num_sub_ids=NUM_SUB_IDS),
        model=ModelConfig(dim=dim, max_length=max_length),
    )  # fmt: skip
    torch.manual_seed(seed)
    graph: bytes = encoder_graph(make_model(config, codes)).SerializeToString()
    return graph
