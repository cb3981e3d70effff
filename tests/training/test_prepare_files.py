"""`prepare` and files: none of the user's is lost, no row dropped in silence, what is damaged is told."""

from pathlib import Path

import polars as pl
import pytest
from pydantic import TypeAdapter, ValidationError

from service.api.schemas.base import Identifier
from tests.training.logs import prepare_text, sequences
from training.config import DataConfig
from training.dataset import Dataset
from training.errors import DataError, StageError
from training.prepare import prepare

INCH = (
    "user_id,item_id,name\n"
    + "a,x,one\n" * 5
    + 'a,y,12" vinyl\n'
    + "a,z,two\n" * 5
    + 'a,y,7" single\nb,x,one\n'
)


@pytest.mark.parametrize(
    "text",
    [
        INCH,
        "user_id,item_id\na,Mug\na,Mug, blue\n",
        "user_id,item_id,name\na,x,one\na,y,two,three\n",
        'user_id,item_id,name\na,x,"one\na,y,two\n',
    ],
)
def test_a_row_that_is_not_of_the_header_s_columns_is_refused_and_not_dropped(
    tmp_path: Path, text: str
) -> None:
    """Also where the column at fault is not read: polars, asked for the others alone, leaves rows out."""
    with pytest.raises(DataError, match=r"log\.csv: a row has more fields than the header, or a quote"):
        prepare_text(tmp_path, text)
    with pytest.raises(DataError, match=r"items\.csv: a row has more fields than the header, or a quote"):
        prepare_text(tmp_path, "user_id,item_id\na,x\n", metadata=text.replace("user_id", "colour"))


def test_quotes_line_breaks_and_columns_of_any_kind_are_no_fault(tmp_path: Path) -> None:
    text = 'user_id,item_id,name\na,"Mug, blue","12"" vinyl"\na,y,"two\nlines"\na,z,\n' + "a,w,5\n" * 200
    dataset = prepare_text(tmp_path, text + "a,v,1.5\n")
    assert sequences(dataset)[0][:3] == ["Mug, blue", "y", "z"]
    assert dataset.summary["interactions"] == 204


def test_files_that_are_not_the_stage_s_are_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    own = tmp_path / "dataset" / "events.csv"
    own.write_text("user_id,item_id\na,x\n")
    with pytest.raises(StageError, match=r"dataset: found events\.csv, expected only what this stage writes"):
        prepare(DataConfig(interactions=own), tmp_path / "dataset")
    assert [path.name for path in (tmp_path / "dataset").iterdir()] == ["events.csv"]


@pytest.mark.parametrize("damaged", ["", "{", "[]"])
def test_a_damaged_summary_is_made_anew(tmp_path: Path, damaged: str) -> None:
    text = "user_id,item_id\na,x\na,y\n"
    made = prepare_text(tmp_path, text).summary
    (tmp_path / "dataset" / "dataset.json").write_text(damaged)
    assert prepare_text(tmp_path, text).summary == made
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("content", [None, b"", b"no array"])
def test_a_damaged_array_is_told(tmp_path: Path, content: bytes | None) -> None:
    dataset = prepare_text(tmp_path, "user_id,item_id\na,x\na,y\n")
    (dataset.path / "items.npy").unlink()
    if content is not None:
        (dataset.path / "items.npy").write_bytes(content)
    with pytest.raises(StageError, match=r"items\.npy: missing or damaged .*; delete .*dataset and run"):
        Dataset.load(dataset.path)


def test_article_numbers_of_the_metadata_keep_their_zeros(tmp_path: Path) -> None:
    metadata = "item_id,ean,year\nx,0012345678905,1990\ny,17,0\n"
    dataset = prepare_text(tmp_path, "user_id,item_id\na,x\na,y\n", metadata=metadata)
    items = pl.read_parquet(dataset.path / "items.parquet")
    assert items["ean"].to_list() == ["0012345678905", "17"]
    assert items["year"].to_list() == [1990, 0]


@pytest.mark.parametrize("item_id", ["x" * 257, "tab\there", "\x85"])
def test_ids_that_the_service_would_refuse_are_refused(tmp_path: Path, item_id: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Identifier).validate_python(item_id)
    with pytest.raises(DataError, match=r"column 'item_id' has 1 ids that cannot be served \(first: "):
        prepare_text(tmp_path, f"user_id,item_id\na,{item_id}\na,y\n")
    assert prepare_text(tmp_path, f"user_id,item_id\n{item_id},{'x' * 256}\n").num_items == 1
    assert TypeAdapter(Identifier).validate_python("x" * 256)
