"""Log records as JSON lines."""

import json
import logging
import sys

from service.logs import JsonFormatter


def test_a_record_is_one_line_of_json():
    record = logging.makeLogRecord(
        {"name": "a.b", "levelname": "INFO", "msg": "two\nlines %s", "args": ("ü",), "route": "/x", "n": 1}
    )
    line = JsonFormatter().format(record)
    assert "\n" not in line
    fields = json.loads(line)
    assert fields.pop("time").endswith("+00:00")
    assert fields == {"level": "INFO", "logger": "a.b", "message": "two\nlines ü", "route": "/x", "n": 1}


def test_an_exception_is_in_the_same_line():
    try:
        raise RuntimeError("why")
    except RuntimeError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "RuntimeError: why" in json.loads(line)["exception"]
