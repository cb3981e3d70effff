"""Reading settings, and what the reference says of them."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.app import create_app
from service.errors import SettingsError
from service.settings import PREFIX, Settings, describe_settings, read_settings, unknown_variables

REFERENCE = (Path(__file__).parents[2] / "docs" / "service.md").read_text()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def test_the_environment_is_read_and_arguments_win(monkeypatch):
    monkeypatch.setenv("RECJPQ_PORT", "9000")
    monkeypatch.setenv("RECJPQ_MAX_K", "7")
    assert (read_settings().port, read_settings().max_k) == (9000, 7)
    assert read_settings(port=9001, host="::1").port == 9001


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("MAX_K", "0"),
        ("QUEUE_LIMIT", "-1"),
        ("DEVICE", "tpu"),
        ("STORE_URL", "mysql://host/db"),
        ("STORE_URL", "sqlite://relative"),
        ("STORE_URL", "sqlite:///"),
        ("STORE_TTL_S", "60"),
        ("STORE_READ_TIMEOUT_S", "0"),
        ("STORE_READ_TIMEOUT_S", "nan"),
        ("DRAIN_S", "inf"),
        ("ACCESS_LOG", "perhaps"),
    ],
)
def test_a_bad_value_names_key_and_value(monkeypatch, name, value):
    monkeypatch.setenv(f"RECJPQ_{name}", value)
    with pytest.raises(SettingsError, match=re.escape(f"RECJPQ_{name}='{value}': ")):
        read_settings()


def test_a_bad_value_blames_no_other_setting(monkeypatch):
    monkeypatch.setenv("RECJPQ_PORT", "abc")  # the default of inference_workers is then not computed
    with pytest.raises(SettingsError) as raised:
        read_settings()
    assert re.findall(r"RECJPQ_\w+", str(raised.value)) == ["RECJPQ_PORT"]


def test_a_password_in_a_bad_value_is_not_told(monkeypatch):
    monkeypatch.setenv("RECJPQ_STORE_URL", "mysql://me:p@ss@host/db")
    with pytest.raises(SettingsError, match=r"mysql://\*\*\*@host/db") as raised:
        read_settings()
    assert "p@ss" not in str(raised.value)


def test_misspelt_variables_are_found(monkeypatch):
    monkeypatch.setenv("RECJPQ_PROT", "1")
    monkeypatch.setenv("RECJPQ_PORT", "1")
    assert unknown_variables() == ["RECJPQ_PROT"]


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        read_settings().port = 1


def test_the_help_describes_every_setting():
    text = describe_settings()
    for name, field in Settings.model_fields.items():
        assert f"RECJPQ_{name.upper()} (default: " in text
        assert field.description


def test_the_reference_lists_every_setting_with_its_default():
    rows = dict(re.findall(r"^\| `(RECJPQ_\w+)` \| (.+?) \|", REFERENCE, flags=re.MULTILINE))
    expected = {
        f"RECJPQ_{name.upper()}": "usable cores / workers" if field.default_factory else f"`{field.default}`"
        for name, field in Settings.model_fields.items()
    }
    assert rows == expected


def test_the_reference_lists_every_metric_and_no_other():
    registry = create_app(Settings()).state.serving.metrics.registry
    families = {
        family.name: family.type for family in registry.collect() if family.name.startswith("recjpq_")
    }
    expected = {name + ("_total" if kind == "counter" else "") for name, kind in families.items()}
    assert set(re.findall(r"^\| `(recjpq_\w+)` \|", REFERENCE, flags=re.MULTILINE)) == expected


def test_the_reference_lists_every_problem_and_stage():
    from service.api.problems import PROBLEMS
    from service.timings import STAGES

    rows = set(re.findall(r"^\| (\d{3}) \| `urn:recjpq:problem:([\w-]+)` \|", REFERENCE, flags=re.MULTILINE))
    assert rows == {(str(int(kind.status)), kind.reason.replace("_", "-")) for kind in PROBLEMS.values()}
    assert all(f"`{stage}`" in REFERENCE for stage in STAGES)
