"""Export: the artifact says what PyTorch says, or is not written."""

import copy
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from recjpq.artifact import Artifact, find_artifact, load_artifact, replay
from recjpq.errors import ArtifactError, ArtifactExistsError
from recjpq.scoring import load_scorer
from training.batches import histories
from training.config import Config
from training.encoder_graph import check_tables, encoder_graph, onnx_encoder
from training.errors import ExportError, StageError
from training.evaluate import evaluate
from training.export import check_beats_popularity, check_recommender
from training.run import Run


@pytest.fixture(scope="module")
def artifact(trained: Run) -> Artifact:
    return load_artifact(trained.export("v1"))


def _recommend(
    artifact: Artifact,
    items: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    k: int,
    *,
    exclude_seen: bool,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(str(artifact.recommender_path), providers=["CPUExecutionProvider"])
    feeds = {"items": items, "lengths": lengths, "k": np.array([k]), "exclude_seen": np.array(exclude_seen)}
    ids, scores = session.run(["top_items", "top_scores"], feeds)
    return ids, scores


def test_the_artifact_has_every_file_and_describes_the_model(artifact: Artifact) -> None:
    assert sorted(path.name for path in artifact.path.iterdir()) == [
        "encoder.onnx", "golden.npz", "item_codes.npy", "items.parquet", "manifest.json", "recommender.onnx",
        "sub_embeddings.npy",
    ]  # fmt: skip
    model = artifact.manifest.model
    assert (model.num_items, model.num_splits, model.num_sub_ids, model.dim, model.max_length) == (
        40,
        4,
        16,
        16,
        6,
    )
    assert model.metrics["protocol"]["split"].startswith("leave-one-out")
    assert model.metrics["model"].keys() == model.metrics["popularity"].keys()
    assert model.metrics["forced"] is False
    assert model.training_config["train"]["loss"] == "softmax"
    assert (model.data["interactions"], len(model.data["source_sha256"])) == (720, 64)
    assert model.libraries["torch"] == torch.__version__
    assert artifact.catalogue.metadata_of(np.array([7], dtype=np.int32)) == [{"title": "Title 7"}]


def test_the_artifact_has_the_sub_embeddings(trained: Run, artifact: Artifact) -> None:
    assert artifact.sub_embeddings is not None
    state = trained.best_model().state_dict()
    assert np.array_equal(artifact.sub_embeddings, state["embedding.sub_embeddings"].numpy())


def test_golden_histories_replay_through_the_onnx_encoder(artifact: Artifact) -> None:
    codes = artifact.catalogue.item_codes
    for backend in ("numpy", "cpu"):
        replay(artifact.golden, codes, onnx_encoder(str(artifact.encoder_path)), load_scorer(codes, backend))


def test_metrics_from_the_artifact_equal_those_from_pytorch(trained: Run, artifact: Artifact) -> None:
    run_onnx = onnx_encoder(str(artifact.encoder_path))
    codes = artifact.catalogue.item_codes

    def encode(items: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return run_onnx(codes[items], lengths)

    served, _ = evaluate(encode, load_scorer(codes), trained.split, 6, trained.config.evaluation)
    reported = json.loads((trained.config.run.directory / "report.json").read_text())
    assert served["model"] == pytest.approx(reported["model"], abs=1e-4)
    assert reported["model"] == artifact.manifest.model.metrics["model"]


def test_the_one_graph_recommender_gives_the_served_top_k(trained: Run, artifact: Artifact) -> None:
    items, lengths = histories(trained.split.test_cases(), slice(0, 60), 6)
    codes = artifact.catalogue.item_codes
    tables = onnx_encoder(str(artifact.encoder_path))(codes[items], lengths)
    seen = [row[:length].astype(np.int32) for row, length in zip(items, lengths, strict=True)]
    for exclude_seen in (False, True):
        ids, scores = _recommend(artifact, items, lengths, 10, exclude_seen=exclude_seen)
        expected = load_scorer(codes).top_k(tables, 10, exclude=seen if exclude_seen else None)
        assert ids.tolist() == [row.ids.tolist() for row in expected]
        np.testing.assert_allclose(scores, [row.scores for row in expected], rtol=1e-5, atol=1e-6)


def test_the_recommender_gives_at_most_the_catalogue_and_ignores_what_is_beyond_a_length(
    artifact: Artifact,
) -> None:
    items = np.array([[3, 9, 9], [5, 6, 7]])
    ids, scores = _recommend(artifact, items, np.array([1, 3]), 1000, exclude_seen=True)
    assert ids.shape == (2, 40)
    assert np.isneginf(scores).sum(axis=1).tolist() == [1, 3]
    assert set(ids[0][np.isneginf(scores[0])]) == {3}
    other, _ = _recommend(
        artifact, np.array([[3, 0, 1], [5, 6, 7]]), np.array([1, 3]), 1000, exclude_seen=True
    )
    assert ids.tolist() == other.tolist()


def test_the_recommender_encodes_the_newest_items_of_a_history_of_any_length(artifact: Artifact) -> None:
    items = np.random.default_rng(0).integers(0, 40, size=(3, 20))
    lengths = np.array([20, 2, 9])
    ids, scores = _recommend(artifact, items, lengths, 40, exclude_seen=True)
    for row, length in enumerate(lengths):
        window = items[row : row + 1, max(0, length - 6) : length]  # max_length is 6
        expected, _ = _recommend(artifact, window, np.array([window.shape[1]]), 40, exclude_seen=False)
        seen = set(items[row, :length])
        assert set(ids[row][np.isneginf(scores[row])]) == seen
        assert [i for i in ids[row] if i not in seen] == [i for i in expected[0] if i not in seen]


def test_a_graph_that_differs_from_pytorch_is_refused(trained: Run) -> None:
    model = trained._model.eval()
    graph = encoder_graph(model)
    changed = copy.deepcopy(graph)
    weights = next(w for w in changed.graph.initializer if numpy_helper.to_array(w).ndim == 2)
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(1.01), weights.name))
    with pytest.raises(ExportError, match=r"differ from PyTorch's .* at B=1, L=1; expected at most"):
        check_tables(model, changed.SerializeToString())


def test_a_recommender_that_gives_other_items_is_refused(trained: Run, artifact: Artifact) -> None:
    recommender = onnx.load(artifact.recommender_path)
    codes = next(w for w in recommender.graph.initializer if w.name == "codes")
    array = numpy_helper.to_array(codes)
    codes.CopyFrom(numpy_helper.from_array(np.roll(array, 1, axis=1), "codes"))
    with pytest.raises(ExportError, match=r"recommender\.onnx (scores differ|gives items)"):
        check_recommender(recommender, artifact.golden)


def test_nothing_is_written_when_the_graph_is_refused(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.encoder_graph.TOLERANCE", -1.0)
    with pytest.raises(ExportError):
        trained.export("refused")
    assert not list((trained.config.run.directory / "artifacts").glob("*refused*"))


def test_a_version_is_immutable(trained: Run, artifact: Artifact) -> None:
    with pytest.raises(ArtifactExistsError):
        trained.export(artifact.path.name)


def test_a_report_of_earlier_weights_is_refused(make_config: Callable[..., Config]) -> None:
    for epochs in (1, 3):
        run = Run(make_config(train={"max_epochs": epochs}))
        run.prepare()
        run.codes()
        run.train()
        if epochs == 1:
            run.evaluate()
    with pytest.raises(
        StageError, match=r"report\.json: of other weights or another release; run `recjpq-train evaluate`"
    ):
        run.export("v1")


def _report(model: float, popularity: float) -> dict[str, object]:
    return {"headline": "ndcg@10", "model": {"ndcg@10": model}, "popularity": {"ndcg@10": popularity}}


@pytest.mark.parametrize("popularity", [0.02, 0.0295], ids=["equal", "better"])
def test_a_model_that_does_not_beat_popularity_is_refused_unless_forced(popularity: float) -> None:
    report = _report(0.02, popularity)
    with pytest.raises(
        ExportError, match=rf"NDCG@10 .* is 0\.0200, that of popularity {popularity:.4f}.*--force"
    ):
        check_beats_popularity(report, force=False)
    assert check_beats_popularity(report, force=True)
    assert not check_beats_popularity(_report(0.03, popularity), force=True)


def test_a_refused_export_writes_nothing_and_a_forced_one_says_so(
    trained: Run,
) -> None:
    path = trained.config.run.directory / "report.json"
    kept = path.read_text()
    try:
        report = json.loads(kept)
        report["popularity"]["ndcg@10"] = 1.0
        path.write_text(json.dumps(report))
        with pytest.raises(ExportError, match="or pass --force"):
            trained.export("worse")
        assert not (trained.config.run.directory / "artifacts" / "worse").exists()
        assert load_artifact(trained.export("worse", force=True)).manifest.model.metrics["forced"] is True
    finally:
        path.write_text(kept)


@pytest.mark.parametrize("wait_for", ["encoder.onnx", "item_codes.npy", "golden.npz", "manifest.json"])
def test_kill_9_during_export_leaves_no_half_artifact(
    artifact: Artifact, tmp_path: Path, wait_for: str
) -> None:
    """The writer is killed at the moment when it opens a chosen file."""
    parent = tmp_path / "killed"
    program = f"""
import os, pathlib, signal, sys
from recjpq.artifact import load_artifact, write_artifact
import pyarrow.parquet as pq
source = load_artifact(pathlib.Path({str(artifact.path)!r}))
def stop(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".partial/{wait_for}"):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(stop)
write_artifact(pathlib.Path({str(parent)!r}), source.manifest.model, encoder=source.encoder_path.read_bytes(),
    recommender=source.recommender_path.read_bytes(), item_codes=source.catalogue.item_codes,
    items=pq.read_table(source.path / "items.parquet"), golden=source.golden)
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with pytest.raises(ArtifactError):
        find_artifact(parent)
    with pytest.raises(ArtifactError):
        load_artifact(parent / "v1")
    assert [path.name for path in parent.iterdir()] == [".v1.partial"]
