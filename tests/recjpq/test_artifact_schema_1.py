"""The committed artifact of schema 1 must load and answer the same for ever."""

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from recjpq.artifact import Artifact, find_artifact, load_artifact, replay
from recjpq.scoring import load_scorer

PATH = Path(__file__).parents[1] / "data" / "artifact-schema-1"
MANIFEST_SHA256 = "f0fb76e502d3d7b14ae2d9881c8c6779ac53b942908229aecb18251d84005966"

ITEM_INDICES = np.array([0, 2, 59], dtype=np.int32)
ITEM_IDS = ["a b/c?&d=e#f", "日本語", "item-59"]


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return load_artifact(PATH)


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def encoder(artifact: Artifact) -> onnxruntime.InferenceSession:
    return session(artifact.encoder_path)


def encode(encoder: onnxruntime.InferenceSession, item_codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return encoder.run(["score_tables"], {"item_codes": item_codes, "lengths": lengths})[0]


def test_its_files_were_never_made_again() -> None:
    # The manifest holds the digest of every other file. If this fails, restore the files from git.
    assert hashlib.sha256((PATH / "manifest.json").read_bytes()).hexdigest() == MANIFEST_SHA256


def test_it_loads(artifact: Artifact) -> None:
    model = artifact.manifest.model
    assert (model.name, model.version, model.backbone) == ("tiny", "artifact-schema-1", "sasrec")
    assert (model.num_items, model.max_length, model.num_splits, model.num_sub_ids) == (60, 8, 4, 16)
    assert model.metrics["test"] == {"ndcg@10": 0.125}
    assert artifact.catalogue.ids_of(ITEM_INDICES) == ITEM_IDS
    assert artifact.catalogue.indices_of(ITEM_IDS).tolist() == ITEM_INDICES.tolist()
    assert artifact.catalogue.metadata_of(ITEM_INDICES[1:]) == [
        {"title": "The title of item 2", "category": None},
        {"title": "The title of item 59", "category": "科幻"},
    ]
    assert artifact.catalogue.most_popular(4).tolist() == [0, 1, 2, 3]


def test_it_is_found() -> None:
    assert find_artifact(PATH) == PATH
    assert find_artifact(PATH.parent) == PATH


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_it_replays(artifact: Artifact, encoder: onnxruntime.InferenceSession, backend: str) -> None:
    item_codes = artifact.catalogue.item_codes
    scorer = load_scorer(item_codes, backend)
    replay(artifact.golden, item_codes, lambda codes, lengths: encode(encoder, codes, lengths), scorer)


def test_its_score_tables_are_the_recorded_bits(
    artifact: Artifact, encoder: onnxruntime.InferenceSession
) -> None:
    golden = artifact.golden
    tables = encode(encoder, artifact.catalogue.item_codes[golden.histories], golden.lengths)
    assert tables.tobytes() == golden.score_tables.tobytes()


def test_its_encoder_has_the_form_of_the_schema(encoder: onnxruntime.InferenceSession) -> None:
    described = [(v.name, v.type, v.shape) for v in (*encoder.get_inputs(), *encoder.get_outputs())]
    assert described == [
        ("item_codes", "tensor(uint8)", ["B", "L", 4]),
        ("lengths", "tensor(int64)", ["B"]),
        ("score_tables", "tensor(float)", ["B", 4, 16]),
    ]


def test_a_history_costs_only_its_own_length(
    artifact: Artifact, encoder: onnxruntime.InferenceSession
) -> None:
    golden = artifact.golden
    for row, length in enumerate(golden.lengths):
        codes = artifact.catalogue.item_codes[golden.histories[row : row + 1, :length]]
        table = encode(encoder, codes, np.array([length]))
        assert table.tobytes() == golden.score_tables[row : row + 1].tobytes()


def test_its_recommender_gives_the_recorded_top_k(artifact: Artifact) -> None:
    golden = artifact.golden
    recommender = session(artifact.recommender_path)
    inputs = {"items": golden.histories.astype(np.int64), "lengths": golden.lengths, "k": np.array([10])}
    ids, scores = recommender.run(["top_items", "top_scores"], inputs | {"exclude_seen": np.array(False)})
    assert ids.tolist() == golden.top_ids.tolist()
    assert scores.tobytes() == golden.top_scores.tobytes()


def test_its_recommender_can_leave_out_the_history(artifact: Artifact) -> None:
    golden = artifact.golden
    seen = [items[:n].copy() for items, n in zip(golden.histories, golden.lengths, strict=True)]
    expected = load_scorer(artifact.catalogue.item_codes).top_k(golden.score_tables, 60, exclude=seen)
    recommender = session(artifact.recommender_path)
    inputs = {"items": golden.histories.astype(np.int64), "lengths": golden.lengths, "k": np.array([100])}
    ids, scores = recommender.run(["top_items", "top_scores"], inputs | {"exclude_seen": np.array(True)})
    for row, best in enumerate(expected):
        assert ids[row, : len(best.ids)].tolist() == best.ids.tolist()
        assert np.isneginf(scores[row, len(best.ids) :]).all()
