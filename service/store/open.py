"""Choosing a store by its URL."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from service.errors import SettingsError
from service.store.protocol import Retention, SequenceStore
from service.store.redis_cluster import SCHEMES, RedisCluster
from service.store.redis_connection import RedisConnection
from service.store.redis_store import RedisStore
from service.store.sqlite_store import SqliteStore


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What a store needs to know beside its URL; times in seconds."""

    retention: Retention
    write_timeout_s: float


def open_store(url: str, options: StoreOptions) -> SequenceStore:
    """Open the store that a URL names.

    A Redis server need not be up: the store is then unavailable until it is.

    Raises:
        StoreSchemaError: the SQLite file cannot be opened by this release.
        SettingsError: the URL cannot be understood.
    """
    _check_login(url)
    try:
        return STORES[urlsplit(url).scheme](url, options)
    except ValueError as error:
        raise SettingsError(f"RECJPQ_STORE_URL: {error}") from error


def _check_login(url: str) -> None:
    """Refuse a Redis URL that its user or password ends early; the parser's own error would tell it."""
    scheme, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if scheme.startswith("redis") and "@" in rest[len(authority) :]:
        raise SettingsError(
            "RECJPQ_STORE_URL: found / ? or # before the @; in a user or password write %2F, %3F or %23"
        )


def _redis(url: str, options: StoreOptions) -> SequenceStore:
    return RedisStore(RedisConnection(url, timeout_s=options.write_timeout_s), options.retention)


def _redis_cluster(url: str, options: StoreOptions) -> SequenceStore:
    return RedisStore(RedisCluster(url, timeout_s=options.write_timeout_s), options.retention)


def _sqlite(url: str, options: StoreOptions) -> SequenceStore:
    return SqliteStore.open(
        url.removeprefix("sqlite:///"), options.retention, lock_timeout_s=options.write_timeout_s
    )


STORES: dict[str, Callable[[str, StoreOptions], SequenceStore]] = {
    "redis": _redis,
    "rediss": _redis,
    "unix": _redis,
    **dict.fromkeys(SCHEMES, _redis_cluster),
    "sqlite": _sqlite,
}
