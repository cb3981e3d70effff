"""Artifacts that are wrong: each way of being wrong is refused by the error that names it."""

import io
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjpq import errors
from recjpq.artifact import load_artifact
from recjpq.errors import (
    ArtifactChecksumError,
    ArtifactCodeRangeError,
    ArtifactDtypeError,
    ArtifactError,
    ArtifactFileMissingError,
    ArtifactIncompleteError,
    ArtifactNotFoundError,
    ArtifactShapeError,
    ArtifactSizeError,
    CatalogueError,
    RecJPQError,
)

ReplaceFile = Callable[[Path, bytes], None]

FILES = [
    "encoder.onnx", "golden.npz", "item_codes.npy", "items.parquet", "recommender.onnx", "sub_embeddings.npy",
]  # fmt: skip


@pytest.fixture
def path(tiny: Any, tmp_path: Path) -> Path:
    """A written artifact of 6 items, M=2, V=4, L=3, to be made wrong."""
    return tiny.write(tmp_path)


def refusal(path: Path, error: type[RecJPQError]) -> str:
    """The message with which an artifact is refused, by exactly this error."""
    with pytest.raises(RecJPQError) as raised:
        load_artifact(path)
    assert raised.type is error
    assert str(path) in str(raised.value) or error is CatalogueError
    return str(raised.value)


def test_the_tree_of_errors_is_the_one_drawn() -> None:
    drawn = {line.split("── ")[1].split()[0] for line in errors.__doc__.splitlines() if "── " in line}
    raised = {name for name in vars(errors) if name.endswith("Error")} - {"RecJPQError"}
    assert drawn == raised
    below = {name for name in raised if issubclass(vars(errors)[name], ArtifactError)}
    assert below == {name for name in raised if name.startswith("Artifact")}
    assert all(issubclass(vars(errors)[name], RecJPQError) for name in raised)


# ---------------------------------------------------------------- directory and files


def test_no_directory(tmp_path: Path) -> None:
    assert "no such directory" in refusal(tmp_path / "nowhere", ArtifactNotFoundError)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "no such directory" in refusal(tmp_path / "file", ArtifactNotFoundError)


def test_no_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()
    assert "no manifest.json, so this is no finished artifact" in refusal(path, ArtifactIncompleteError)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(path: Path, name: str) -> None:
    (path / name).unlink()
    assert f"{name}: missing, the manifest lists it" in refusal(path, ArtifactFileMissingError)


@pytest.mark.parametrize("name", FILES)
def test_a_directory_in_place_of_a_file(path: Path, name: str) -> None:
    (path / name).unlink()
    (path / name).mkdir()
    refusal(path, ArtifactFileMissingError)


@pytest.mark.parametrize("change", [-1, 1], ids=["truncated", "longer"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_size(path: Path, name: str, change: int) -> None:
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[:-1] if change < 0 else content + b"\n")
    message = refusal(path, ArtifactSizeError)
    assert f"{name}: found {len(content) + change} bytes, expected {len(content)}" in message


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0], ids=["first", "middle", "last"])
@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit(path: Path, name: str, where: float) -> None:
    content = bytearray((path / name).read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    (path / name).write_bytes(content)
    assert f"{name}: found sha256 " in refusal(path, ArtifactChecksumError)


def test_other_files_are_left_alone(path: Path) -> None:
    (path / "README").write_text("hello")
    assert load_artifact(path).path == path


def test_a_linked_artifact_loads(path: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(path)
    assert load_artifact(tmp_path / "current").manifest.model.version == "v1"


# ---------------------------------------------------------------- codes, with digests that agree


def npy(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


class Bomb:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was loaded",)


PICKLED = npy(np.array([Bomb()], dtype=object), allow_pickle=True)

NOT_ARRAYS = {
    "empty": b"",
    "text": b"these are not codes",
    "archive": npz(codes=np.zeros((6, 2), np.uint8)),
    "cut archive": b"PK\x03\x04",
    "header only": npy(np.zeros((6, 2), np.uint8))[:128],
    "half a header": npy(np.zeros((6, 2), np.uint8))[:50],
    "pickle": PICKLED,
}


@pytest.mark.parametrize("content", NOT_ARRAYS.values(), ids=NOT_ARRAYS.keys())
def test_codes_that_are_no_array(path: Path, replace_file: ReplaceFile, content: bytes) -> None:
    replace_file(path / "item_codes.npy", content)
    assert "item_codes.npy: not a NumPy array file" in refusal(path, ArtifactDtypeError)


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint16", "float32", "bool", "S1"])
def test_codes_of_another_type(path: Path, replace_file: ReplaceFile, dtype: str) -> None:
    codes = np.zeros((6, 2), dtype)
    replace_file(path / "item_codes.npy", npy(codes))
    assert f"found dtype {codes.dtype}, expected uint8" in refusal(path, ArtifactDtypeError)


@pytest.mark.parametrize(
    "shape", [(5, 2), (7, 2), (6, 1), (6, 3), (2, 6), (12,), (6, 2, 1), (1, 6, 2)], ids=str
)
def test_codes_of_another_shape(path: Path, replace_file: ReplaceFile, shape: tuple[int, ...]) -> None:
    replace_file(path / "item_codes.npy", npy(np.zeros(shape, np.uint8)))
    assert f"found shape {shape}, the manifest says (6, 2)" in refusal(path, ArtifactShapeError)


@pytest.mark.parametrize("sub_id", [4, 255])
def test_a_code_out_of_range(tiny: Any, path: Path, replace_file: ReplaceFile, sub_id: int) -> None:
    item_codes = tiny.item_codes.copy()
    item_codes[5, 1] = sub_id
    replace_file(path / "item_codes.npy", npy(item_codes))
    assert f"found sub-id {sub_id}, expected less than V=4" in refusal(path, ArtifactCodeRangeError)


# ---------------------------------------------------------------- sub-embeddings


@pytest.mark.parametrize("content", NOT_ARRAYS.values(), ids=NOT_ARRAYS.keys())
def test_sub_embeddings_that_are_no_array(path: Path, replace_file: ReplaceFile, content: bytes) -> None:
    replace_file(path / "sub_embeddings.npy", content)
    assert "sub_embeddings.npy: not a NumPy array file" in refusal(path, ArtifactDtypeError)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "bool"])
def test_sub_embeddings_of_another_type(path: Path, replace_file: ReplaceFile, dtype: str) -> None:
    replace_file(path / "sub_embeddings.npy", npy(np.zeros((2, 4, 4), dtype)))
    assert f"found dtype {dtype}, expected float32" in refusal(path, ArtifactDtypeError)


@pytest.mark.parametrize(
    "shape", [(), (8,), (2, 4), (2, 4, 0), (2, 4, 5), (2, 4, 16), (4, 2, 4), (2, 3, 4), (2, 4, 4, 1)], ids=str
)
def test_sub_embeddings_of_another_shape(
    path: Path, replace_file: ReplaceFile, shape: tuple[int, ...]
) -> None:
    replace_file(path / "sub_embeddings.npy", npy(np.zeros(shape, np.float32)))
    assert f"found shape {shape}, the manifest says (2, 4, W), W being D=8 or D/M" in refusal(
        path, ArtifactShapeError
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sub_embeddings_that_are_not_finite(
    tiny: Any, path: Path, replace_file: ReplaceFile, value: float
) -> None:
    sub_embeddings = tiny.sub_embeddings.copy()
    sub_embeddings[1, 2, 3] = value
    replace_file(path / "sub_embeddings.npy", npy(sub_embeddings))
    assert "found NaN or infinity, expected finite float32" in refusal(path, ArtifactDtypeError)


# ---------------------------------------------------------------- golden histories and items


def golden_arrays(tiny: Any, **changes: np.ndarray) -> dict[str, np.ndarray]:
    golden = {field.name: getattr(tiny.golden, field.name) for field in fields(tiny.golden)}
    return golden | changes


NOT_GOLDEN = {
    "empty": b"",
    "text": b"these are not histories",
    "one array": npy(np.zeros(3)),
    "pickle": PICKLED,
    "cut archive": b"PK\x03\x04",
    "no arrays": npz(),
}


@pytest.mark.parametrize("content", NOT_GOLDEN.values(), ids=NOT_GOLDEN.keys())
def test_a_golden_file_that_is_none(path: Path, replace_file: ReplaceFile, content: bytes) -> None:
    replace_file(path / "golden.npz", content)
    assert "golden.npz: not the golden arrays of schema 1" in refusal(path, ArtifactShapeError)


NAMES = ["histories", "lengths", "score_tables", "top_ids", "top_scores"]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_golden_array(tiny: Any, path: Path, replace_file: ReplaceFile, name: str) -> None:
    arrays = golden_arrays(tiny)
    del arrays[name]
    replace_file(path / "golden.npz", npz(**arrays))
    assert f"not the golden arrays of schema 1 ('{name} is not a file" in refusal(path, ArtifactShapeError)


@pytest.mark.parametrize("name", NAMES)
def test_a_pickled_golden_array(tiny: Any, path: Path, replace_file: ReplaceFile, name: str) -> None:
    bomb = np.array([Bomb()], dtype=object)
    replace_file(path / "golden.npz", npz(**golden_arrays(tiny, **{name: bomb})))
    assert "Object arrays cannot be loaded" in refusal(path, ArtifactShapeError)


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_array_of_another_form(tiny: Any, path: Path, replace_file: ReplaceFile, name: str) -> None:
    right = golden_arrays(tiny)[name]
    for wrong in (right.astype(np.float64), right[None]):
        replace_file(path / "golden.npz", npz(**golden_arrays(tiny, **{name: wrong})))
        assert f"{name} is {wrong.dtype} {wrong.shape}, expected {right.dtype}" in refusal(
            path, ArtifactShapeError
        )


def int32(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.int32)


@pytest.mark.parametrize(
    "changes",
    [
        {"lengths": np.array([2])},
        {"score_tables": np.zeros((1, 2, 4), np.float32)},
        {"score_tables": np.zeros((2, 3, 4), np.float32)},
        {"score_tables": np.zeros((2, 2, 5), np.float32)},
        {"top_ids": int32([0, 1], [0, 1])},
        {"top_ids": int32([0, 1, 4]), "top_scores": np.zeros((1, 3), np.float32)},
        {"top_ids": np.zeros((2, 0), np.int32), "top_scores": np.zeros((2, 0), np.float32)},
        {"histories": np.zeros((2, 0), np.int32), "lengths": np.array([0, 0])},
        {"histories": np.zeros((2, 4), np.int32)},
        {
            "histories": np.zeros((0, 3), np.int32),
            "lengths": np.zeros(0, np.int64),
            "score_tables": np.zeros((0, 2, 4), np.float32),
            "top_ids": np.zeros((0, 3), np.int32),
            "top_scores": np.zeros((0, 3), np.float32),
        },
    ],
    ids=["lengths", "rows", "M", "V", "scores", "ids", "no ids", "empty histories", "L", "no histories"],
)
def test_golden_arrays_that_do_not_fit(
    tiny: Any, path: Path, replace_file: ReplaceFile, changes: dict[str, np.ndarray]
) -> None:
    replace_file(path / "golden.npz", npz(**golden_arrays(tiny, **changes)))
    assert "golden.npz: the arrays are empty, or do not fit" in refusal(path, ArtifactShapeError)


@pytest.mark.parametrize(
    "changes",
    [
        {"histories": int32([0, 6, 0], [5, 0, 0])},
        {"histories": int32([0, -1, 0], [5, 0, 0])},
        {"lengths": np.array([2, 0])},
        {"lengths": np.array([2, 4])},
        {"lengths": np.array([-1, 1])},
    ],
    ids=["index above", "index below", "length 0", "length above", "length below"],
)
def test_golden_histories_out_of_range(
    tiny: Any, path: Path, replace_file: ReplaceFile, changes: dict[str, np.ndarray]
) -> None:
    replace_file(path / "golden.npz", npz(**golden_arrays(tiny, **changes)))
    assert "a history holds an item index or length out of range" in refusal(path, ArtifactShapeError)


def test_items_that_are_no_parquet(path: Path, replace_file: ReplaceFile) -> None:
    replace_file(path / "items.parquet", b"item_id,count\na,1\n")
    assert "items.parquet: not a readable Parquet file" in refusal(path, CatalogueError)


def test_items_of_another_number(tiny: Any, path: Path, replace_file: ReplaceFile) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"item_id": ["a"], "count": [1]}), file)
    replace_file(path / "items.parquet", file.getvalue())
    assert refusal(path, CatalogueError) == "items: found 1 rows, expected N=6"


def test_a_model_that_misstates_its_sizes(
    tiny: Any, tmp_path: Path, edit_manifest: Callable[..., None]
) -> None:
    path = tiny.write(tmp_path)
    edit_manifest(path, num_items=7)
    assert "found shape (6, 2), the manifest says (7, 2)" in refusal(path, ArtifactShapeError)
