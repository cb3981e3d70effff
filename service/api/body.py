"""Reading a JSON body: bounded, strict, and without building Python objects that are then thrown away."""

from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from service.errors import BodyTooLargeError, InvalidRequestError, MalformedBodyError, Violation

Parsed = TypeVar("Parsed", bound=BaseModel)


async def read_body(request: Request, kind: type[Parsed], max_bytes: int) -> Parsed:
    """Read and validate a request's body; its declared media type does not matter.

    Raises:
        BodyTooLargeError: more than `max_bytes`; what follows them is not read.
        MalformedBodyError: not JSON.
        InvalidRequestError: JSON, but not a `kind`.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise BodyTooLargeError(f"The body has more than {max_bytes} bytes.")
    try:
        return kind.model_validate_json(bytes(body))
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        if details[0]["type"] == "json_invalid":
            raise MalformedBodyError(f"{details[0]['msg']}.") from error
        raise InvalidRequestError([_violation(detail) for detail in details]) from error


def pointer(*location: str | int) -> str:
    """Return the JSON pointer (RFC 6901) of a location."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def _violation(detail: ErrorDetails) -> Violation:
    location = list(detail["loc"])
    if len(location) > 2 and location[0] == "history" and location[2] in ("id", "entry"):
        del location[2]  # the tag of a union's branch, which the body does not have
    return Violation(detail["msg"], pointer(*location))
