"""A made-up interaction log of any size, written in bounded memory: the same arguments, the same file.

    python -m benchmarks.synthetic_log --items 5000000 --interactions 100000000 log.parquet

Items belong to topics; within a topic popularity follows Zipf's law. A user has three topics and takes items
of them at random times: rows are together by user and in no order of time. Lengths are log-normal.
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_GROUP = 1_000_000
SECONDS = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class LogSizes:
    """What decides a log.

    Attributes:
        users: each with at least one interaction.
        items: how many there are to choose from; a few of the least popular may be left out.
        interactions: rows, at least `users`.
        topics: groups of items; at most `items`.
        exponent: of Zipf's law, not 1.
        text_ids: ids such as `item-0000042` in place of integers.
        seed: of everything.
    """

    users: int = 2_000_000
    items: int = 5_000_000
    interactions: int = 100_000_000
    topics: int = 1000
    exponent: float = 0.8
    text_ids: bool = False
    seed: int = 0

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add an argument for each."""
        for field in fields(cls):
            name = f"--{field.name.replace('_', '-')}"
            if isinstance(field.default, bool):
                parser.add_argument(name, action="store_true")
            else:
                parser.add_argument(name, type=type(field.default), default=field.default)

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        """Take them from the command line's options."""
        return cls(**{field.name: getattr(options, field.name) for field in fields(cls)})


def write_log(path: Path, sizes: LogSizes) -> None:
    """Write user_id, item_id and time (seconds, int64) as Parquet, a row group per million rows."""
    users, interactions = sizes.users, sizes.interactions
    rng = np.random.default_rng(sizes.seed)
    activity = rng.lognormal(sigma=1.2, size=users)
    lengths = 1 + rng.multinomial(interactions - users, activity / activity.sum())
    ends = np.cumsum(lengths)
    edges = np.searchsorted(ends, np.arange(ROWS_PER_GROUP, interactions, ROWS_PER_GROUP))
    id_type = pa.string() if sizes.text_ids else pa.int64()
    schema = pa.schema([("user_id", id_type), ("item_id", id_type), ("time", pa.int64())])
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for chosen in np.split(np.arange(users), np.unique(edges)):
            user = np.repeat(chosen, lengths[chosen])
            item = _items(rng, user, sizes)
            time = rng.integers(0, SECONDS, size=len(user))
            ids = [_ids("user", user, sizes.text_ids), _ids("item", item, sizes.text_ids), pa.array(time)]
            writer.write_table(pa.table(ids, schema=schema))


def _items(rng: np.random.Generator, user: npt.NDArray[np.int64], sizes: LogSizes) -> npt.NDArray[np.int64]:
    """Draw an item of one of its user's three topics for each row, int64 (rows,)."""
    topics = sizes.topics
    of_user = (user * 2_654_435_761 + rng.integers(0, 3, size=len(user)) * 40_503) % topics
    per_topic = -(-sizes.items // topics)
    power = (
        1.0 - sizes.exponent
    )  # the inverse of the distribution function of x^-exponent on [1, per_topic + 1)
    uniform = rng.random(len(user))
    rank = (1.0 + uniform * ((per_topic + 1.0) ** power - 1.0)) ** (1.0 / power) - 1.0
    item = np.minimum(rank.astype(np.int64), per_topic - 1) * topics + of_user
    return np.where(item < sizes.items, item, of_user)  # the last rank is not there in every topic


def _ids(kind: str, numbers: npt.NDArray[np.int64], text: bool) -> pa.Array:
    return pa.array([f"{kind}-{number:07d}" for number in numbers.tolist()] if text else numbers)


def main() -> None:
    """Write one log."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    LogSizes.add_arguments(parser)
    options = parser.parse_args()
    write_log(options.path, LogSizes.of(options))


if __name__ == "__main__":
    main()
