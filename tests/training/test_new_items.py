"""The verb `assign`: new items end where they belong, and clear refusals."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recjpq.scoring import load_scorer
from training.errors import DataError
from training.evaluate import torch_encoder
from training.new_items import NewItems, Sequences
from training.run import Run


@pytest.fixture(scope="module")
def later_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cycle of the training log goes on, and a new item stands where i05 stood."""
    starts = np.random.default_rng(1).integers(0, 40, size=50)
    items = [f"i{i:02d}" for start in starts for i in (start + np.arange(12)) % 40]
    path = tmp_path_factory.mktemp("later") / "later.csv"
    pl.DataFrame(
        {
            "user_id": np.repeat([f"v{u}" for u in range(50)], 12),
            "item_id": ["new" if item == "i05" else item for item in items],
            "time": np.tile(np.arange(12), 50),
        }
    ).write_csv(path)
    return path


def recommended_after(run: Run, history: list[int], new: NewItems) -> list[int]:
    codes = np.concatenate([np.asarray(run.codes().item_codes), new.item_codes])
    tables = torch_encoder(run.best_model())(np.array([history]), np.array([len(history)]))
    return load_scorer(codes).top_k(tables, 3)[0].ids.tolist()


def test_a_new_item_is_recommended_where_it_was_chosen_and_not_elsewhere(
    trained: Run, later_log: Path
) -> None:
    new = trained.assign(later_log)
    assert list(new.item_ids) == ["new"]
    assert new.item_codes.shape == (1, 4)
    assert new.item_codes.max() < 16
    assert 40 in recommended_after(trained, [2, 3, 4], new)
    assert 40 not in recommended_after(trained, [22, 23, 24], new)
    assert np.array_equal(new.item_codes, trained.assign(later_log).item_codes)


def test_pairs_of_similar_items_vote(trained: Run, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("item_id,similar_item_id,weight\nnew,i03,1\nnew,i05,3\nother,i07,1\nnew,i04,1\n")
    new = trained.assign(path)
    assert list(new.item_ids) == ["new", "other"]
    known = trained.codes().item_codes
    assert np.array_equal(new.item_codes, known[[5, 7]])
    assert new.observations.tolist() == [3, 1]
    new.write(tmp_path / "out.parquet")
    written = pl.read_parquet(tmp_path / "out.parquet")
    assert written["item_id"].to_list() == ["new", "other"]
    assert written["codes"].to_list() == known[[5, 7]].tolist()


def test_an_item_that_only_begins_sequences_takes_the_votes_of_what_follows(
    trained: Run, tmp_path: Path
) -> None:
    path = tmp_path / "later.csv"
    path.write_text("user_id,item_id,time\na,new,0\na,i05,1\nb,new,0\nb,i05,1\nb,i06,2\n")
    new = trained.assign(path)
    assert np.array_equal(new.item_codes[0], trained.codes().item_codes[5])
    assert new.observations.tolist() == [2]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("user_id,item_id,time\na,i01,0\na,i02,1\n", "every item is in the catalogue already"),
        ("user_id,item_id,time\na,i01,0\na,i02,1\nb,new,0\n", "1 new items have no known item .*'new'"),
        ("user_id,item_id,time\na,new,0\n", "no interaction after one with a known item"),
        ("item_id,similar_item_id\nnew,nothing\n", "1 similar items are not in the catalogue .*'nothing'"),
        ("item_id,similar_item_id\ni01,i02\n", "1 rows name items of the catalogue as new .*'i01'"),
        ("id,similar_item_id\nnew,i02\n", "no column 'item_id'"),
        ("item_id,similar_item_id\n", "found 0 rows, expected a new item and a similar one"),
        ("item_id,similar_item_id\nnew,i02\n,i03\n", "'item_id' is null in 1 of 2 rows .*row 2"),
        ('item_id,similar_item_id\nnew,i02\n"",i03\n', "'item_id' is the empty text in 1 of 2 rows"),
        ("item_id,similar_item_id\nnew,\n", "'similar_item_id' is null in 1 of 1 rows"),
        (
            "item_id,similar_item_id,weight\nnew,i02,1\nnew,i03,much\n",
            "'weight' is no number .*row 2, 'much'",
        ),
        ("item_id,similar_item_id,weight\nnew,i02,-1\n", "'weight' is no number from 0 up .*row 1, -1"),
        ("user_id,time\na,0\n", "no column 'item_id'"),
    ],
)
def test_a_file_that_does_not_say_enough_is_refused(
    rows: str, message: str, trained: Run, tmp_path: Path
) -> None:
    path = tmp_path / "items.csv"
    path.write_text(rows)
    with pytest.raises(DataError, match=message):
        trained.assign(path)


def test_contexts_are_the_known_items_before() -> None:
    items = np.array([0, 9, 1, 2, 9, 3, 9], dtype=np.int32)  # 9 is new
    cases = Sequences(items, np.array([0, 4, 7])).contexts(9)
    histories = [cases.history(case).tolist() for case in range(len(cases))]
    assert histories == [[0], [0], [0, 1], [3]]
    assert cases.targets.tolist() == [9, 1, 2, 9]
    assert Sequences(items, np.array([0, 4, 7])).followers(9, 9).tolist() == [1, 3]
