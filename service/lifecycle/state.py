"""Which versions are served: one small file that survives a restart and that every worker process follows."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from service.errors import StateError, StateUnavailableError
from service.lifecycle.durable import locked, replace_file
from service.lifecycle.versions import VERSION_PATTERN

VersionName = Annotated[str, StringConstraints(pattern=VERSION_PATTERN)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class ChallengerState(_Part):
    """Which version is tried, and on what share of the users."""

    version: VersionName
    share: Share


class Failure(_Part):
    """The last version that could not be served: when (RFC 3339), and why, in words for an operator."""

    version: VersionName
    at: str
    detail: str


class ServiceState(_Part):
    """What is to be served.

    Attributes:
        counter: goes up with every change of the versions.
        champion: the activated version; None if none ever was.
        previous: what a rollback activates.
        challenger: what is tried beside the champion.
        last_failure: of a version that was to be served, or None since the last change.
    """

    counter: Annotated[int, Field(ge=0)] = 0
    champion: VersionName | None = None
    previous: VersionName | None = None
    challenger: ChallengerState | None = None
    last_failure: Failure | None = None

    def activated(self, version: str, instead_of: str) -> "ServiceState":
        """Return the state with another champion; one that was the challenger is that no more."""
        challenger = self.challenger
        if challenger is not None and challenger.version == version:
            challenger = None
        return ServiceState(
            counter=self.counter + 1, champion=version, previous=instead_of, challenger=challenger
        )

    def challenged(self, challenger: ChallengerState | None, champion: str) -> "ServiceState":
        """Return the state with another challenger, or none, beside the champion as it is."""
        return ServiceState(
            counter=self.counter + 1, champion=champion, previous=self.previous, challenger=challenger
        )

    def failed(self, failure: Failure) -> "ServiceState":
        """Return the state with a failure; what is served has not changed."""
        return self.model_copy(update={"last_failure": failure})


class StateFile:
    """`active.json` in the state directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "active.json"
        self._lock = directory / ".active.lock"

    def read(self) -> ServiceState:
        """Return the state; the initial one if none was ever written.

        Raises:
            StateError: the file is not a state.
        """
        try:
            return ServiceState.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return ServiceState()
        except (ValidationError, OSError) as error:
            raise StateError(
                f"{self._path}: not a service's state ({error}); remove it to serve the newest version"
            ) from error

    def update(self, change: Callable[[ServiceState], ServiceState]) -> ServiceState:
        """Change the state, one process at a time, and return what it is now, once that is on disk.

        Raises:
            StateUnavailableError: it cannot be written; it is what it was.
        """
        try:
            with locked(self._lock):
                state = change(self.read())
                replace_file(self._path, state.model_dump_json(indent=2).encode() + b"\n")
        except OSError as error:
            raise StateUnavailableError(f"{self._path} cannot be written: {error}") from error
        return state

    def stamp(self) -> tuple[int, int] | None:
        """Return what differs after every update: the file's time and number."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_ino
