"""Logging: one JSON object on one line of standard error for each record, without user ids.

A request's user id is in its path or body, so that no record may hold those. Nor may it hold the message of
an exception that is not known to be free of them: a library's often quotes the value it stumbled on.
"""

import json
import logging
import traceback
from datetime import UTC, datetime
from types import TracebackType

from recjpq.errors import RecJPQError
from service.errors import ServiceError

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}
_TELLS_NO_VALUES = (ServiceError, RecJPQError, OSError, ImportError, MemoryError)

ExceptionInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)  # as `logging` has it


class JsonFormatter(logging.Formatter):
    """Writes time, level, logger, process and message, then whatever `extra` the caller gave."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, also for an exception."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
            **{name: value for name, value in record.__dict__.items() if name not in _STANDARD},
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False)

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802  # the base class's name
        """Return where an exception and those before it were raised; a message only if it tells no values."""
        parts: list[str] = []
        seen: set[int] = set()
        error = ei[1]
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            shown = f": {error}" if isinstance(error, _TELLS_NO_VALUES) else ""
            frames = "".join(traceback.format_tb(error.__traceback__))
            parts.append(f"{frames}{type(error).__module__}.{type(error).__qualname__}{shown}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\nled to:\n".join(reversed(parts))


def configure_logging(level: str) -> None:
    """Send every logger's records to standard error as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
