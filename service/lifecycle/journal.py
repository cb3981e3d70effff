"""The journal of items added while serving: one line of JSON a change, flushed before it is acknowledged.

Lines are only ever appended. A last line without its newline was never acknowledged: readers pass over it,
and the next writer takes it away.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from service.errors import StateError, StateUnavailableError
from service.lifecycle.durable import locked, sync


class NewItem(BaseModel):
    """An item as it was added: with `codes`, sub-ids of `version`, or `similar` items and their weights."""

    model_config = ConfigDict(frozen=True)

    item_id: str
    metadata: dict[str, Any] = {}
    codes: tuple[int, ...] | None = None
    version: str | None = None
    similar: tuple[str, ...] | None = None
    weights: tuple[float, ...] | None = None


class Change(BaseModel):
    """What one request changed: items added, items retired."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: str
    add: tuple[NewItem, ...] = ()
    retire: tuple[str, ...] = ()


class Journal:
    """`items.jsonl` in the state directory, as far as this process has read it; one thread at a time."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "items.jsonl"
        self._lock = directory / ".items.lock"
        self._offset = 0
        self._lines = 0

    def grown(self) -> bool:
        """Say whether there is something to read."""
        try:
            return self._path.stat().st_size > self._offset
        except FileNotFoundError:
            return False

    def read_new(self) -> list[Change]:
        """Return the changes since the last call, by whichever process.

        Raises:
            StateError: a line is not a change.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        changes = [
            self._change(number, line) for number, line in enumerate(whole.splitlines(), self._lines + 1)
        ]
        self._offset += len(whole)
        self._lines += len(changes)
        return changes

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other processes from appending meanwhile.

        Raises:
            StateUnavailableError: the state directory cannot be written.
        """
        try:
            with locked(self._lock):
                yield
        except OSError as error:
            raise StateUnavailableError(f"{self._path} cannot be written: {error}") from error

    def append(self, change: Change) -> None:
        """Write a change to the disk; call it while `writing`, with everything read.

        Raises:
            OSError: it cannot be written; then nothing was.
        """
        line = change.model_dump_json(exclude_defaults=True).encode() + b"\n"
        is_new = not self._path.exists()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if os.fstat(descriptor).st_size < self._offset:
                raise OSError("shorter than what was read of it; restart the service")
            os.ftruncate(descriptor, self._offset)  # takes away what was never acknowledged
            _write_at(descriptor, line, self._offset)
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, min(self._offset, os.fstat(descriptor).st_size))
            raise
        finally:
            os.close(descriptor)
        if is_new:
            sync(self._path.parent)
        self._offset += len(line)
        self._lines += 1

    def _change(self, number: int, line: bytes) -> Change:
        try:
            return Change.model_validate_json(line)
        except ValidationError as error:
            raise StateError(
                f"{self._path}: line {number} is not a change of items ({error.error_count()} wrong fields); "
                "restore the file, or remove the line, which loses what it added"
            ) from error


def _write_at(descriptor: int, content: bytes, offset: int) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], offset + written)
