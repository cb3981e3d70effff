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
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import LambdaCallback
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

from benchmarks.training_meter import Meter

LOSSES = {"softmax": "softmax", "gbce": "gBCE", "sampled_softmax": "sampled_softmax"}


def main(specification: dict[str, Any]) -> dict[str, Any]:
    """Train for the steps that are asked for."""
    torch.set_num_threads(specification["threads"])
    torch.manual_seed(specification["seed"])
    meter = Meter(specification["warm_up"], specification["steps"])

    def step_ended(_trainer: Any, _module: Any, _outputs: Any, batch: dict[str, Any], _index: int) -> None:
        meter.step_ended(int((batch["y"] != 0).sum()))

    def make_trainer() -> Trainer:
        return Trainer(
            max_steps=specification["warm_up"] + specification["steps"],
            accelerator="cpu",
            callbacks=[
                LambdaCallback(
                    on_train_start=lambda *_: meter.training_starts(), on_train_batch_end=step_ended
                )
            ],
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
    return meter.result() | {
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
