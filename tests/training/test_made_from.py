"""What a stage left behind is used only by the configuration, data and weights that it was made from."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training.checkpoint import BEST
from training.config import Config
from training.errors import CheckpointError, StageError
from training.run import Run

MakeConfig = Callable[..., Config]
TEMPORAL = {"method": "temporal", "test_share": 0.2}


def _trained(config: Config) -> Run:
    run = Run(config)
    run.prepare()
    run.codes()
    run.train()
    run.evaluate()
    return run


@pytest.mark.parametrize("test_share", [None, 0.3])
def test_weights_trained_on_another_split_are_refused(
    make_config: MakeConfig, test_share: float | None
) -> None:
    """They may have trained on what is to be tested now; a full table has no codes that would tell."""
    model, first = {"item_embedding": "full"}, TEMPORAL | {"test_share": test_share} if test_share else {}
    _trained(make_config(model=model, split=first))
    other = Run(make_config(model=model, split=TEMPORAL))
    with pytest.raises(CheckpointError, match=r"best\.pt: made from other data, another configuration"):
        other.evaluate()
    with pytest.raises(CheckpointError, match=r"last\.pt: made from other data, another configuration"):
        other.train()


@pytest.mark.parametrize(
    "change",
    [
        {"split": TEMPORAL},
        {"codes": {"method": "random"}},
        {"codes": {"num_sub_ids": 8}},
        {"run": {"seed": 4}},
    ],
    ids=str,
)
def test_codes_made_otherwise_are_refused(
    make_config: MakeConfig, change: dict[str, dict[str, object]]
) -> None:
    _trained(make_config())
    other = Run(make_config(**change))
    for verb in (other.train, other.evaluate, other.exported):
        with pytest.raises(StageError, match=r"codes: made from another log, .*; run `recjpq-train codes`"):
            verb()
    other.codes()  # made anew; now the weights are of other codes
    with pytest.raises(CheckpointError, match="made from other data"):
        Run(other.config).train()


def test_an_artifact_is_up_to_date_for_its_own_weights_name_and_evaluation_alone(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(train={"max_epochs": 12})
    path = _trained(config).export("v1", force=True)
    assert Run(config).exported() == path
    assert Run(make_config(train={"max_epochs": 12}, run={"name": "other"})).exported() is None
    assert Run(make_config(train={"max_epochs": 12}, evaluation={"ks": (3,)})).exported() is None
    # As `train --restart` under another release may leave them: same configuration and epoch, other weights.
    best = tmp_path / "run" / "checkpoints" / BEST
    state = torch.load(best)
    state["model"]["positions.weight"] += 0.25
    torch.save(state, best)
    again = Run(config)
    assert again.exported() is None
    with pytest.raises(StageError, match=r"report\.json: of other weights .* run `recjpq-train evaluate`"):
        again.export("v2")
    again.evaluate()
    again.export("v2", force=True)
    assert Run(config).exported() == tmp_path / "run" / "artifacts" / "v2"
    assert json.loads((tmp_path / "run" / "exported.json").read_text())["version"] == "v2"
