"""Log records as JSON lines."""

import json
import logging
import sys

from service.errors import StoreUnavailableError
from service.logs import JsonFormatter


def test_a_record_is_one_line_of_json():
    record = logging.makeLogRecord(
        {
            "name": "a.b",
            "levelname": "INFO",
            "msg": "two\nlines %s",
            "args": ("ü",),
            "route": "/x",
            "n": 1,
            "process": 7,
        }
    )
    line = JsonFormatter().format(record)
    assert "\n" not in line
    fields = json.loads(line)
    assert fields.pop("time").endswith("+00:00")
    assert fields == {
        "level": "INFO",
        "logger": "a.b",
        "pid": 7,
        "message": "two\nlines ü",
        "route": "/x",
        "n": 1,
    }


def logged(error):
    try:
        raise error
    except type(error):
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    return json.loads(line)["exception"]


def test_an_exception_is_in_the_same_line_with_its_place():
    exception = logged(OSError(28, "No space left on device"))
    assert "in logged\n    raise error\nbuiltins.OSError: [Errno 28] No space left on device" in exception


def test_a_message_that_may_quote_a_user_id_is_left_out():
    error = KeyError("very-private")
    error.__cause__ = StoreUnavailableError("no answer in 1 s")
    error.__cause__.__context__ = ValueError("very-private")
    error.__cause__.__context__.__context__ = error  # a cycle must not hold it up
    exception = logged(error)
    assert "very-private" not in exception
    types = [line for line in exception.splitlines() if not line.startswith(" ")]
    assert types == [
        "builtins.ValueError", "led to:", "service.errors.StoreUnavailableError: no answer in 1 s", "led to:",
        "builtins.KeyError",
    ]  # fmt: skip
