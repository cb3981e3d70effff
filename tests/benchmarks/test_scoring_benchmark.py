"""The benchmark at toy sizes: it runs, its judge judges, and its strongest peer is exact."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import data, report, scoring
from benchmarks.data import Workload
from benchmarks.method import Method
from benchmarks.methods import CANDIDATES
from benchmarks.prune import RecJPQPrune, bits
from benchmarks.validate import near, same_bits
from recjpq.artifact import load_artifact, write_artifact
from recjpq.scoring import TopK, load_scorer

ARTIFACT = Path(__file__).parents[1] / "data" / "artifact-schema-1"
PEERS = ("matmul", "pqtopk", "faiss")
METHODS = ["numpy", *PEERS, "recjpqprune", "cpu", "cpu-scan"]


def random_tables(rng, shape):
    return rng.standard_normal(shape)


def skewed_tables(rng, shape):
    return rng.standard_normal(shape) ** 5


def tied_tables(rng, shape):
    return rng.integers(-2, 3, size=shape)


def equal_tables(rng, shape):
    return np.ones(shape)


def tables_above_a_far_outlier(rng, shape):
    tables = rng.standard_normal(shape)
    tables[:, 0, 0] = 1e30
    return tables


@pytest.mark.parametrize(
    "make_tables", [random_tables, skewed_tables, tied_tables, equal_tables, tables_above_a_far_outlier]
)
@pytest.mark.parametrize(
    ("num_items", "splits", "sub_ids"), [(2000, 8, 256), (999, 4, 7), (64, 8, 2), (1, 3, 1)]
)
@pytest.mark.parametrize("group", [1, 8])
def test_recjpqprune_is_exact(make_tables, num_items, splits, sub_ids, group):
    rng = np.random.default_rng(num_items)
    codes = rng.integers(0, sub_ids, size=(num_items, splits), dtype=np.uint8)
    tables = make_tables(rng, (3, splits, sub_ids)).astype(np.float32)
    allow = rng.random(num_items) < 0.5
    specification, prune = load_scorer(codes, "numpy"), RecJPQPrune(codes, sub_ids, group)
    for k in (1, 10, 100, num_items + 1):
        for filter_, barred in ((None, None), (allow, bits(~allow))):
            for table, expected in zip(tables, specification.top_k(tables, k, allow=filter_), strict=True):
                assert same_bits(prune.top_k(table, k, barred), expected) is None


def test_recjpqprune_scores_few_items_where_tables_are_skewed():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, size=(20_000, 4), dtype=np.uint8)
    table = rng.standard_normal((4, 256)).astype(np.float32)
    table[0, 5] += 1000
    prune = RecJPQPrune(codes, 256, group=1)
    prune.top_k(table, 10)
    assert prune.num_scored == np.count_nonzero(codes[:, 0] == 5)


def test_recjpqprune_finds_a_tie_of_lower_index_at_the_bound():
    """Item 1 is met first; item 0 could only tie, and must still be looked for."""
    codes = np.array([[1, 0], [0, 1]], dtype=np.uint8)
    table = np.array([[2, 1], [1, 0]], dtype=np.float32)  # both score 2
    assert RecJPQPrune(codes, 2, group=1).top_k(table, 1).ids.tolist() == [0]


def test_factorised_tables_are_reproduced():
    workload = data.gaussian(10, num_queries=80)
    sub_embeddings, queries = data.factorise(workload.tables, data.WIDTH)
    assert sub_embeddings.shape == workload.sub_embeddings.shape
    assert np.allclose(np.einsum("qmw,mvw->qmv", queries, sub_embeddings), workload.tables, atol=1e-4)
    with pytest.raises(ValueError, match="not of rank 8"):
        data.factorise(workload.tables, 8)


def test_resampled_codes_stay_near_and_queries_stay():
    real = data.gaussian(500, num_queries=4)
    larger = data.resampled(real, 2000)
    assert larger.codes.shape == (2000, data.NUM_SPLITS)
    assert larger.kind == "resampled"
    kept = (larger.codes[:, None] == real.codes[None]).sum(axis=2).max(axis=1)  # splits shared with one item
    assert 0.7 < kept.mean() / data.NUM_SPLITS < 0.85
    assert larger.tables is real.tables


@pytest.fixture
def trained_run(tmp_path) -> tuple[Path, Path]:
    """An artifact, and the directory of the histories it was made from."""
    pytest.importorskip("onnxruntime")
    source = load_artifact(ARTIFACT)
    artifact = write_artifact(
        tmp_path / "artifacts",
        # The graph's tables have full rank: 4 splits of 16 sub-ids.
        replace(source.manifest.model, dim=4 * 16, data={"fingerprint": "abc"}),
        encoder=source.encoder_path.read_bytes(),
        recommender=source.recommender_path.read_bytes(),
        item_codes=np.array(source.catalogue.item_codes),
        items=pq.read_table(ARTIFACT / "items.parquet"),
        golden=source.golden,
    )
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    lengths = [1, *[2, 5, 20] * 8]  # the first user has nothing but the interaction that is held out
    np.save(dataset / "offsets.npy", np.cumsum([0, *lengths]))
    np.save(dataset / "items.npy", np.random.default_rng(0).integers(60, size=sum(lengths), dtype=np.int32))
    (dataset / "dataset.json").write_text('{"fingerprint": "abc"}')
    return artifact, dataset


def test_trained_workload_is_the_encoders_tables_of_held_out_histories(trained_run):
    artifact, dataset = trained_run
    workload = data.trained(artifact.parent, dataset, num_queries=100)
    assert workload.tables.shape == (24, 4, 16)  # every user with at least two interactions
    products = np.einsum("qmw,mvw->qmv", workload.queries, workload.sub_embeddings)
    assert np.allclose(products, workload.tables, atol=1e-4)
    items, offsets = np.load(dataset / "items.npy"), np.load(dataset / "offsets.npy")
    histories = [items[start : end - 1][-8:] for start, end in pairwise(offsets) if end - start > 1]
    expected = {encoded(artifact, workload.codes[history]).tobytes() for history in histories}
    assert {table.tobytes() for table in workload.tables} == expected


def encoded(artifact: Path, codes):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(artifact / "encoder.onnx"), providers=["CPUExecutionProvider"])
    (tables,) = session.run(None, {"item_codes": codes[None], "lengths": np.array([len(codes)])})
    return tables[0]


def test_another_dataset_is_refused(trained_run):
    artifact, dataset = trained_run
    (dataset / "dataset.json").write_text('{"fingerprint": "other"}')
    with pytest.raises(ValueError, match="not the dataset"):
        data.trained(artifact, dataset, num_queries=1)


def workload_of_ties() -> Workload:
    codes = np.array([[0], [1], [1], [2]], dtype=np.uint8)
    sub_embeddings = np.array([[[3.0], [2.0], [1.0]]], dtype=np.float32)
    queries = np.ones((1, 1, 1), dtype=np.float32)
    return Workload("ties", "gaussian", codes, sub_embeddings, queries, sub_embeddings.reshape(1, 1, 3))


def top(ids, scores):
    return TopK(np.array(ids, dtype=np.int32), np.array(scores, dtype=np.float32))


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (top([0, 2], [3, 2]), None),  # the tie broken otherwise
        (top([0, 3], [3, 1]), "differ from the best"),
        (top([0, 3], [3, 2]), "differ from those of the items"),
        (top([0, 0], [3, 3]), "1 different items"),
        (top([0], [3]), "1 different items"),
    ],
)
def test_judge_allows_peers_other_ties_only(found, fault):
    said = near(found, top([0, 1], [3, 2]), workload_of_ties(), 0)
    assert said is None if fault is None else fault in said


def test_judge_allows_our_own_methods_nothing():
    assert "items" in same_bits(top([0, 2], [3, 2]), top([0, 1], [3, 2]))
    assert "scores" in same_bits(top([0, 1], [3, 2.0000002]), top([0, 1], [3, 2]))


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    for module in ("torch", "faiss", "matplotlib"):
        pytest.importorskip(module)
    path = tmp_path_factory.mktemp("bench") / "scoring.json"
    arguments = ["--items", "2000", "--queries", "4", "--k", "10", "--seconds", "0.1", "--batch", "4"]
    assert scoring.main([*arguments, "--methods", *METHODS, "--output", str(path)]) == 0
    return path


def test_every_method_is_measured(results):
    found = json.loads(results.read_text())
    assert [row["method"] for row in found["latency"]] == 2 * METHODS
    assert {row["caches"] for row in found["latency"]} == {"warm", "cold"}
    for row in found["latency"]:
        assert 0 < row["min_ms"] <= row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["queries"] == 4
    assert {row["filter"] for row in found["filters"]} >= {"none", "allow half (bitmap)", "exclude 1000"}
    assert {row["method"] for row in found["throughput"]} == {"cpu", "recjpqprune", "faiss", "matmul"}
    assert {row["method"] for row in found["memory"]} == set(METHODS) - {"cpu-scan"}
    assert all("peak_with_codes_bytes" in row for row in found["memory"])
    assert [row["ratio_p50"] > 0 for row in found["worst_case"]] == [True]


def test_report_renews_only_what_is_between_the_marks(results, tmp_path):
    readme, details, picture = tmp_path / "README.md", tmp_path / "scoring.md", tmp_path / "docs" / "plot.svg"
    for path in (readme, details):
        path.write_text(f"before\n{report.BEGIN}\nstale\n{report.END}\nafter\n")
    arguments = [str(results), "--readme", str(readme), "--details", str(details), "--plot", str(picture)]
    assert report.main(arguments) == 0
    written = [path.read_text() for path in (readme, details)]
    for text in written:
        assert text.startswith(f"before\n{report.BEGIN}\nMeasured on 20")
        assert text.endswith(f"{report.END}\nafter\n")
        assert "| FAISS IndexPQ | " in text
        assert "stale" not in text
    assert picture.stat().st_size < 200_000
    again = picture.read_bytes()
    assert report.main(arguments) == 0
    assert ([path.read_text() for path in (readme, details)], picture.read_bytes()) == (written, again)


def test_report_refuses_a_readme_without_marks(results, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("nothing\n")
    assert report.main([str(results), "--readme", str(readme), "--plot", str(tmp_path / "plot.svg")]) == 1
    assert report.BEGIN in capsys.readouterr().err


def test_an_inexact_method_is_not_timed(monkeypatch, tmp_path, capsys):
    specification = CANDIDATES[0]
    monkeypatch.setattr(scoring, "CANDIDATES", (specification, off_by_one_place()))
    arguments = ["--items", "100", "--queries", "2", "--k", "3", "--output", str(tmp_path / "scoring.json")]
    assert scoring.main(arguments) == 1
    assert "off-by-one, gaussian-100, query 0, k=3" in capsys.readouterr().err
    assert not (tmp_path / "scoring.json").exists()


def off_by_one_place():
    def build(workload):
        exact = CANDIDATES[0].build(workload).query

        def query(index, k):
            best = exact(index, k + 1)
            return TopK(best.ids[1:], best.scores[1:])

        return Method(query)

    return replace(CANDIDATES[0], name="off-by-one", build=build)
