"""This project's training steps, measured: `python -m benchmarks.training_ours SPECIFICATION`."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.training_meter import Meter
from recjpq.scoring import load_scorer
from training.checkpoint import CheckpointStore
from training.config import Config
from training.dataset import Dataset
from training.models import make_model
from training.split import Split
from training.train import Trainer


def main(specification: dict[str, Any]) -> dict[str, Any]:
    """Train for the steps that are asked for; codes are random in place of SVD's."""
    torch.set_num_threads(specification["threads"])
    directory, seed = Path(specification["directory"]), specification["seed"]
    config = _config(specification)
    items, offsets = (np.load(directory / f"{name}.npy", mmap_mode="r") for name in ("items", "offsets"))
    split = Split.leave_one_out(Dataset(directory, items, offsets, specification["items"], {}), 512, seed)
    shape = (specification["items"], config.codes.num_splits)
    item_codes = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    meter = Meter(specification["warm_up"], specification["steps"])
    meter.data_is_ready()
    torch.manual_seed(seed)
    model = make_model(config, item_codes)
    store = CheckpointStore(directory, "")
    trainer = Trainer.of(config, split, model=model, scorer=load_scorer(item_codes[:256]), store=store)
    model.train()
    meter.training_starts()
    for step, batch in enumerate(trainer.sequences.epoch(0)):
        meter.step_ended(trainer._step(batch, step, lambda: False).tokens)
        if meter.done:
            break
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return meter.result() | {"items": specification["items"], "parameters": parameters}


def _config(specification: dict[str, Any]) -> Config:
    return Config.model_validate(
        {
            "run": {
                "directory": specification["directory"],
                "name": "benchmark",
                "seed": specification["seed"],
            },
            "data": {"interactions": "unused"},
            "model": {
                "dim": specification["dim"],
                "max_length": specification["max_length"],
                "num_blocks": specification["blocks"],
                "dropout": specification["dropout"],
                "relative_positions": False,  # the peers have none
            },
            "train": {
                "loss": specification["loss"],
                "negatives": specification["negatives"],
                "batch_size": specification["batch_size"],
            },
        }
    )


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
