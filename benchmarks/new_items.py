"""How well are items served that training never saw, by how they got their codes?

    python -m benchmarks.new_items --log ml-1m.parquet

5% of the items, drawn at random, are taken out of the log. A model trained on the rest gives them codes in
several ways, all of which see the new items' interactions except each user's last one. Judged are the users
whose last item is a new one: Recall@10 over the whole catalogue, items of the history removed. Beside it, the
users whose last item is a known one: what is recommended to one user too often is missing for another. The
yardstick is a model trained on everything.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from scipy.sparse.linalg import svds

from benchmarks.machine import machine, today, versions
from recjpq.new_items import codes_from_similar
from recjpq.scoring import load_scorer
from training.backbone import Backbone
from training.codes import interaction_matrix
from training.config import Config
from training.dataset import ITEM_TABLE
from training.embedding import RecJPQEmbedding
from training.evaluate import rank_targets, torch_encoder
from training.metrics import metrics_at
from training.new_items import Sequences, codes_from_log
from training.run import Run
from training.split import Cases, Split

WINDOW = 5  # an item co-occurs with as many before and after it
SIMILAR = 10
ItemCodes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Later:
    """What is known when the new items come: the whole log but each user's last interaction.

    Attributes:
        run, model: trained without the new items.
        sequences: known items below N, new ones from N on.
        num_new: n.
        together: how often new item and known item are near each other, (n, N).
        seed: of what is random.
    """

    run: Run
    model: Backbone
    sequences: Sequences
    num_new: int
    together: npt.NDArray[np.float64]
    seed: int

    @property
    def item_codes(self) -> ItemCodes:
        """The codes of the known items, uint8 (N, M)."""
        codes: ItemCodes = np.load(self.run.config.run.directory / "codes" / "item_codes.npy")
        return codes


def random(later: Later) -> ItemCodes:
    """Uniform sub-ids: the lower end."""
    num_sub_ids = later.run.config.codes.num_sub_ids
    rng = np.random.default_rng(later.seed)
    shape = (later.num_new, later.item_codes.shape[1])
    return rng.integers(num_sub_ids, size=shape, dtype=np.uint8)


def vote(later: Later) -> ItemCodes:
    """All co-occurring items vote, weighted by how often."""
    everything = np.arange(len(later.item_codes))
    return np.stack([codes_from_similar(later.item_codes, everything, row) for row in later.together])


def similar(later: Later) -> ItemCodes:
    """The ten items that co-occur most beyond their popularity vote: what `POST /items` could be told."""
    chosen = _most_alike(later)
    return np.stack([codes_from_similar(later.item_codes, row[:SIMILAR]) for row in chosen])


def copy(later: Later) -> ItemCodes:
    """The codes of the single most similar item."""
    return later.item_codes[_most_alike(later)[:, 0]]


def fold_in(later: Later) -> ItemCodes:
    """The item's place in the SVD that the codes were made from, cut at the same quantiles."""
    split = later.run.split
    matrix = interaction_matrix(split, "binary")
    num_splits = later.item_codes.shape[1]
    items = svds(matrix, k=num_splits)[2][::-1].copy()  # (M, N), the strongest first, signs as for the codes
    items *= np.sign(items[np.arange(num_splits), np.abs(items).argmax(axis=1)])[:, None]
    users = matrix @ items.T  # (U, M), the left vectors times the singular values
    columns = _users_of_new_items(later)
    vectors = columns.T @ users / (users**2).sum(axis=0)  # (n, M): R.T U / S
    codes = np.empty((later.num_new, num_splits), dtype=np.uint8)
    for split_number in range(num_splits):
        known = np.sort(items[split_number])
        ranks = np.minimum(np.searchsorted(known, vectors[:, split_number]), len(known) - 1)
        codes[:, split_number] = ranks * later.run.config.codes.num_sub_ids // len(known)
    return codes


def nearest_embedding(later: Later) -> ItemCodes:
    """In each split the sub-embedding nearest to the mean of the co-occurring items'."""
    embedding = later.model.embedding
    assert isinstance(embedding, RecJPQEmbedding)
    sub_embeddings = embedding.sub_embeddings.detach().numpy()  # (M, V, D/M)
    weights = later.together / np.maximum(later.together.sum(axis=1, keepdims=True), 1e-9)
    codes = np.empty((later.num_new, len(sub_embeddings)), dtype=np.uint8)
    for split, table in enumerate(sub_embeddings):
        mean = weights @ table[later.item_codes[:, split]]  # (n, D/M)
        mean *= np.linalg.norm(table, axis=1).mean() / np.linalg.norm(mean, axis=1, keepdims=True)
        codes[:, split] = ((mean[:, None] - table) ** 2).sum(axis=2).argmin(axis=1)
    return codes


def contexts_neutral(later: Later) -> ItemCodes:
    """In each split the entry highest above its average, in the contexts in which the item was chosen."""
    return _from_log(later, max_sweeps=0)


def contexts_likelihood(later: Later) -> ItemCodes:
    """The codes under which those choices are likeliest, and the item is unlikely elsewhere."""
    return _from_log(later, max_sweeps=20)


VARIANTS: dict[str, Callable[[Later], ItemCodes]] = {
    "random": random,
    "vote of co-occurring items": vote,
    "vote of the 10 most similar": similar,
    "copy of the most similar": copy,
    "fold into the SVD": fold_in,
    "nearest sub-embeddings": nearest_embedding,
    "contexts, above average": contexts_neutral,
    "contexts, likelihood": contexts_likelihood,
}


def main() -> None:
    """Train both models, measure every variant, print a table and write JSON."""
    options = _options()
    directory: Path = options.directory
    shutil.rmtree(directory, ignore_errors=True)
    log = pl.read_parquet(options.log).rename(
        {options.user_column: "user_id", options.item_column: "item_id"}
    )
    log = log.select(pl.col("user_id", "item_id").cast(pl.String))
    ids = log["item_id"].unique().sort()
    rng = np.random.default_rng(options.seed)
    new_ids = ids.gather(np.sort(rng.choice(len(ids), size=round(len(ids) * options.share), replace=False)))
    directory.mkdir(parents=True)
    log.write_parquet(directory / "everything.parquet")
    log.filter(~pl.col("item_id").is_in(new_ids.implode())).write_parquet(directory / "known.parquet")
    torch.set_num_threads(options.threads)
    everything, known = (_train(directory, name, options) for name in ("everything", "known"))
    later, cases, whole = _later(known, everything.split, options.seed)
    is_new = cases.targets >= len(later.item_codes)
    results = {"trained on everything": _measure(everything, everything.best_model(), whole, is_new)}
    for name, variant in VARIANTS.items():
        codes = np.concatenate([later.item_codes, variant(later)])
        later.model.embedding.item_codes = torch.from_numpy(codes)
        results[name] = _measure(known, later.model, cases, is_new)
    for name, result in results.items():
        new, old = result["new_recall@10"], result["known_recall@10"]
        print(f"{name:28} Recall@10: new items {new:.4f}, known items {old:.4f}")
    report = {"date": today(), "machine": machine(), "versions": versions(), "seed": options.seed,
              "new_items": later.num_new, "cases_new": int(is_new.sum()), "cases_known": int((~is_new).sum()),
              "config": known.config.model_dump(mode="json"), "results": results}  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written: {options.output}")
    shutil.rmtree(directory)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", type=Path, required=True, help="Parquet, in each user's order")
    parser.add_argument("--user-column", default="user_id")
    parser.add_argument("--item-column", default="item_id")
    parser.add_argument("--share", type=float, default=0.05, help="of the items that are new")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--max-length", type=int, default=50)
    parser.add_argument("--method", default="svd", help="codes.method")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--directory", type=Path, default=Path("runs/new-items"))
    parser.add_argument("--output", type=Path, default=Path("runs/bench/new_items.json"))
    return parser.parse_args()


def _train(directory: Path, name: str, options: argparse.Namespace) -> Run:
    run = Run(Config.model_validate({
        "run": {"directory": directory / name, "name": name, "seed": options.seed},
        "data": {"interactions": directory / f"{name}.parquet"},
        "codes": {"method": options.method},
        "model": {"dim": options.dim, "max_length": options.max_length, "dropout": 0.1},
        "train": {"batch_size": 32, "max_epochs": options.epochs},
    }))  # fmt: skip
    run.prepare()
    run.codes()
    run.train()
    return run


def _later(run: Run, everything: Split, seed: int) -> tuple[Later, Cases, Cases]:
    """Number the whole log's items for the model that knows some of them.

    Returns the log less every user's last interaction, the last ones as cases, and these cases in the
    numbers of the model that knows everything.
    """
    known = pl.read_parquet(run.split.dataset.path / ITEM_TABLE)["item_id"].to_list()
    of_id = {item: index for index, item in enumerate(known)}
    all_ids = pl.read_parquet(everything.dataset.path / ITEM_TABLE)["item_id"].to_list()
    number, num_new = np.empty(len(all_ids), dtype=np.int32), 0
    for index, item in enumerate(all_ids):
        number[index] = of_id.get(item, len(known) + num_new)
        num_new += item not in of_id
    items, offsets = number[everything.dataset.items], np.asarray(everything.dataset.offsets)
    last = offsets[1:] - 1  # of at least two
    earlier = np.delete(items, last)
    sequences = Sequences(earlier, offsets - np.arange(len(offsets)))
    together = np.zeros((num_new, len(known)))
    owner = np.repeat(np.arange(len(last)), np.diff(sequences.offsets))
    for distance in range(1, WINDOW + 1):
        one, other = earlier[:-distance], earlier[distance:]
        same = owner[:-distance] == owner[distance:]
        for new, old in ((one, other), (other, one)):
            pairs = same & (new >= len(known)) & (old < len(known))
            np.add.at(together, (new[pairs] - len(known), old[pairs]), 1.0 / distance)
    cases = Cases(items, offsets[:-1], last, items[last])
    later = Later(run, run.best_model(), sequences, num_new, together, seed)
    return later, cases, everything.test_cases()


def _measure(run: Run, model: Backbone, cases: Cases, is_new: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Rank the last items in the model's catalogue: Recall@10 and more, of new and of known ones."""
    scorer = load_scorer(model.embedding.item_codes.numpy())
    config = run.config
    ranks = rank_targets(
        torch_encoder(model), scorer, cases, config.model.max_length, config.evaluation, depth=10
    )
    parts = {"new": ranks[is_new], "known": ranks[~is_new]}
    return {
        f"{part}_{name}": value
        for part, some in parts.items()
        for name, value in metrics_at(some, (10,)).items()
    }


def _most_alike(later: Later) -> npt.NDArray[np.int64]:
    """Return known items by how much more often than by chance they co-occur, int64 (n, N), best first."""
    counts = np.bincount(later.sequences.items, minlength=len(later.item_codes))[: len(later.item_codes)]
    return np.argsort(-later.together / np.sqrt(counts + 1.0), axis=1, kind="stable")


def _users_of_new_items(later: Later) -> npt.NDArray[np.float32]:
    """Return 1 where a user took a new item, float32 (U, n); every user has known items, so all are there."""
    lengths = np.diff(later.sequences.offsets)
    new = later.sequences.items - len(later.item_codes)
    columns = np.zeros((len(lengths), later.num_new), dtype=np.float32)
    columns[np.repeat(np.arange(len(lengths)), lengths)[new >= 0], new[new >= 0]] = 1.0
    return columns


def _from_log(later: Later, max_sweeps: int) -> ItemCodes:
    encode = torch_encoder(later.model)
    length = later.run.config.model.max_length
    codes, _ = codes_from_log(
        encode, later.item_codes, later.sequences, later.num_new, length, later.seed, max_sweeps
    )
    return codes


if __name__ == "__main__":
    main()
