"""Every error that `service` raises on purpose.

ServiceError
├── StartupError                 the process cannot start; the message is one line with the remedy
│   ├── SettingsError            a setting's value is not acceptable
│   ├── RuntimeUnavailableError  ONNX Runtime is missing, doubled, or lacks the device that was asked for
│   └── StoreSchemaError         the store's file is not one, or is from a newer release
├── RequestError                 the caller's mistake; the message is written for the caller
│   ├── MalformedBodyError       the body is not JSON
│   ├── BodyTooLargeError        the body has too many bytes
│   ├── InvalidRequestError      well-formed, but a field is wrong
│   └── NoHistoryError           no known item in the history, and no fallback wanted
├── DeadlineError                the request's time is over
├── ClientGoneError              nobody waits for the answer any more
└── UnavailableError             try again later; the message is for the log only
    ├── NotReadyError            the model is not loaded, or the process is draining
    ├── OverloadedError          too many requests are waiting
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


class StoreUnavailableError(UnavailableError):
    """The sequence store failed, or did not answer in time."""
