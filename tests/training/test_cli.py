"""The command line: verbs, what they print, and one clear line for every error."""

import fcntl
import json
from pathlib import Path

import polars as pl
import pytest

from recjpq.artifact import find_artifact
from training.__main__ import main
from training.run import Run
from training.train import Interrupted


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
    assert main(["all", "--config", str(config_path)]) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["bytes"]["served"] > 0  # still known, though nothing was exported


def test_another_title_is_another_artifact_of_the_same_weights(
    config_path: Path, cyclic_log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    titles, best = tmp_path / "titles.csv", tmp_path / "run" / "checkpoints" / "best.pt"
    titles.write_text((cyclic_log.parent / "items.csv").read_text())
    command = ["all", "--config", str(config_path), "--force", "--set", f"data.metadata={titles}"]
    assert main([*command, "--version", "v1"]) == 0
    trained = best.read_bytes()
    titles.write_text(titles.read_text().replace("Title 7\n", "Another title\n"))
    assert main(command) == 0
    assert best.read_bytes() == trained
    versions = (tmp_path / "run" / "artifacts").iterdir()
    titles_of = {path.name: pl.read_parquet(path / "items.parquet")["title"][7] for path in versions}
    assert titles_of.pop("v1") == "Title 7"
    assert list(titles_of.values()) == ["Another title"]


def test_two_commands_do_not_write_one_directory_at_once(
    config_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", "--config", str(config_path)]) == 0
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for verb in ("prepare", "codes", "train", "all"):
            assert main([verb, "--config", str(config_path)]) == 2
            assert "run: another recjpq-train is at work here; wait until it ends" in capsys.readouterr().err
    assert main(["codes", "--config", str(config_path)]) == 0


@pytest.mark.parametrize("verb", ["prepare", "all"])
def test_what_cannot_be_written_is_one_line(
    config_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    (tmp_path / "run").write_text("no directory")
    assert main([verb, "--config", str(config_path)]) == 2
    assert capsys.readouterr().err == f"recjpq-train {verb}: {tmp_path}/run: File exists\n"


def test_checkpoints_that_cannot_be_written_are_told_before_an_epoch(
    config_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("prepare", "codes"):
        assert main([verb, "--config", str(config_path)]) == 0
    (tmp_path / "run" / "checkpoints").write_text("no directory")
    assert main(["train", "--config", str(config_path)]) == 2
    said = capsys.readouterr()
    assert "checkpoints: File exists" in said.err
    assert "epoch 1" not in said.out


@pytest.mark.parametrize(
    ("options", "told"), [([], "command goes"), (["--restart"], "without --restart goes")]
)
def test_an_interrupted_command_says_which_one_goes_on(
    config_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    options: list[str], told: str,
) -> None:  # fmt: skip
    def interrupted(_run: Run, *, restart: bool) -> None:
        raise Interrupted

    monkeypatch.setattr(Run, "train", interrupted)
    assert main(["all", "--config", str(config_path), *options]) == 130
    assert f"{told} on from the last checkpoint" in capsys.readouterr().err


def test_weights_that_are_lost_are_made_anew_by_restart(
    config_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["all", "--config", str(config_path), "--force"]
    assert main(command) == 0
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:99]), Path.unlink):
        damage(tmp_path / "run" / "checkpoints" / "best.pt")
        assert main(command) == 2
        assert "pass --restart to start again" in capsys.readouterr().err
    assert main([*command, "--restart", "--version", "v2"]) == 0


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
