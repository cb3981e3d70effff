"""Reading a JSON body: bounded, strict, and without building Python objects that are then thrown away."""

from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from service.errors import BodyTooLargeError, InvalidRequestError, MalformedBodyError, Violation

MAX_POINTER_LENGTH = 500
"""A longer one is cut back to a part that contains what it points to."""

Parsed = TypeVar("Parsed", bound=BaseModel)

MOST_ERRORS = 10_000
"""More wrong values are told by their number: an object for each would stop the process for seconds."""

_TAGS = {"id", "entry", "str", "bool", "int", "float"}


async def read_body(request: Request, kind: type[Parsed], max_bytes: int) -> Parsed:
    """Read and validate a request's body; its declared media type does not matter.

    Raises:
        BodyTooLargeError: more than `max_bytes`; what follows them is not read.
        MalformedBodyError: not JSON.
        InvalidRequestError: JSON, but not a `kind`.
    """
    return parse_body(await read_bytes(request, max_bytes), kind)


async def read_bytes(request: Request, max_bytes: int) -> bytes:
    """Read a request's body; raises BodyTooLargeError, and does not read what follows."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise BodyTooLargeError(f"The body has more than {max_bytes} bytes.")
    return bytes(body)


def parse_body(body: bytes, kind: type[Parsed]) -> Parsed:
    """Validate JSON; raises MalformedBodyError and InvalidRequestError as `read_body`."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise refusal_of(error) from error


def refusal_of(error: ValidationError) -> MalformedBodyError | InvalidRequestError:
    """Return what to tell the caller of a body that does not validate."""
    if (count := error.error_count()) > MOST_ERRORS:
        return InvalidRequestError([Violation(f"Found {count} wrong values; compare with /openapi.json", "")])
    details = error.errors(include_url=False, include_input=False, include_context=False)
    if details[0]["type"] == "json_invalid":
        return MalformedBodyError(f"{details[0]['msg']}.")
    return InvalidRequestError([_violation(detail) for detail in details])


def pointer(*location: str | int) -> str:
    """Return the JSON pointer (RFC 6901) of a location."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def _violation(detail: ErrorDetails) -> Violation:
    # The tags of a union's branches are no part of the body.
    location = [
        part
        for place, part in enumerate(detail["loc"])
        if not (part in _TAGS and place >= 2 and isinstance(detail["loc"][place - 1], int))
    ]
    while len(where := pointer(*location)) > MAX_POINTER_LENGTH:  # a name that the caller made up
        location.pop()
    return Violation(detail["msg"], where)
