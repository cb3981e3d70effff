"""Errors on the wire: RFC 9457 problem documents, from one table.

A RequestError's message is written for the caller and is sent; any other error's is for the log only.
"""

from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request, Response
from pydantic import BaseModel

from service.errors import (
    BodyTooLargeError,
    InvalidRequestError,
    MalformedBodyError,
    NoHistoryError,
    NotReadyError,
    OverloadedError,
    RequestError,
    ServiceError,
    StoreUnavailableError,
)

MEDIA_TYPE = "application/problem+json"
MAX_VIOLATIONS = 20


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """How one class of errors is told: status, reason (metric label and end of the type), default detail."""

    status: HTTPStatus
    reason: str
    detail: str


PROBLEMS: dict[type[ServiceError], ProblemKind] = {
    MalformedBodyError: ProblemKind(HTTPStatus.BAD_REQUEST, "malformed_body", "The body is not JSON."),
    NoHistoryError: ProblemKind(HTTPStatus.NOT_FOUND, "no_history", "No item of the history is known."),
    BodyTooLargeError: ProblemKind(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", "The body is too large."
    ),
    InvalidRequestError: ProblemKind(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", "The request is not valid."
    ),
    NotReadyError: ProblemKind(HTTPStatus.SERVICE_UNAVAILABLE, "not_ready", "Not ready."),
    OverloadedError: ProblemKind(
        HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", "Too many requests are waiting; try again."
    ),
    StoreUnavailableError: ProblemKind(
        HTTPStatus.SERVICE_UNAVAILABLE, "store_unavailable", "The sequence store does not answer; try again."
    ),
}


class FieldProblem(BaseModel):
    """One wrong field: `pointer` is a JSON pointer into the body, `parameter` names one of the path."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class Problem(BaseModel):
    """A problem document."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldProblem] | None = None


def problem_of(request: Request, error: ServiceError, retry_after_s: int) -> Response:
    """Return the answer to a request that failed with `error`."""
    kind = PROBLEMS[type(error)]
    detail = str(error) if isinstance(error, RequestError) else kind.detail
    errors = None
    if isinstance(error, InvalidRequestError):
        errors = [
            FieldProblem(detail=wrong.detail, pointer=wrong.pointer, parameter=wrong.parameter)
            for wrong in error.violations[:MAX_VIOLATIONS]
        ]
    headers = {"Retry-After": str(retry_after_s)} if kind.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return problem(request, kind.status, detail, reason=kind.reason, errors=errors, headers=headers)


def problem(
    request: Request,
    status: HTTPStatus,
    detail: str,
    *,
    reason: str | None = None,
    errors: list[FieldProblem] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return a problem document; one without a reason of its own is told by its status alone."""
    document = Problem(
        type=f"urn:recjpq:problem:{reason.replace('_', '-')}" if reason else "about:blank",
        title=status.phrase,
        status=status,
        detail=detail,
        request_id=request.state.request_id,
        errors=errors,
    )
    return Response(
        document.model_dump_json(exclude_none=True), status, headers=headers, media_type=MEDIA_TYPE
    )
