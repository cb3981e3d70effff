"""What docs/operations.md says that users take in Redis is what their records take."""

import re
from pathlib import Path

import pytest

from service.settings import Settings
from service.store import Event
from service.store.record import SequenceRecord

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
NOW_MS = 1_800_000_000_000
MAX_EVENTS = Settings.model_fields["store_max_events"].default


@pytest.mark.parametrize(("event_id", "row"), [("", "7 characters, none"), ("0" * 36, "7 characters, 36 ")])
def test_the_sizes_of_users_are_those_of_their_records(event_id: str, row: str) -> None:
    events = [
        Event(f"{i:07}", NOW_MS + i, f"{i:03}{event_id[3:]}" if event_id else None) for i in range(MAX_EVENTS)
    ]
    record = SequenceRecord()
    record.append(events, MAX_EVENTS, NOW_MS)
    (cells,) = re.findall(rf"^\| {row}.*?\| (.*) \|$", TEXT, flags=re.MULTILINE)
    size = len(record.encode())
    assert cells.split(" | ") == [
        str(size // MAX_EVENTS),
        f"{size / 1e3:.1f} kB",
        f"{size / 1e3:.1f} GB",
        f"{size / 1e2:.0f} GB",
    ]
    assert f"`RECJPQ_STORE_MAX_EVENTS`, {MAX_EVENTS} by default" in " ".join(TEXT.split())
