"""The verb `assign`: codes for items that appeared after training, from a log or from similar items."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import polars as pl
from tqdm import tqdm

from recjpq.new_items import MAX_SWEEPS, codes_from_contexts, codes_from_similar, log_partitions
from training.batches import histories
from training.config import Config
from training.dataset import ITEM_TABLE, Dataset
from training.errors import DataError
from training.evaluate import Encode
from training.prepare import prepare
from training.split import Cases
from training.tables import as_ids, column_names, read_table

MAX_CONTEXTS = 256  # of one new item
BACKGROUND = 1024  # contexts as they come
PARTITION_ITEMS = 65_536  # that stand for the catalogue in the softmax
BATCH = 256
SIMILAR = "similar_item_id"

ItemCodes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class NewItems:
    """Items that the catalogue does not have.

    Attributes:
        item_ids: n of them.
        item_codes: uint8 (n, M).
        observations: what the codes were made from: interactions, or similar items, int64 (n,).
    """

    item_ids: Sequence[str]
    item_codes: ItemCodes
    observations: npt.NDArray[np.int64]

    def write(self, path: Path) -> None:
        """Write Parquet: item_id, codes (a list of M), observations."""
        path.parent.mkdir(parents=True, exist_ok=True)
        codes = pl.Series("codes", self.item_codes.tolist(), dtype=pl.List(pl.UInt8))
        observations = pl.Series("observations", self.observations)
        pl.DataFrame([pl.Series("item_id", self.item_ids), codes, observations]).write_parquet(path)


@dataclass(frozen=True, slots=True)
class Sequences:
    """Sequences of known and of new items.

    Attributes:
        items: end to end; below N an item of the catalogue, from N on a new one, int32 (interactions,).
        offsets: sequence s is ``items[offsets[s]:offsets[s + 1]]``, int64 (S + 1,).
    """

    items: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]

    def contexts(self, num_known: int) -> Cases:
        """Return a case for every interaction with known items before it: those, and what was chosen."""
        known = self.items < num_known
        before: npt.NDArray[np.int64] = np.cumsum(known) - known  # known items before each interaction
        starts: npt.NDArray[np.int64] = np.repeat(before[self.offsets[:-1]], np.diff(self.offsets))
        able = before > starts
        return Cases(self.items[known], starts[able], before[able], self.items[able])

    def followers(self, item: int, num_known: int) -> npt.NDArray[np.int32]:
        """Return the known items that come directly after a new one."""
        position = np.flatnonzero(self.items[:-1] == item)
        position = position[~np.isin(position + 1, self.offsets)]
        after = self.items[position + 1]
        return after[after < num_known]


def codes_from_log(
    encode: Encode,
    item_codes: ItemCodes,
    sequences: Sequences,
    num_new: int,
    max_length: int,
    seed: int,
    max_sweeps: int = MAX_SWEEPS,
) -> tuple[ItemCodes, npt.NDArray[np.int64]]:
    """Choose codes by the contexts in which new items were chosen (`codes_from_contexts`).

    An item that nobody chose after a known one takes the votes of the known items directly after it.

    Args:
        encode: the trained model.
        item_codes: of the catalogue, uint8 (N, M).
        sequences: everything that happened in some period, so that shares of interactions are right.
        num_new: n; new items are N to N + n - 1.
        max_length: L.
        seed: of the samples of contexts and items.
        max_sweeps: see `codes_from_contexts`.

    Returns:
        Codes uint8 (n, M) and the interactions that they are made from, int64 (n,); codes of an item with
        none are zero and mean nothing.
    """
    rng = np.random.default_rng([seed, 0x2E3])
    cases = sequences.contexts(len(item_codes))
    if not len(cases):
        raise DataError("found no interaction after one with a known item; expected users with known items")
    sample = rng.choice(len(cases), size=min(BACKGROUND, len(cases)), replace=False)
    contexts = np.concatenate(list(_tables(encode, cases, sample, max_length)))
    stand_ins = rng.choice(len(item_codes), size=min(PARTITION_ITEMS, len(item_codes)), replace=False)
    log_partition = log_partitions(contexts, item_codes[stand_ins]) + np.log(len(item_codes) / len(stand_ins))
    order = rng.permutation(len(cases))
    target = cases.targets[order] - len(item_codes)
    observations = np.bincount(target[target >= 0], minlength=num_new)
    order = order[np.argsort(target, kind="stable")]  # known ones first, then each new item's, shuffled
    ends = len(cases) - observations.sum() + np.cumsum(observations)
    codes = np.zeros((num_new, item_codes.shape[1]), dtype=np.uint8)
    for item in tqdm(range(num_new), desc="assign", unit="item", disable=None, leave=False):
        if observations[item]:
            taken = order[ends[item] - observations[item] : ends[item]][:MAX_CONTEXTS]
            chosen = np.concatenate(list(_tables(encode, cases, taken, max_length))).mean(axis=0)
            rate = observations[item] / len(cases)
            codes[item] = codes_from_contexts(chosen, contexts, log_partition, rate, max_sweeps)
        else:
            after = sequences.followers(len(item_codes) + item, len(item_codes))
            observations[item] = len(after)
            if len(after):
                codes[item] = codes_from_similar(item_codes, after)
    return codes, observations


def _tables(
    encode: Encode, cases: Cases, chosen: npt.NDArray[np.int64], max_length: int
) -> Iterator[npt.NDArray[np.float32]]:
    """Encode some cases' histories: yield score tables (<= BATCH, M, V)."""
    some = Cases(cases.items, cases.starts[chosen], cases.ends[chosen], cases.targets[chosen])
    for begin in range(0, len(some), BATCH):
        yield encode(*histories(some, slice(begin, begin + BATCH), max_length))


def assign(path: Path, config: Config, dataset: Dataset, encode: Encode, item_codes: ItemCodes) -> NewItems:
    """Give codes to new items: from pairs where the file has a column `similar_item_id`, else from a log.

    Raises:
        DataError: the file cannot be read, or does not say enough of some item.
    """
    if SIMILAR in column_names(path):
        return _from_similar(path, config.data.item_column, dataset, item_codes)
    return _from_log(path, config, dataset, encode, item_codes)


def _from_log(
    path: Path, config: Config, dataset: Dataset, encode: Encode, item_codes: ItemCodes
) -> NewItems:
    """Read a later log, in the columns of the training log, for the items that training did not see."""
    known_ids = _known_ids(dataset)
    with TemporaryDirectory() as directory:
        later = prepare(
            config.data.model_copy(update={"interactions": path, "metadata": None}), Path(directory)
        )
        ids = pl.read_parquet(later.path / ITEM_TABLE)["item_id"]
        index = _positions(ids, known_ids)
        new = np.flatnonzero(index < 0)
        if not len(new):
            raise DataError(f"{path}: every item is in the catalogue already, expected new ones")
        index[new] = len(known_ids) + np.arange(len(new))
        sequences = Sequences(index[later.items], np.array(later.offsets))
        codes, observations = codes_from_log(
            encode, item_codes, sequences, len(new), config.model.max_length, config.run.seed
        )
    new_ids = ids.gather(new).to_list()
    _refuse_unobserved(path, [item for item, seen in zip(new_ids, observations, strict=True) if not seen])
    return NewItems(new_ids, codes, observations)


def _from_similar(path: Path, key: str, dataset: Dataset, item_codes: ItemCodes) -> NewItems:
    """Read pairs of a new item's id and `similar_item_id`, with a `weight` where there is that column."""
    pairs = read_table(path, ids=[key, SIMILAR])
    if key not in pairs.columns:
        raise DataError(f"{path}: no column {key!r}, found {', '.join(pairs.columns)}")
    if pairs.is_empty():
        raise DataError(f"{path}: found 0 rows, expected a new item and a similar one in each")
    new_ids, weights = as_ids(path, pairs[key]), _weights(path, pairs)
    similar = _positions(as_ids(path, pairs[SIMILAR]), _known_ids(dataset))
    if (unknown := similar < 0).any():
        first = pairs[SIMILAR][int(unknown.argmax())]
        raise DataError(
            f"{path}: {int(unknown.sum())} similar items are not in the catalogue (first: {first!r})"
        )
    if (old := _positions(new_ids, _known_ids(dataset)) >= 0).any():
        first = new_ids[int(old.argmax())]
        raise DataError(
            f"{path}: {int(old.sum())} rows name items of the catalogue as new (first: {first!r})"
        )
    distinct = new_ids.unique(maintain_order=True).to_list()
    rows = [np.flatnonzero((new_ids == item).to_numpy()) for item in distinct]
    by_weight = [row[np.argsort(-weights[row], kind="stable")] for row in rows]
    codes = [codes_from_similar(item_codes, similar[row], weights[row]) for row in by_weight]
    return NewItems(distinct, np.stack(codes), np.array([len(row) for row in rows]))


def _weights(path: Path, pairs: pl.DataFrame) -> npt.NDArray[np.float64]:
    if "weight" not in pairs.columns:
        return np.ones(len(pairs))
    weights = pairs["weight"].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    if not (good := np.isfinite(weights) & (weights >= 0)).all():
        row = int((~good).argmax())
        raise DataError(
            f"{path}: column 'weight' is no number from 0 up in {int((~good).sum())} of {len(pairs)} rows "
            f"(first: row {row + 1}, {pairs['weight'][row]!r})"
        )
    return weights


def _known_ids(dataset: Dataset) -> pl.Series:
    return pl.read_parquet(dataset.path / ITEM_TABLE, columns=["item_id"])["item_id"]


def _positions(ids: pl.Series, among: pl.Series) -> npt.NDArray[np.int32]:
    """Return where each id is among others, int32; -1 for one that is not there."""
    table = pl.DataFrame({"id": among, "position": np.arange(len(among), dtype=np.int32)})
    joined = ids.to_frame("id").join(table, on="id", how="left", maintain_order="left")
    return joined["position"].fill_null(-1).to_numpy().copy()


def _refuse_unobserved(path: Path, item_ids: Sequence[str]) -> None:
    if item_ids:
        raise DataError(
            f"{path}: {len(item_ids)} new items have no known item directly after them or before them in any "
            f"sequence (first: {item_ids[0]!r}); leave them out, or give similar items"
        )
