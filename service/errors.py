"""Every error that `service` raises on purpose.

ServiceError
├── StartupError                 the process cannot start; the message is one line with the remedy
│   ├── SettingsError            a setting's value is not acceptable
│   ├── RuntimeUnavailableError  ONNX Runtime is missing, doubled, or lacks the device that was asked for
│   ├── StateError               a file of the state directory is not what this release writes
│   └── StoreSchemaError         the store's file is not one, or is from a newer release
├── RequestError                 the caller's mistake; the message is written for the caller
│   ├── MalformedBodyError       the body is not JSON
│   ├── BodyTooLargeError        the body has too many bytes
│   ├── InvalidRequestError      well-formed, but a field is wrong
│   ├── NoHistoryError           no known item in the history, and no fallback wanted
│   ├── UnauthorizedError        no key, or one that is not valid
│   ├── ForbiddenError           a valid key that does not open this
│   ├── AdminDisabledError       no admin key is set, so nothing may be administered
│   ├── RateLimitedError         this client asks more often than it may
│   ├── ItemNotFoundError        the served model does not know the item
│   ├── NoSimilarItemsError      the served version has no sub-embeddings to compare items by
│   ├── ItemsExistError          items to be added are there already, with another content
│   ├── VersionMismatchError     codes of another version than the served one
│   ├── VersionNotFoundError     no such version where versions are kept
│   ├── VersionRefusedError      a version that must not be served
│   └── ModelsConflictError      not possible while the models are as they are
│       └── ModelsBusyError      another change of models is under way
├── DeadlineError                the request's time is over
├── ClientGoneError              nobody waits for the answer any more
└── UnavailableError             try again later; the message is for the log only
    ├── NotReadyError            the model is not loaded, or the process is draining
    ├── OverloadedError          too many requests are waiting
    ├── LocationUnavailableError the place where versions are kept did not answer
    ├── StateUnavailableError    the state directory cannot be written
    └── StoreUnavailableError    the sequence store did not answer
"""

from collections.abc import Sequence
from dataclasses import dataclass


class ServiceError(Exception):
    """Root of the package's errors."""


class StartupError(ServiceError):
    """The process cannot start."""


class SettingsError(StartupError):
    """A setting's value is not acceptable."""


class RuntimeUnavailableError(StartupError):
    """ONNX Runtime is missing, installed twice, or lacks the device that was asked for."""


class StateError(StartupError):
    """A file of the state directory cannot be read by this release."""


class StoreSchemaError(StartupError):
    """The store's file cannot be opened by this release."""


class RequestError(ServiceError):
    """The caller's mistake."""


class MalformedBodyError(RequestError):
    """The body is not JSON."""


class BodyTooLargeError(RequestError):
    """The body has more bytes than the limit."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One wrong field: where (a JSON pointer into the body, or a parameter's name) and what is wrong."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class InvalidRequestError(RequestError):
    """The request is well-formed, but a field is wrong."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(f"{len(violations)} wrong field{'s' * (len(violations) != 1)}")
        self.violations = tuple(violations)


class NoHistoryError(RequestError):
    """There is nothing to recommend from, and the caller wants no fallback."""


class UnauthorizedError(RequestError):
    """There is no key with the request, or it is not valid."""


class ForbiddenError(RequestError):
    """The request's key is valid, but does not open this."""


class AdminDisabledError(RequestError):
    """No admin key is set, so nothing may be administered."""


class RateLimitedError(RequestError):
    """This client asks more often than it may."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ItemNotFoundError(RequestError):
    """The served model does not know the item."""


class NoSimilarItemsError(RequestError):
    """The served version has no sub-embeddings to compare items by."""


class ItemsExistError(RequestError):
    """Items to be added are there already, with another content."""


class VersionMismatchError(RequestError):
    """The request speaks of another version than the served one."""


class VersionNotFoundError(RequestError):
    """There is no such version where versions are kept."""


class VersionRefusedError(RequestError):
    """A version that must not be served: damaged, unfinished, or not for this machine."""


class ModelsConflictError(RequestError):
    """Not possible while the models are as they are."""


class ModelsBusyError(ModelsConflictError):
    """Another change of models is under way."""


class DeadlineError(ServiceError):
    """The request's deadline passed before it was answered."""


class ClientGoneError(ServiceError):
    """The client closed its connection before its request was answered."""


class UnavailableError(ServiceError):
    """Not possible now; try again later."""


class NotReadyError(UnavailableError):
    """The model is not loaded, or the process is draining."""


class OverloadedError(UnavailableError):
    """Too many requests are waiting."""


class LocationUnavailableError(UnavailableError):
    """The place where versions are kept did not answer."""


class StateUnavailableError(UnavailableError):
    """The state directory cannot be written."""


class StoreUnavailableError(UnavailableError):
    """The sequence store failed, or did not answer in time."""
