"""The temporal split: one point in time, and nothing from its other side."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.config import Config, SplitConfig
from training.dataset import Dataset
from training.errors import DataError
from training.run import Run
from training.split import Split, cut_time


def _dataset(times: list[list[int]]) -> Dataset:
    """Items 0, 1, 2, ... in the order of the log."""
    offsets = np.cumsum([0, *(len(user) for user in times)])
    flat = np.array([time for user in times for time in user], dtype=np.int64)
    return Dataset(
        Path(), np.arange(len(flat), dtype=np.int32), offsets, len(flat), {"fingerprint": "x"}, flat
    )


@pytest.fixture
def dataset() -> Dataset:
    """T = 10. Known and back | known and gone | all new | one event on either side | known and back late."""
    return _dataset([[1, 5, 9, 10, 12], [2, 3], [10, 11], [9, 30], [7, 8, 40]])


def test_each_user_tests_the_first_interaction_from_t_on(dataset: Dataset) -> None:
    cases = Split.temporal(dataset, 10, validation_users=0, seed=0).test_cases()
    histories = [cases.history(case).tolist() for case in range(len(cases))]
    assert histories == [[0, 1, 2], [9], [11, 12]]
    assert cases.targets.tolist() == [3, 10, 13]


def test_training_is_before_t_and_cold_users_are_counted(dataset: Dataset) -> None:
    split = Split.temporal(dataset, 10, validation_users=0, seed=0)
    assert split.training_interactions()[1].tolist() == [0, 1, 2, 5, 6, 9, 11, 12]
    assert split.protocol["cold_users"] == 1
    assert "T = 10" in split.protocol["split"]


def test_validation_is_the_end_of_training_of_those_who_were_active_last(dataset: Dataset) -> None:
    split = Split.temporal(dataset, 10, validation_users=2, seed=0)
    assert split.validation_users.tolist() == [0, 4]
    validation, test = split.validation_cases(), split.test_cases()
    assert [validation.history(case).tolist() for case in range(2)] == [[0, 1], [11]]
    assert validation.targets.tolist() == [2, 12]
    assert test.history(0).tolist() == [0, 1, 2]  # the validation item is known when the test comes
    assert split.protocol["cold_users"] == 1


@given(
    times=st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=8).map(sorted), min_size=1, max_size=8),
    cut=st.integers(-1, 22),
    wanted=st.integers(0, 4),
    seed=st.integers(0, 3),
)
def test_nothing_leaks(times: list[list[int]], cut: int, wanted: int, seed: int) -> None:
    dataset = _dataset(times)
    split = Split.temporal(dataset, cut, wanted, seed)
    assert dataset.times is not None
    _, trained = split.training_interactions()
    assert (dataset.times[trained] < cut).all()
    test, validation = split.test_cases(), split.validation_cases()
    assert (dataset.times[test.targets] >= cut).all()
    for case in range(len(test)):
        assert (dataset.times[test.history(case)] < cut).all()
        assert test.targets[case] == test.history(case)[-1] + 1
    assert (dataset.times[validation.targets] < cut).all()
    assert not np.isin(np.concatenate([test.targets, validation.targets]), trained).any()
    known = sum(time < cut for user in times for time in user)
    assert len(trained) + len(validation) == known
    both = sum(user[0] < cut <= user[-1] for user in times)
    assert (len(test), split.protocol["cold_users"]) == (both, sum(user[0] >= cut for user in times))


def test_t_leaves_the_share_and_ties_behind_it() -> None:
    dataset = _dataset([[1, 2, 3, 4, 5], [6, 7, 8, 8, 8]])
    assert cut_time(SplitConfig(method="temporal", test_share=0.5), dataset) == 6
    assert cut_time(SplitConfig(method="temporal", test_share=0.1), dataset) == 8


def test_t_may_be_a_date() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    second = int(start.timestamp()) * 10**6
    dataset = _dataset([[second - 1, second, second + 1]])
    for given_date in ("2026-01-01", "2026-01-01T01:00:00+01:00", start, second):
        config = SplitConfig.model_validate({"method": "temporal", "test_from": given_date})
        assert cut_time(config, dataset) == second


@pytest.mark.parametrize("wrong", [1, 13, "2026-01-01"])
def test_a_t_with_nothing_on_one_side_is_refused(wrong: int | str) -> None:
    config = SplitConfig.model_validate({"method": "temporal", "test_from": wrong})
    with pytest.raises(DataError, match=r"T is \d+, expected more than the first time, 1, and at most .* 12"):
        cut_time(config, _dataset([[1, 5, 12]]))


def test_a_log_without_times_is_refused(make_config: Callable[..., Config]) -> None:
    with pytest.raises(ValueError, match=r"split\.method is 'temporal', which needs .* data\.time_column"):
        make_config(split={"method": "temporal"}, data={"time_column": None})


def test_a_temporal_run_says_so_and_is_not_taken_for_another(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    log = tmp_path / "log.csv"
    walk = {"item_id": [(start + step) % 9 for start in range(12) for step in range(6)]}
    day = [f"2026-01-{1 + start + step:02d}" for start in range(12) for step in range(6)]
    pl.DataFrame({"user_id": [u for u in range(12) for _ in range(6)], **walk, "time": day}).write_csv(log)
    data = {"interactions": log, "metadata": None}
    codes = []
    for split in ({"method": "leave_one_out"}, {"method": "temporal", "test_from": "2026-01-10"}):
        run = Run(make_config(split=split, data=data, train={"max_epochs": 1}))
        run.prepare()
        codes.append(run.codes().fingerprint)
    run.train()
    protocol = run.evaluate()["protocol"]
    assert codes[0] != codes[1]
    assert "before T = 2026-01-10T00:00:00+00:00" in protocol["split"]
    assert (protocol["cold_users"], protocol["cases"]) == (3, 5)
