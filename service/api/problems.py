"""Errors on the wire: RFC 9457 problem documents, from one table.

A RequestError's message is written for the caller and is sent; any other error's is for the log only.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel

from service.errors import (
    AdminDisabledError,
    BodyTooLargeError,
    DeadlineError,
    ForbiddenError,
    InvalidRequestError,
    ItemNotFoundError,
    ItemsExistError,
    LocationUnavailableError,
    MalformedBodyError,
    ModelsBusyError,
    ModelsConflictError,
    NoHistoryError,
    NoSimilarItemsError,
    NotReadyError,
    OverloadedError,
    RateLimitedError,
    RequestError,
    ServiceError,
    StateUnavailableError,
    StoreUnavailableError,
    UnauthorizedError,
    VersionMismatchError,
    VersionNotFoundError,
    VersionRefusedError,
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
    UnauthorizedError: ProblemKind(HTTPStatus.UNAUTHORIZED, "unauthorized", "A key is needed."),
    ForbiddenError: ProblemKind(HTTPStatus.FORBIDDEN, "forbidden", "This needs another key."),
    AdminDisabledError: ProblemKind(HTTPStatus.FORBIDDEN, "admin_disabled", "Administration is off."),
    NoHistoryError: ProblemKind(HTTPStatus.NOT_FOUND, "no_history", "No item of the history is known."),
    ItemNotFoundError: ProblemKind(HTTPStatus.NOT_FOUND, "item_not_found", "No such item."),
    NoSimilarItemsError: ProblemKind(HTTPStatus.NOT_FOUND, "no_similar_items", "Items cannot be compared."),
    VersionNotFoundError: ProblemKind(HTTPStatus.NOT_FOUND, "version_not_found", "No such version."),
    ItemsExistError: ProblemKind(HTTPStatus.CONFLICT, "items_exist", "Items are there already."),
    VersionMismatchError: ProblemKind(HTTPStatus.CONFLICT, "version_mismatch", "Another version is served."),
    ModelsConflictError: ProblemKind(HTTPStatus.CONFLICT, "models_conflict", "Not possible now."),
    ModelsBusyError: ProblemKind(HTTPStatus.CONFLICT, "models_busy", "The models are being changed."),
    BodyTooLargeError: ProblemKind(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", "The body is too large."
    ),
    InvalidRequestError: ProblemKind(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", "The request is not valid."
    ),
    VersionRefusedError: ProblemKind(
        HTTPStatus.UNPROCESSABLE_ENTITY, "version_refused", "The version must not be served."
    ),
    RateLimitedError: ProblemKind(HTTPStatus.TOO_MANY_REQUESTS, "rate_limited", "Too many requests."),
    DeadlineError: ProblemKind(
        HTTPStatus.GATEWAY_TIMEOUT, "deadline", "The request's time was over before it was answered."
    ),
    NotReadyError: ProblemKind(HTTPStatus.SERVICE_UNAVAILABLE, "not_ready", "Not ready."),
    OverloadedError: ProblemKind(
        HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", "Too many requests are waiting; try again."
    ),
    LocationUnavailableError: ProblemKind(
        HTTPStatus.SERVICE_UNAVAILABLE, "location_unavailable", "The place of the versions does not answer."
    ),
    StateUnavailableError: ProblemKind(
        HTTPStatus.SERVICE_UNAVAILABLE, "state_unavailable", "The change cannot be kept; nothing was changed."
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
    status = PROBLEMS[type(error)].status
    headers = {}
    if isinstance(error, RateLimitedError):
        headers["Retry-After"] = str(error.retry_after_s)
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(retry_after_s)
    elif status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="recjpq"'
    return _response(_problem_of(request, error), headers)


def document_of(request: Request, error: ServiceError) -> dict[str, Any]:
    """Return the problem document of a part of a request that failed with `error`."""
    return _problem_of(request, error).model_dump(exclude_none=True)


def problem(
    request: Request, status: HTTPStatus, detail: str, *, headers: dict[str, str] | None = None
) -> Response:
    """Return a problem document that is told by its status alone."""
    document = Problem(
        type="about:blank",
        title=status.phrase,
        status=status,
        detail=detail,
        request_id=request.state.request_id,
    )
    return _response(document, headers)


def _problem_of(request: Request, error: ServiceError) -> Problem:
    kind = PROBLEMS[type(error)]
    errors = None
    if isinstance(error, InvalidRequestError):
        errors = [
            FieldProblem(detail=wrong.detail, pointer=wrong.pointer, parameter=wrong.parameter)
            for wrong in error.violations[:MAX_VIOLATIONS]
        ]
    return Problem(
        type=f"urn:recjpq:problem:{kind.reason.replace('_', '-')}",
        title=kind.status.phrase,
        status=kind.status,
        detail=str(error) if isinstance(error, RequestError) else kind.detail,
        request_id=request.state.request_id,
        errors=errors,
    )


def _response(document: Problem, headers: dict[str, str] | None) -> Response:
    headers = {"Cache-Control": "no-store"} | (headers or {})  # else caches may keep a 404 as they like
    return Response(
        document.model_dump_json(exclude_none=True), document.status, headers=headers, media_type=MEDIA_TYPE
    )
