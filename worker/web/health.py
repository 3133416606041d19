"""Is the store readable, does Redis answer, is beat alive? Each with a word for people."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from worker.config import SecretError, Settings
from worker.store import Store, StoreError
from worker.store.measures import heartbeats

PATIENCE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    well: bool
    word: str
    age_seconds: float | None = None

    def document(self) -> dict[str, Any]:
        age = {} if self.age_seconds is None else {"age_seconds": round(self.age_seconds, 3)}
        return {"status": "ok" if self.well else "ill", "detail": self.word, **age}


@dataclass(frozen=True, slots=True)
class Health:
    store: Check
    redis: Check
    beat: Check

    @property
    def well(self) -> bool:
        return self.store.well and self.redis.well and self.beat.well

    def document(self) -> dict[str, Any]:
        checks = {name: getattr(self, name).document() for name in ("store", "redis", "beat")}
        return {"status": "ok" if self.well else "ill", **checks}


def health(
    store: Callable[[], AbstractContextManager[Store]], settings: Settings, redis: str | None, now: datetime
) -> Health:
    """Ask all three. `redis` is the URL of a Redis that the configuration does not name."""
    reconcile = settings.timing.reconcile
    try:
        with store() as opened, opened.read() as connection:
            beat = beat_check(heartbeats(connection).get("beat"), 3 * reconcile, now)
    except StoreError as error:
        unknown = Check(False, "unknown: the store would tell")
        return Health(Check(False, str(error)), redis_check(settings, redis), unknown)
    return Health(Check(True, "readable"), redis_check(settings, redis), beat)


def beat_check(at: datetime | None, patience: timedelta, now: datetime) -> Check:
    """Ill after three intervals of reconcile without a sign of life."""
    if at is None:
        return Check(False, "never heard of")
    age = now - at
    seconds = age.total_seconds()
    word = f"last heard of {seconds:.0f} s ago"
    if age > patience:
        return Check(False, f"{word}, expected within {patience.total_seconds():g} s", seconds)
    return Check(True, word, seconds)


def redis_check(settings: Settings, redis: str | None) -> Check:
    """One PING on a connection of its own, never repeated."""
    try:
        url = redis or settings.redis_url()
        if url is None:
            return Check(False, "no Redis is configured")
        client = Redis.from_url(
            url,
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
            retry=Retry(NoBackoff(), 0),
            client_name="registry-gc-web",
        )
        with client:
            client.ping()
    except (RedisError, SecretError, ValueError) as error:  # ValueError: a URL that is none
        return Check(False, next(iter(str(error).splitlines()), type(error).__name__))
    return Check(True, "answers")
