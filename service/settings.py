"""The service's settings: environment variables with the prefix `RECJPQ_`, read once."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import SettingsError
from service.store import STORES

PREFIX = "RECJPQ_"
_SECRET = frozenset({"api_keys", "admin_key"})
DAY_S = 86_400

PositiveInt = Annotated[int, Field(ge=1)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _cores_of_a_worker(settings: dict[str, Any]) -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers: int = settings.get("workers", 1)
    return max(1, usable // workers)


class Settings(BaseSettings):
    """What can be set; each field is the environment variable of its upper-case name, prefixed."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for all."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """Port to listen on; 0 picks a free one and logs it."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that serve, each with a model of its own; they share the port and the files' memory."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe log record that is written."""
    access_log: bool = False
    """Write one log record for each request: route, status, duration; never the user id."""

    model_path: str = "runs/demo/artifacts"
    """An artifact, or a directory of versions, of which the newest is served until one is activated; or a URL
    of either, such as `s3://bucket/prefix` or `https://host/versions`."""
    model_cache: Path = Path("runs/service/models")
    """Where versions from a URL are copied to before they are loaded."""
    state_path: Path = Path("runs/service/state")
    """Directory of what is changed while serving: the activated version, and items that were added."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; `cuda` fails at start without a usable GPU, `auto` falls back to the CPU."""
    scorer: Literal["auto", "cpu", "cuda", "numpy"] = "auto"
    """Scoring back-end; `auto` follows `RECJPQ_DEVICE`."""
    encoder_threads: PositiveInt = 1
    """Threads inside one encoder call; more than 1 helps only where cores are idle."""
    batch_positions: PositiveInt = 512
    """Most positions of histories, padding included, in one encoder call; a GPU wants many more."""
    inference_workers: PositiveInt = Field(default_factory=_cores_of_a_worker)
    """Requests that a process encodes and scores at the same time; by default the usable cores, divided among
    the processes."""
    queue_limit: Annotated[int, Field(ge=0)] = 128
    """Histories of the model's full length that may wait for a worker, shorter ones counting less; what comes
    then is refused with 503 at once."""
    request_timeout_s: PositiveSeconds = 10.0
    """How long a recommendation may take before it is refused with 504; `timeout_ms` of a request wins if it
    is less."""
    retry_after_s: PositiveInt = 1
    """What `Retry-After` says on a 503."""

    max_k: PositiveInt = 1000
    """Largest `k` of a request."""
    max_history: PositiveInt = 10_000
    """Most history entries in a request."""
    max_exclude: PositiveInt = 10_000
    """Most `exclude` ids in a request."""
    max_candidates: PositiveInt = 10_000
    """Most `candidates` in a request."""
    max_filter_values: PositiveInt = 1000
    """Most values in the `filters` of a request."""
    max_batch: PositiveInt = 100
    """Most requests in a batch."""
    explained_items: PositiveInt = 20
    """How many of a history's newest items `explanation` weighs; each costs as much as a request."""
    max_events: PositiveInt = 500
    """Most events in one append."""
    max_new_items: PositiveInt = 1000
    """Most items in one request that adds items."""
    max_body_bytes: PositiveInt = 2 * 1024 * 1024
    """Largest request body."""
    receive_timeout_s: PositiveSeconds = 10.0
    """How long a client may take to send one request, head and body; then 408 and the connection closes.
    So it does when the client takes nothing of an answer for that long."""
    search_items: Annotated[int, Field(ge=0)] = 100_000
    """Among how many items, the most popular and those added while serving, `GET /items` looks for words:
    about 50 bytes and 0.2 us for each; every item is found by its whole id."""
    max_found_items: PositiveInt = 100
    """Most items in an answer of `GET /items`."""
    page: bool = True
    """Serve the page at `/` and the API's at `/docs`."""

    store_url: str = "sqlite:///runs/service/sequences.sqlite3"
    """Where sequences are kept: `sqlite:///relative/path`, `sqlite:////absolute/path`,
    `redis://[user:password@]host:port/database`, `rediss://...` over TLS, `unix://...`, or
    `redis+cluster://[user:password@]host:port,host:port` (`rediss+cluster://`) for a Redis Cluster."""
    store_max_events: PositiveInt = 500
    """Events kept for each user; the oldest go first."""
    store_ttl_s: Annotated[int, Field(ge=DAY_S)] = 90 * DAY_S
    """Seconds after a user's last stored event until the user is forgotten; at least a day."""
    store_read_timeout_s: PositiveSeconds = 0.05
    """Longest wait for a read or a connection before the answer is given without the store."""
    store_write_timeout_s: PositiveSeconds = 1.0
    """Longest wait for a write (which waits for the disk) before it is refused with 503."""
    store_breaker_failures: PositiveInt = 5
    """Failures in a row after which the store is left alone."""
    store_breaker_reset_s: PositiveSeconds = 1.0
    """How long it is left alone before one request tries again."""
    ready_needs_store: bool = False
    """Whether `/readyz` fails while the store does; by default the service stays ready and degrades."""

    api_keys: SecretStr | None = None
    """Keys of clients, separated by commas; if there are any, requests need one."""
    api_keys_file: Path | None = None
    """A file with more of them, one on each line."""
    admin_key: SecretStr | None = None
    """The key that activates models and adds items; without it nobody may."""
    metrics_need_key: bool = False
    """Whether `/metrics` needs a key too, where requests do."""
    rate_limit: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Requests a second that each client (a key, or else an address) may send to each worker process, a batch
    counting as what it holds; 0 for no limit."""
    rate_burst: PositiveInt = 100
    """How many of them may come at once."""

    drain_s: Seconds = 1.0
    """On SIGTERM: how long to go on serving, not ready, so that load balancers notice."""
    shutdown_timeout_s: PositiveInt = 30
    """On SIGTERM: longest wait for requests in flight after that."""

    @field_validator("model_path", mode="before")
    @classmethod
    def _path_or_url(cls, path: object) -> object:
        return str(path) if isinstance(path, Path) else path

    @field_validator("api_keys", "admin_key")
    @classmethod
    def _usable_keys(cls, given: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if given is not None:
            value = given.get_secret_value()
            _check_keys(_split(value) if info.field_name == "api_keys" else [value])
        return given

    @field_validator("api_keys_file")
    @classmethod
    def _readable_keys(cls, path: Path | None) -> Path | None:
        if path is not None:
            try:
                _check_keys(_lines(path))
            except (OSError, UnicodeDecodeError) as error:
                raise PydanticCustomError(
                    "keys_file", "cannot be read: {why}", {"why": str(error)}
                ) from error
        return path

    @field_validator("store_url")
    @classmethod
    def _known_store(cls, url: str) -> str:
        scheme = urlsplit(url).scheme
        if scheme not in STORES or (scheme == "sqlite" and not re.fullmatch(r"sqlite:///.*[^/]", url)):
            choices = ", ".join(STORES)
            raise PydanticCustomError("store_url", f"expected sqlite:///path, or one of {choices} and ://")
        return url

    def all_api_keys(self) -> list[str]:
        """Return the keys of clients, from both settings."""
        given = [] if self.api_keys is None else _split(self.api_keys.get_secret_value())
        return given + ([] if self.api_keys_file is None else _lines(self.api_keys_file))

    def with_keys_read(self) -> "Settings":
        """Return the settings with the file's keys in them: a worker that starts later has the same ones."""
        if self.api_keys_file is None:
            return self
        keys = SecretStr(",".join(self.all_api_keys()))
        return self.model_copy(update={"api_keys": keys, "api_keys_file": None})

    @property
    def has_api_keys(self) -> bool:
        """Whether requests need a key."""
        return self.api_keys is not None or self.api_keys_file is not None


def read_settings(*, host: str | None = None, port: int | None = None) -> Settings:
    """Read the environment and the file of keys; arguments that are not None win over it.

    Raises:
        SettingsError: a value is not acceptable; the message names each key and value.
    """
    arguments: dict[str, Any] = {"host": host, "port": port}
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        wrong = [
            f"{PREFIX}{name.upper()}={_told(name, entry['input'])!r}: {entry['msg']}"
            for entry in error.errors(include_url=False)
            if entry["type"] != "default_factory_not_called"  # what follows from another's error
            for name in [str(entry["loc"][0])]
        ]
        raise SettingsError("; ".join(wrong)) from error
    return settings.with_keys_read()


def unknown_variables() -> list[str]:
    """Return the environment variables with the prefix that no setting has, probably misspelt."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    return sorted(
        name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known
    )


def describe_settings() -> str:
    """Return one paragraph for each setting: name, default and meaning."""
    lines = []
    for name, field in Settings.model_fields.items():
        default = "usable cores / workers" if field.default_factory else field.default
        meaning = " ".join((field.description or "").split())
        lines.append(f"  {PREFIX}{name.upper()} (default: {default})\n      {meaning}")
    return "\n".join(lines)


def _split(keys: str) -> list[str]:
    return [key.strip() for key in keys.split(",")]


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]


def _check_keys(keys: Sequence[str]) -> None:
    """Raise PydanticCustomError unless there are keys, and each could stand in a header."""
    if not keys or not all(re.fullmatch(r"[!-+\--~]{8,256}", key) for key in keys):
        raise PydanticCustomError("key", "a key is 8 to 256 visible ASCII characters without commas")


def _told(name: str, value: object) -> str:
    """Return a setting's value as it may be told."""
    return "***" if name in _SECRET else _without_secret(str(value))


def _without_secret(value: str) -> str:
    """Return the value with a URL's user and password masked."""
    start, separator, rest = value.partition("://")
    return f"{start}://***@{rest.rpartition('@')[2]}" if separator and "@" in rest else value
