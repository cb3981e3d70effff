"""What the JSON of requests and answers shares."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
)

MAX_ID_LENGTH = 256
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

Identifier = Annotated[
    str,
    # No control characters (the stored form relies on it), and not what a broken encoding decodes to.
    StringConstraints(min_length=1, max_length=MAX_ID_LENGTH, pattern=r"^[^\x00-\x1f\x7f-\x9f\ufffd]+$"),
]
Timestamp = Annotated[AwareDatetime, Field(ge=EPOCH, description="RFC 3339, with an offset; not before 1970")]


class Body(BaseModel):
    """What every request's JSON shares: no coercion, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Answer(BaseModel):
    """What every answer's JSON shares; bytes among an item's metadata are written in base64."""

    model_config = ConfigDict(frozen=True, protected_namespaces=(), ser_json_bytes="base64")


class ModelName(Answer):
    """Which model answered."""

    name: str
    version: str


def to_ms(timestamp: datetime) -> int:
    """Return milliseconds since 1970, exactly."""
    return (timestamp - EPOCH) // _MILLISECOND


def from_ms(time_ms: int) -> datetime:
    """Return the time of milliseconds since 1970, exactly."""
    return EPOCH + time_ms * _MILLISECOND
