"""The models of one process: which are loaded, what each is for, and how one takes another's place.

A change is made in this order: load and verify beside what is served, write the state file, then let the new
models serve by one assignment. So a version that cannot be loaded changes nothing, and what was acknowledged
survives a restart. Other worker processes see the state file change and do the same.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from recjpq.errors import ArtifactError, RecJPQError
from service.errors import (
    ModelsBusyError,
    ModelsConflictError,
    RequestError,
    RuntimeUnavailableError,
    ServiceError,
    StartupError,
    StateError,
    StateUnavailableError,
    UnavailableError,
    VersionNotFoundError,
    VersionRefusedError,
)
from service.lifecycle.additions import AddedItems
from service.lifecycle.durable import locked, replace_file
from service.lifecycle.state import ChallengerState, Failure, ServiceState, StateFile
from service.lifecycle.versions import Version, Versions, check_name
from service.metrics import Reload
from service.model import Model
from service.settings import Settings

LoadModel = Callable[[Settings, Path], Model]

POLL_S = 0.25
"""How often a process looks for what others have changed."""
RETRY_S = 10.0
"""How long a process that could not follow the others waits before it tries again."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lineup:
    """The loaded models and their parts.

    Attributes:
        champion: serves whoever no challenger serves.
        challenger: serves `share` of the users, or None.
        previous: what a rollback brings back at once; None if that is not loaded.
    """

    champion: Model
    challenger: Model | None = None
    share: float = 0.0
    previous: Model | None = None

    def loaded(self) -> dict[str, Model]:
        """Return the models by version."""
        models = (self.previous, self.challenger, self.champion)
        return {version_of(model): model for model in models if model is not None}


def version_of(model: Model) -> str:
    """Return a model's version."""
    return model.description.version


class Models:
    """Loads, activates, rolls back and follows; every method runs on the event loop and waits in threads."""

    def __init__(
        self,
        settings: Settings,
        versions: Versions,
        load: LoadModel,
        *,
        serve: Callable[[Lineup], None],
        grown: Callable[[], None],
        count: Callable[[Reload], None],
        run_directory: Path | None = None,
    ) -> None:
        """Nothing is loaded before `start`.

        Args:
            settings: all of them.
            versions: where they are kept.
            load: how a version becomes a model.
            serve: told, on the event loop, of every new line-up; must not fail.
            grown: told, on the event loop, when other processes have added items.
            count: told what became of every reload.
            run_directory: of the worker processes of one run, which all begin with the same version; None if
                this process is the only one.
        """
        self.items = AddedItems(settings.state_path)
        self.versions = versions
        self._settings = settings
        self._load = load
        self._serve = serve
        self._grown = grown
        self._count = count
        self._file = StateFile(settings.state_path)
        self._stamp = self._file.stamp()
        self._state = ServiceState()
        self._lineup: Lineup | None = None
        self._changing = asyncio.Lock()
        self._reached = 0  # the counter of the state that is served here
        self._retry_at = 0.0
        self._run_directory = run_directory

    @property
    def state(self) -> ServiceState:
        """What is to be served, as far as this process knows."""
        return self._state

    @property
    def lineup(self) -> Lineup:
        """What is served."""
        if self._lineup is None:
            raise RuntimeError("not started")
        return self._lineup

    async def start(self) -> None:
        """Load what was activated, or else the newest version, and serve it.

        Raises:
            StartupError, RecJPQError: there is nothing that may be served.
        """
        self._stamp, self._state = self._file.stamp(), await asyncio.to_thread(self._file.read)
        self._reached = self._state.counter
        try:
            champion = await self._first()
        except ServiceError as error:
            if isinstance(error, StartupError):
                raise
            raise StartupError(str(error)) from error
        self._become(Lineup(champion))
        challenger = self._state.challenger
        if challenger is not None:
            try:
                model = await self._obtain(challenger.version)
            except (ServiceError, RecJPQError) as error:
                _log.error("the challenger %r is left out: %s", challenger.version, error)
            else:
                self._become(Lineup(champion, model, challenger.share))

    async def activate(self, version: str) -> None:
        """Serve another version, and keep this one for a rollback.

        Raises:
            VersionNotFoundError, VersionRefusedError, LocationUnavailableError: it cannot be loaded.
            ModelsBusyError: another change is under way.
            StateUnavailableError: the change cannot be kept.
        """
        check_name(version)
        async with self._only_change(takes_back=True):
            served, decided = version_of(self.lineup.champion), self._state.champion
            if version != served or decided not in (None, version):
                await self._activate(version)
            elif decided is None:  # served as the newest so far, and to stay from now on
                await self._keep(lambda state: state.challenged(state.challenger, version))

    async def roll_back(self) -> None:
        """Serve the previous version again; once more brings this one back. Raises as `activate` does."""
        async with self._only_change(takes_back=True):
            if (previous := self._state.previous) is None:
                raise ModelsConflictError("No version was served before this one.")
            await self._activate(previous)

    async def challenge(self, version: str, share: float) -> None:
        """Let a version serve a share of the users; raises as `activate` does."""
        check_name(version)
        async with self._only_change():
            champion = version_of(self.lineup.champion)
            if version == champion:
                raise ModelsConflictError(f"Version {version!r} is the champion.")
            model = await self._obtain_for_operator(version)
            wanted = ChallengerState(version=version, share=share)
            await self._keep(lambda state: state.challenged(wanted, champion))
            self._become(Lineup(self.lineup.champion, model, share, self.lineup.previous))
            self._count("succeeded")

    async def end_challenge(self) -> None:
        """Let the champion serve everybody; harmless without a challenger."""
        async with self._only_change():
            champion = version_of(self.lineup.champion)
            if self._state.challenger is not None:
                await self._keep(lambda state: state.challenged(None, champion))
                self._count("succeeded")
            self._become(Lineup(self.lineup.champion, previous=self.lineup.previous))

    async def follow(self) -> None:
        """Do what other processes have done, for ever."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self._follow_once()
            except Exception:  # whatever it is, this must go on
                self._retry_at = monotonic() + RETRY_S
                self._count("failed")
                _log.exception("cannot follow the state directory, will try again")

    async def known(self) -> list[Version]:
        """Return the versions that could be activated; raises LocationUnavailableError, ArtifactError."""
        return await asyncio.to_thread(self.versions.known)

    async def _first(self) -> Model:
        if (activated := self._state.champion) is not None:
            try:
                return await self._obtain(activated)
            except VersionNotFoundError:
                _log.warning("the activated version %r is gone; the newest is served", activated)
        return await self._obtain(await asyncio.to_thread(self._newest))

    def _newest(self) -> str:
        """Return the newest version; in a worker that is started again, the one that the others took."""
        if self._run_directory is None:
            return self.versions.newest()
        note = self._run_directory / "newest-version"
        with locked(note.with_suffix(".lock")):
            if not note.exists():
                replace_file(note, self.versions.newest().encode())
            return note.read_text()

    async def _activate(self, version: str) -> None:
        lineup = self.lineup
        model = await self._obtain_for_operator(version)
        await self._keep(lambda state: state.activated(version, version_of(lineup.champion)))
        challenger = None if self._state.challenger is None else lineup.challenger
        self._become(Lineup(model, challenger, lineup.share if challenger else 0.0, lineup.champion))
        self._count("succeeded")

    async def _obtain_for_operator(self, version: str) -> Model:
        """Return a version's model; a failure is told in words that leave out this machine, and is kept."""
        try:
            return await self._obtain(version)
        except Exception as error:  # whatever it is, what is served goes on, and the operator must be told
            _log.error("version %r cannot be served", version, exc_info=error)
            self._count("failed")
            detail = self._told(error)
            failure = Failure(version=version, at=_now(), detail=detail)
            try:
                await self._keep(lambda state: state.failed(failure))
            except StateUnavailableError as unkept:
                _log.error("the failure is not kept: %s", unkept)
            if isinstance(error, RequestError | UnavailableError):
                raise
            raise VersionRefusedError(detail) from error

    async def _obtain(self, version: str) -> Model:
        """Return a version's model with all added items, loaded now if it is not yet."""
        if self._lineup is not None and (model := self._lineup.loaded().get(version)):
            return model
        return await asyncio.to_thread(self._load_version, version)

    def _load_version(self, version: str) -> Model:
        path = self.versions.fetch(version)
        try:
            model = self._load(self._settings, path)
        except ArtifactError:
            self.versions.discard(version)
            raise
        if version_of(model) != version:
            raise VersionRefusedError(f"What is there is version {version_of(model)!r}.")
        self.items.track(model)
        return model

    async def _keep(self, change: Callable[[ServiceState], ServiceState]) -> None:
        before = self._state.counter
        self._state = await asyncio.to_thread(self._file.update, change)
        if self._state.counter != before:  # a change made here, not a failure that is noted
            self._reached = self._state.counter
        self._stamp = self._file.stamp()

    def _become(self, lineup: Lineup) -> None:
        self._lineup = lineup
        self._serve(lineup)

    async def _follow_once(self) -> None:
        if await asyncio.to_thread(self.items.follow):
            self._grown()
        behind = self._file.stamp() != self._stamp or self._reached != self._state.counter
        if behind and monotonic() >= self._retry_at:
            async with self._changing:
                await self._catch_up()

    async def _catch_up(self) -> None:
        stamp = self._file.stamp()
        if stamp != self._stamp:
            self._state, self._stamp = await asyncio.to_thread(self._file.read), stamp
        if self._reached != self._state.counter:
            await self._reach(self._state)
            self._reached = self._state.counter

    async def _reach(self, state: ServiceState) -> None:
        """Load and serve what another process has decided."""
        before = self.lineup
        champion = before.champion if state.champion is None else await self._obtain(state.champion)
        wanted = state.challenger
        challenger = None if wanted is None else await self._obtain(wanted.version)
        previous = before.loaded().get(state.previous or "")
        self._become(Lineup(champion, challenger, wanted.share if wanted else 0.0, previous))
        self._count("succeeded")

    @asynccontextmanager
    async def _only_change(self, *, takes_back: bool = False) -> AsyncIterator[None]:
        """Keep this process and every other from another change; refuse at once if one is under way.

        One that `takes_back` what another process decided is made even if that cannot be served here.
        """
        if self._changing.locked():
            raise ModelsBusyError("Another change of models is under way; try again when it has ended.")
        async with self._changing, AsyncExitStack() as stack:
            try:
                stack.enter_context(locked(self._settings.state_path / ".change.lock", wait=False))
            except BlockingIOError as error:
                raise ModelsBusyError(
                    "Another process changes the models; try again when it has ended."
                ) from error
            except OSError as error:
                raise StateUnavailableError(f"the state directory cannot be written: {error}") from error
            try:
                await self._catch_up()
            except StateError as error:
                raise StateUnavailableError(str(error)) from error
            except (ServiceError, RecJPQError) as error:
                _log.error("cannot serve what another process has decided: %s", error)
                if not takes_back:
                    raise ModelsConflictError(
                        "What another process has decided cannot be served by this one; "
                        "activate another version or roll back first."
                    ) from error
            yield

    def _told(self, error: Exception) -> str:
        """Return why a version cannot be served, without the paths of this machine."""
        if isinstance(error, UnavailableError):
            return "The place of the versions does not answer."
        if not isinstance(error, RequestError | RecJPQError | RuntimeUnavailableError):
            return "It could not be loaded; the service's log says why."
        text = str(error)
        for root in (self._settings.model_path, self._settings.model_cache):
            here = re.escape(str(Path(root)))
            text = re.sub(rf"{here}(?:/(?:[\w.-]+/)*|$|(?=\W))", "", text)
        return text.removeprefix(": ")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
