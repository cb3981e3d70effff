"""What the encoder accepts and refuses."""

import ctypes
from dataclasses import replace

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from recjpq.artifact import load_artifact
from recjpq.errors import ArtifactDtypeError, ArtifactShapeError
from recjpq.scoring import DeviceTables, load_scorer
from service.encoder import OnnxEncoder, check_device, check_distributions, encode_on
from service.errors import RuntimeUnavailableError
from tests.recjpq.gpu import need_gpu

GOOD = "encoder (uint8[B, L, 2] item_codes, int64[B] lengths) => (float[B, 2, 4] score_tables)"


def graph_of(signature):
    """A graph with a signature and next to nothing in it."""
    head = f'<ir_version: 9, opset_import: ["" : 18]> {signature}'
    text = f"{head} {{ score_tables = Constant<value = float[1] {{0}}>() }}"
    return onnx.parser.parse_model(text).SerializeToString()


@pytest.fixture
def model(artifact):
    return load_artifact(artifact).manifest.model


@pytest.fixture
def open_graph(tmp_path, model):
    def open_graph(graph):
        path = tmp_path / "encoder.onnx"
        path.write_bytes(graph)
        return OnnxEncoder.open(path, model, "cpu", 1)

    return open_graph


def test_lengths_and_batches_are_free_and_padding_does_not_matter(artifact, model):
    encoder = OnnxEncoder.open(artifact / "encoder.onnx", model, "auto", 1)
    assert encoder.providers == ["CPUExecutionProvider"]
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 4, size=(3, 5, 2), dtype=np.uint8)
    lengths = np.array([5, 2, 1])
    tables = encoder.encode(codes, lengths)
    assert (tables.shape, tables.dtype) == ((3, 2, 4), np.float32)
    for row, length in enumerate(lengths):
        alone = encoder.encode(codes[row : row + 1, :length], np.array([length]))
        np.testing.assert_allclose(alone[0], tables[row], rtol=1e-5)


@pytest.mark.parametrize(
    ("signature", "error", "message"),
    [
        (GOOD.replace("item_codes", "items"), ArtifactShapeError, "has .*'items'.*expected .*'item_codes'"),
        (GOOD.replace("uint8", "int64"), ArtifactDtypeError, r"item_codes is .*int64\), expected .*uint8"),
        (GOOD.replace("int64[B]", "int32[B]"), ArtifactDtypeError, r"lengths is tensor\(int32\)"),
        (GOOD.replace("uint8[B, L, 2]", "uint8[B, 50, 2]"), ArtifactShapeError, r"item_codes has shape .*50"),
        (GOOD.replace("uint8[B, L, 2]", "uint8[1, L, 2]"), ArtifactShapeError, r"item_codes has shape \[1"),
        (GOOD.replace("uint8[B, L, 2]", "uint8[B, L, 3]"), ArtifactShapeError, r"expected \[None, None, 2\]"),
        (GOOD.replace("int64[B]", "int64[B, 1]"), ArtifactShapeError, "lengths has shape"),
        (GOOD.replace("float[B, 2, 4]", "float[B, 2, 5]"), ArtifactShapeError, "score_tables has shape"),
    ],
)  # fmt: skip
def test_a_graph_that_is_not_the_encoder_is_refused(open_graph, signature, error, message):
    with pytest.raises(error, match=message):
        open_graph(graph_of(signature))


def test_what_is_no_graph_is_refused(open_graph):
    with pytest.raises(ArtifactShapeError, match=r"cannot load this graph .*export it again"):
        open_graph(b"not a graph")


def test_a_graph_of_another_model_is_refused(artifact, model):
    with pytest.raises(ArtifactShapeError, match=r"expected \[None, None, 8\]"):
        OnnxEncoder.open(artifact / "encoder.onnx", replace(model, num_splits=8), "cpu", 1)


def test_both_builds_of_the_runtime_are_refused_with_the_remedy():
    with pytest.raises(RuntimeUnavailableError, match="pip uninstall -y onnxruntime onnxruntime-gpu"):
        check_distributions({"numpy", "onnxruntime", "onnxruntime-gpu"})
    check_distributions({"numpy", "onnxruntime"})
    check_distributions({"onnxruntime-gpu"})


def test_only_the_session_says_whether_there_is_a_gpu():
    with pytest.raises(RuntimeUnavailableError, match=r"no usable GPU.*RECJPQ_DEVICE"):
        check_device("cuda", ["CPUExecutionProvider"])
    check_device("cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"])
    check_device("auto", ["CPUExecutionProvider"])


def example(rows=3, length=5):
    rng = np.random.default_rng(1)
    return rng.integers(0, 4, size=(rows, length, 2), dtype=np.uint8), np.array([length] * rows)


def test_tables_stay_where_a_bound_run_left_them(artifact):
    """On the CPU, whose memory can be looked at; a GPU differs in the name of the device."""
    session = onnxruntime.InferenceSession(str(artifact / "encoder.onnx"), providers=["CPUExecutionProvider"])
    codes, lengths = example()
    (expected,) = session.run(None, {"item_codes": codes, "lengths": lengths})
    tables = encode_on(session, "cpu", codes, lengths)
    found = (ctypes.c_float * expected.size).from_address(tables.address)
    assert tables.shape == expected.shape
    assert np.array_equal(np.array(found).reshape(expected.shape), expected)
    assert np.array_equal(np.asarray(tables[1:2]), expected[1:2])


def test_each_bound_run_has_tables_of_its_own(artifact):
    session = onnxruntime.InferenceSession(str(artifact / "encoder.onnx"), providers=["CPUExecutionProvider"])
    (codes, lengths), (others, _) = example(), example(rows=2)
    kept = encode_on(session, "cpu", codes, lengths)
    before = np.asarray(kept).copy()
    encode_on(session, "cpu", others, lengths[:2])
    assert np.array_equal(np.asarray(kept), before)


def test_without_a_gpu_tables_are_arrays(artifact, model):
    encoder = OnnxEncoder.open(artifact / "encoder.onnx", model, "cpu", 1)
    assert np.array_equal(encoder.encode_in_place(*example()), encoder.encode(*example()))


@pytest.mark.gpu
def test_a_gpu_keeps_its_tables(artifact, model):
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("cuda: this ONNX Runtime is the build for CPUs (recjpq[cpu], not recjpq[gpu])")
    need_gpu()
    encoder = OnnxEncoder.open(artifact / "encoder.onnx", model, "cuda", 1)
    tables = encoder.encode_in_place(*example())
    assert isinstance(tables, DeviceTables)
    np.testing.assert_allclose(np.asarray(tables), encoder.encode(*example()), rtol=1e-6)
    scorer = load_scorer(load_artifact(artifact).catalogue.item_codes, "cuda")
    for best, wanted in zip(scorer.top_k(tables, 3), scorer.top_k(np.asarray(tables), 3), strict=True):
        assert np.array_equal(best.ids, wanted.ids)
