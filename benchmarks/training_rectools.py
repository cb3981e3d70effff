"""RecTools' training steps, measured: `python -m benchmarks.training_rectools SPECIFICATION`.

Run by a Python that has `rectools[torch]`, and nothing of this project but the meter.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

from benchmarks.training_meter import Meter

LOSSES = {"softmax": "softmax", "gbce": "gBCE", "sampled_softmax": "sampled_softmax"}


class Metered(Callback):  # type: ignore[misc]  # skipped by mypy, see pyproject.toml
    """Tells a meter of every step's end."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """See Callback."""
        self.meter.training_starts()

    def on_train_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: dict[str, torch.Tensor],
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """See Callback."""
        self.meter.step_ended(int((batch["y"] != 0).sum()))


def main(specification: dict[str, Any]) -> dict[str, Any]:
    """Train for the steps that are asked for."""
    torch.set_num_threads(specification["threads"])
    torch.manual_seed(specification["seed"])
    meter = Meter(specification["warm_up"], specification["steps"])

    def make_trainer() -> Trainer:
        return Trainer(
            max_steps=specification["warm_up"] + specification["steps"],
            accelerator="cpu",
            callbacks=[Metered(meter)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    model = SASRecModel(
        n_blocks=specification["blocks"],
        n_heads=1,
        n_factors=specification["dim"],
        dropout_rate=specification["dropout"],
        session_max_len=specification["max_length"],
        loss=LOSSES[specification["loss"]],
        n_negatives=specification["negatives"] or 1,
        gbce_t=0.75,
        batch_size=specification["batch_size"],
        get_trainer_func=make_trainer,
    )
    dataset = _dataset(Path(specification["directory"]))
    model.data_preparator.process_dataset_train(dataset)
    sequences = model.data_preparator.get_dataloader_train()
    meter.data_is_ready()  # as it keeps them while it trains: `fit` makes the same again
    del sequences
    model.fit(dataset)
    network = model.lightning_model.torch_model
    told = next(each.meter for each in model.fit_trainer.callbacks if isinstance(each, Metered))  # a copy
    return told.result() | {
        "items": int(network.item_model.n_items) - 1,  # less the padding
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "version": version("rectools"),
    }


def _dataset(directory: Path) -> Dataset:
    items, offsets, ends = (np.load(directory / f"{name}.npy") for name in ("items", "offsets", "train_ends"))
    trained = np.arange(len(items)) < np.repeat(ends, np.diff(offsets))
    users = np.repeat(np.arange(len(ends)), np.diff(offsets))
    rows = pd.DataFrame({Columns.User: users, Columns.Item: items})[trained]
    rows[Columns.Weight] = 1.0
    rows[Columns.Datetime] = pd.to_datetime(np.arange(len(rows)), unit="s")
    return Dataset.construct(rows)


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
