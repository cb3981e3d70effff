"""A log small enough to train on in a second, with an order that a sequence model can learn."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from training.config import Config
from training.run import Run

NUM_USERS = 60
NUM_ITEMS = 40
EVENTS = 12


@pytest.fixture(scope="session")
def cyclic_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users walk through the items in order, from different starts: item i is followed by i + 1."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, NUM_ITEMS, size=NUM_USERS)
    items = (starts[:, None] + np.arange(EVENTS)) % NUM_ITEMS
    path = tmp_path_factory.mktemp("log") / "log.csv"
    pl.DataFrame(
        {
            "user_id": np.repeat([f"u{u}" for u in range(NUM_USERS)], EVENTS),
            "item_id": [f"i{i:02d}" for i in items.ravel()],
            "time": np.tile(np.arange(EVENTS), NUM_USERS),
        }
    ).write_csv(path)
    (path.parent / "items.csv").write_text(
        "item_id,title\n" + "".join(f"i{i:02d},Title {i}\n" for i in range(NUM_ITEMS))
    )
    return path


MakeConfig = Callable[..., Config]


def _config(directory: Path, log: Path, sections: dict[str, dict[str, object]]) -> Config:
    values: dict[str, dict[str, object]] = {
        "run": {"directory": directory, "name": "cyclic", "seed": 3, "threads": 1},
        "data": {"interactions": log, "time_column": "time", "metadata": log.parent / "items.csv"},
        "codes": {"num_splits": 4, "num_sub_ids": 16},
        "model": {"dim": 16, "max_length": 6, "dropout": 0.1},
        "train": {
            "batch_size": 16,
            "max_epochs": 3,
            "validation_users": 20,
            "warmup_steps": 0,
            "learning_rate": 0.01,
        },
        "evaluation": {"ks": (1, 10)},
    }
    for name, keys in sections.items():
        values.setdefault(name, {}).update(keys)
    return Config.model_validate(values)


@pytest.fixture
def make_config(cyclic_log: Path, tmp_path: Path) -> MakeConfig:
    """Return a maker of small configurations; keyword arguments replace single keys of sections."""
    return lambda **sections: _config(tmp_path / "run", cyclic_log, sections)


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[[Config], Path]:
    """Return a writer of configurations as the TOML files that the command line reads."""

    def value(v: object) -> str:
        if isinstance(v, list):
            return "[" + ", ".join(value(x) for x in v) + "]"
        return str(v).lower() if isinstance(v, bool) else repr(v) if isinstance(v, int | float) else f"'{v}'"

    def write(config: Config) -> Path:
        lines = []
        for name, section in config.model_dump(mode="json", exclude_none=True).items():
            lines += [f"[{name}]", *(f"{key} = {value(v)}" for key, v in section.items())]
        path = tmp_path / f"{config.run.directory.name}.toml"
        path.write_text("\n".join(lines))
        return path

    return write


@pytest.fixture(scope="session")
def trained(cyclic_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that has been prepared, trained and evaluated; tests may export from it, under other names."""
    run = Run(_config(tmp_path_factory.mktemp("trained") / "run", cyclic_log, {"train": {"max_epochs": 12}}))
    run.prepare()
    run.codes()
    run.train()
    run.evaluate()
    return run


TrainAs = Callable[..., Run]


@pytest.fixture(scope="session")
def train_as(cyclic_log: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainAs:
    """Return a maker of trained and evaluated runs; keyword arguments are keys of `[model]`."""

    def train(epochs: int, **model: object) -> Run:
        directory = tmp_path_factory.mktemp("trained") / "run"
        options = {"max_epochs": epochs, "patience": epochs}
        run = Run(_config(directory, cyclic_log, {"model": model, "train": options}))
        run.prepare()
        run.codes()
        run.train()
        run.evaluate()
        return run

    return train
