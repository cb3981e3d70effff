"""The command line: verbs, what they print, and one clear line for every error."""

from pathlib import Path

import pytest

from recjpq.artifact import find_artifact
from training.__main__ import main


@pytest.fixture
def config_path(cyclic_log: Path, tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(
        f"""
[run]
directory = "{tmp_path / "run"}"
name = "cyclic"
seed = 2
[data]
interactions = "{cyclic_log}"
time_column = "time"
[codes]
method = "random"
num_splits = 4
num_sub_ids = 16
[model]
dim = 16
max_length = 6
[train]
max_epochs = 1
learning_rate = 1e-9
validation_users = 20
"""
    )
    return path


def test_all_goes_from_the_log_to_an_artifact_and_again_finds_it_up_to_date(
    config_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Untrained, over random codes: it does not beat popularity.
    assert main(["all", "--config", str(config_path)]) == 2
    assert "or pass --force" in capsys.readouterr().err
    assert main(["all", "--config", str(config_path), "--force"]) == 0
    said = capsys.readouterr().out
    for stage in ("prepare", "codes", "train", "evaluate", "export"):
        assert f"== {stage}\n" in said
    assert "60 users, 40 items, 720 interactions, 12.0 a user" in said
    assert "ranking: full, over all 40 items" in said
    artifact = find_artifact(tmp_path / "run" / "artifacts")
    assert f"artifact: {artifact}\n" in said
    assert main(["all", "--config", str(config_path)]) == 0
    assert f"artifact: {artifact}, up to date\n" in capsys.readouterr().out
    assert len(list(artifact.parent.iterdir())) == 1
    assert main(["all", "--config", str(config_path), "--version", "v2", "--force"]) == 0
    assert sorted(path.name for path in artifact.parent.iterdir()) == sorted([artifact.name, "v2"])


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        ("codes", "dataset.json: missing; run `recjpq-train prepare` first"),
        ("train", "codes.json: missing; run `recjpq-train codes` first"),
        ("evaluate", "codes.json: missing; run `recjpq-train codes` first"),
        ("export", "report.json: missing; run `recjpq-train evaluate` first"),
    ],
)
def test_a_stage_says_which_one_comes_before_it(
    config_path: Path, capsys: pytest.CaptureFixture[str], verb: str, message: str
) -> None:
    if verb != "codes":
        assert main(["prepare", "--config", str(config_path)]) == 0
    assert main([verb, "--config", str(config_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"recjpq-train {verb}: ")
    assert message in error


def test_evaluate_before_train_says_so(config_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("prepare", "codes"):
        assert main([verb, "--config", str(config_path)]) == 0
    assert main(["evaluate", "--config", str(config_path)]) == 2
    assert "best.pt: missing; run `recjpq-train train` first" in capsys.readouterr().err


def test_a_configuration_error_is_one_line(config_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["all", "--config", str(config_path), "--set", "codes.method=kmeans"]) == 2
    assert (
        "codes.method is 'kmeans': input should be 'svd', 'bpr', 'graph', 'pq', 'qr' or 'random'"
        in capsys.readouterr().err
    )


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for verb in ("prepare", "codes", "train", "evaluate", "export", "all", "download"):
        assert verb in text


def test_assign_writes_the_codes_of_new_items(
    config_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("prepare", "codes", "train"):
        assert main([verb, "--config", str(config_path)]) == 0
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("item_id,similar_item_id\nnew,i03\n")
    assert main(["assign", "--config", str(config_path), "--items", str(pairs)]) == 0
    output = tmp_path / "run" / "new_items.parquet"
    assert output.exists()
    assert f"1 new items: {output}\n" in capsys.readouterr().out
