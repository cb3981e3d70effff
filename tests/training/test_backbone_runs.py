"""Every backbone from the log to what is served: it learns, resumes, and answers as PyTorch does."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest
import torch
from fastapi import FastAPI
from torch import Tensor

from recjpq.artifact import Artifact, load_artifact
from recjpq.scoring import load_scorer
from service.app import create_app
from service.settings import Settings
from training.__main__ import main
from training.batches import histories
from training.checkpoint import BEST, LAST
from training.config import Config
from training.encoder_graph import onnx_encoder
from training.errors import ExportError
from training.evaluate import torch_encoder
from training.loss import make_loss
from training.run import Run
from training.train import Interrupted, Trainer

BACKBONES = ["bert4rec", "gru4rec", "sasrec"]
MakeConfig = Callable[..., Config]
TrainAs = Callable[..., Run]


def _prepared(config: Config) -> Run:
    run = Run(config)
    run.prepare()
    run.codes()
    return run


@pytest.fixture(scope="module", params=BACKBONES)
def trained_backbone(request: pytest.FixtureRequest, train_as: TrainAs) -> Run:
    return train_as(24, backbone=request.param, dropout=0.0)


@pytest.fixture(scope="module")
def exported(trained_backbone: Run) -> Artifact:
    return load_artifact(trained_backbone.export("v1"))


def _report(run: Run) -> dict[str, dict[str, float]]:
    report: dict[str, dict[str, float]] = json.loads((run.config.run.directory / "report.json").read_text())
    return report


def test_every_backbone_learns_what_comes_next(trained_backbone: Run) -> None:
    assert _report(trained_backbone)["model"]["ndcg@10"] > 0.5  # the log is a cycle: guessing gets about 0.1


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_full_item_table_learns_too_and_has_no_artifact(train_as: TrainAs, backbone: str) -> None:
    run = train_as(24, backbone=backbone, item_embedding="full", dropout=0.0)
    report = _report(run)
    assert report["model"]["ndcg@10"] > 0.5
    sizes, dim, num_items = report["bytes"], 16, 40
    assert (sizes["item_weights"], sizes["item_codes"]) == (4 * dim * num_items, 0)
    assert sizes["served"] == sizes["weights"] > sizes["item_weights"]
    assert sizes["training_state"] > 3 * sizes["weights"]  # the optimiser's two moments beside each weight
    with pytest.raises(ExportError, match=r"model\.item_embedding is 'full', expected 'recjpq'"):
        run.export("v1")
    assert not (run.config.run.directory / "artifacts").exists()


@pytest.mark.parametrize(
    ("backbone", "embedding", "loss"),
    [
        ("bert4rec", "recjpq", "gbce"),
        ("gru4rec", "recjpq", "sampled_softmax"),
        ("bert4rec", "full", "sampled_softmax"),
        ("sasrec", "full", "gbce"),
    ],
)
def test_a_loss_knows_nothing_of_the_model(
    make_config: MakeConfig, backbone: str, embedding: str, loss: str
) -> None:
    config = make_config(
        model={"backbone": backbone, "item_embedding": embedding},
        train={"loss": loss, "negatives": 16, "max_epochs": 4},
    )
    history = _prepared(config).train().history
    assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.parametrize(
    ("backbone", "embedding"),
    [("bert4rec", "recjpq"), ("gru4rec", "recjpq"), ("sasrec", "recjpq"), ("bert4rec", "full")],
)
def test_an_interrupted_run_goes_on_to_the_same_weights(
    make_config: MakeConfig, tmp_path: Path, backbone: str, embedding: str
) -> None:
    model = {"backbone": backbone, "item_embedding": embedding}
    weights: list[dict[str, Tensor]] = []
    for name in ("straight", "interrupted"):
        run = _prepared(make_config(run={"directory": tmp_path / name}, model=model))
        if name == "interrupted":
            loss, calls = make_loss(run.config.train, np.ones(40, dtype=np.int64)), iter(range(100))

            def interrupting(*arguments: object) -> Tensor:
                if next(calls) == 5:  # noqa: B023 - used up before the next round
                    os.kill(os.getpid(), signal.SIGINT)
                return loss(*arguments)  # type: ignore[arg-type]  # noqa: B023

            parts = {"model": run._model, "scorer": run._scorer, "store": run._checkpoints}
            trainer = Trainer.of(run.config, run.split, report=lambda _: None, **parts)  # type: ignore[arg-type]
            with pytest.raises(Interrupted):
                replace(trainer, loss=interrupting).run()
            run = Run(run.config)
        run.train()
        weights += [torch.load(tmp_path / name / "checkpoints" / file)["model"] for file in (LAST, BEST)]
    for straight, resumed in zip(weights[:2], weights[2:], strict=True):
        assert straight.keys() == resumed.keys()
        for name, weight in straight.items():
            assert torch.equal(weight, resumed[name]), name


def test_the_exported_encoder_is_pytorch_at_every_length_and_batch(
    trained_backbone: Run, exported: Artifact
) -> None:
    encode, codes = onnx_encoder(str(exported.encoder_path)), exported.catalogue.item_codes
    in_torch, rng = torch_encoder(trained_backbone._model), np.random.default_rng(0)
    for batch, length in ((1, 1), (1, 6), (2, 3), (3, 2), (7, 5)):
        items = rng.integers(0, len(codes), size=(batch, length))
        lengths = rng.integers(1, length, size=batch, endpoint=True)
        np.testing.assert_allclose(
            encode(codes[items], lengths), in_torch(items, lengths), rtol=1e-4, atol=1e-4
        )
    assert exported.manifest.model.backbone == trained_backbone.config.model.backbone


def test_the_service_answers_as_pytorch_does(
    trained_backbone: Run, exported: Artifact, tmp_path: Path
) -> None:
    run, catalogue = trained_backbone, exported.catalogue
    items, lengths = histories(run.split.test_cases(), slice(0, 5), 6)
    lengths = np.minimum(lengths, [6, 1, 3, 2, 5])
    best = load_scorer(catalogue.item_codes).top_k(torch_encoder(run._model)(items, lengths), 10)
    session = onnxruntime.InferenceSession(str(exported.recommender_path), providers=["CPUExecutionProvider"])
    feeds = {"items": items, "lengths": lengths, "k": np.array([10]), "exclude_seen": np.array(False)}
    assert session.run(["top_items"], feeds)[0].tolist() == [row.ids.tolist() for row in best]
    settings = Settings(model_path=exported.path, store_url=f"sqlite:///{tmp_path}/store.sqlite3")
    asked = [[f"i{item:02d}" for item in row[:length]] for row, length in zip(items, lengths, strict=True)]
    answered = asyncio.run(_ask(create_app(settings), asked))
    assert answered == [[f"i{item:02d}" for item in row.ids] for row in best]


async def _ask(app: FastAPI, histories: list[list[str]]) -> list[list[str]]:
    """Start the service, and return the item ids that it recommends for each history."""
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service")
    answers = []
    async with app.router.lifespan_context(app), client:
        for history in histories:
            question = {"history": history, "k": 10, "exclude_seen": False}
            answer = await client.post("/recommend", json=question)
            answers.append([item["item_id"] for item in answer.raise_for_status().json()["items"]])
    return answers


def test_the_report_has_the_bytes_of_what_is_served(trained_backbone: Run, exported: Artifact) -> None:
    sizes = _report(trained_backbone)["bytes"]
    encoder = exported.encoder_path.stat().st_size
    assert sizes["item_weights"] == 4 * 4 * 16 * 16  # M x V x D numbers
    assert sizes["item_codes"] == (exported.path / "item_codes.npy").stat().st_size
    assert sizes["served"] == encoder + sizes["item_codes"] > sizes["weights"]
    assert sizes["training_state"] > 3 * sizes["weights"]


def test_all_ends_with_the_report_of_a_full_table(
    cyclic_log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[run]\ndirectory = "{tmp_path}/run"\nname = "x"\n[data]\ninteractions = "{cyclic_log}"\n'
        '[model]\nitem_embedding = "full"\ndim = 16\nmax_length = 6\n[train]\nmax_epochs = 1\n'
    )
    assert main(["all", "--config", str(config)]) == 0
    assert "no artifact: a full item table is only to compare with" in capsys.readouterr().out
    assert main(["export", "--config", str(config), "--force"]) == 2
    assert "model.item_embedding is 'full'" in capsys.readouterr().err
