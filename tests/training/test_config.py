"""The configuration: every wrong value is named before any work starts."""

from pathlib import Path

import pytest

from training.config import load_config
from training.errors import ConfigError

MINIMAL = '[run]\ndirectory = "runs/x"\nname = "x"\n[data]\ninteractions = "log.csv"\n'


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_the_defaults_need_only_a_directory_a_name_and_a_log(tmp_path: Path) -> None:
    config = load_config(_write(tmp_path, MINIMAL))
    assert config.run.directory == Path("runs/x")
    assert (config.codes.num_splits, config.model.backbone) == (8, "sasrec")


def test_an_override_replaces_one_value_of_any_type(tmp_path: Path) -> None:
    path = _write(tmp_path, MINIMAL)
    config = load_config(path, ["train.loss=gbce", "model.dim=64", "data.interactions=/a b/c.parquet"])
    assert (config.train.loss, config.model.dim) == ("gbce", 64)
    assert config.data.interactions == Path("/a b/c.parquet")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "train.loss=hinge",
            "train.loss is 'hinge': input should be 'bce', 'gbce', 'sampled_softmax' or 'softmax'",
        ),
        ("codes.num_sub_ids=257", "codes.num_sub_ids is 257: input should be less than or equal to 256"),
        ("model.num_heads=3", "model.dim is 128, expected a multiple of model.num_heads, which is 3"),
        ("model.dropout=1.0", "model.dropout is 1.0: input should be less than 1"),
        ("train.lerning_rate=1", "train.lerning_rate is not a setting; expected one of loss, negatives"),
        ("trian.loss=gbce", "trian is not a setting; expected one of run, data"),
        ("model.dim=many", "model.dim is 'many': input should be a valid integer"),
        ("train.learning_rate=nan", "train.learning_rate is nan: input should be a finite number"),
        ("train.learning_rate", "expected SECTION.KEY=VALUE"),
        ("data.list_columns=['tags']", "data.list_columns is ['tags'], columns of the items' metadata: set"),
        (
            "data.time_format=%d/%m/%Y",
            "data.time_format is '%d/%m/%Y', the form of data.time_column: set that",
        ),
        ("data.list_columns='tags'", "data.list_columns is 'tags': expected a list, such as ['tags']"),
        ("data.list_separator=''", "data.list_separator is '': string should have at least 1 character"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(_write(tmp_path, MINIMAL), [override])
    assert message in str(error.value)


def test_the_items_ids_are_no_lists(tmp_path: Path) -> None:
    text = MINIMAL + 'metadata = "items.csv"\nlist_columns = ["tags"]\n'
    assert load_config(_write(tmp_path, text)).data.list_columns == ("tags",)
    with pytest.raises(ConfigError, match="has 'tags', the column of the items' ids"):
        load_config(_write(tmp_path, text), ["data.metadata_item_column=tags"])


@pytest.mark.parametrize("needs", ["codes.method=pq", "model.composition=concatenated"])
def test_the_width_is_a_multiple_of_the_splits_where_it_is_cut(tmp_path: Path, needs: str) -> None:
    path = _write(tmp_path, MINIMAL)
    assert load_config(path, ["model.dim=100"]).model.dim == 100
    with pytest.raises(ConfigError, match=r"model\.dim is 100, expected a multiple of codes\.num_splits"):
        load_config(path, ["model.dim=100", needs])


@pytest.mark.parametrize(
    ("text", "message"),
    [("[run", "not valid TOML"), ('[run]\nname = "x"\n', "run.directory is missing; data is missing")],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(_write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        load_config(tmp_path / "absent.toml")


def test_every_configuration_in_the_package_is_valid() -> None:
    configs = sorted((Path(__file__).parents[2] / "training" / "configs").glob("*.toml"))
    assert configs
    for path in configs:
        load_config(path)
