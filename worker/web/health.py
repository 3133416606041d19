"""Is the store readable, does Redis answer, is beat alive, is the configuration usable? Each with a word for people.

The page needs no token: it says which part is ill and no more; why stands in the log.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from worker.config.broker import NoRedisError, describe_redis_error, redis_url
from worker.config.settings import SecretError, Settings
from worker.logs import Log
from worker.store import StoreError
from worker.store.measures import heartbeats
from worker.web.door import Configuration, OpenStore

log = Log(__name__)

PATIENCE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    well: bool
    word: str
    age_seconds: float | None = None

    def document(self) -> dict[str, Any]:
        age = {} if self.age_seconds is None else {"age_seconds": round(self.age_seconds, 3)}
        return {"status": "ok" if self.well else "ill", "detail": self.word, **age}


def health(store: OpenStore, configuration: Configuration, now: datetime) -> dict[str, Check]:
    """Each part by its name."""
    settings = configuration.settings
    try:
        with store() as opened, opened.read() as connection:
            beat = beat_check(heartbeats(connection).get("beat"), 3 * settings.timing.reconcile, now)
        readable = Check(True, "readable")
    except StoreError as error:
        beat = Check(False, "unknown: the store would tell")
        log.warning("store_unavailable", reason=str(error))
        readable = Check(False, "cannot be read; the log says why")
    redis = Check(True, "answers")
    if (why := redis_trouble(settings)) is not None:
        log.warning("redis_unavailable", reason=why)
        redis = Check(False, "does not answer; the log says why")
    usable = Check(True, "usable")
    if configuration.mistakes:
        count = "a mistake" if configuration.mistakes == 1 else f"{configuration.mistakes} mistakes"
        said = f"the file has {count}; `registry-gc check` tells; nothing is deleted until it is mended"
        usable = Check(False, said)
    return {"store": readable, "redis": redis, "beat": beat, "configuration": usable}


def beat_check(at: datetime | None, allowed: timedelta, now: datetime) -> Check:
    """Ill after three intervals of reconcile without a sign of life."""
    if at is None:
        return Check(False, "never heard of")
    seconds = (now - at).total_seconds()
    word = f"last heard of {seconds:.0f} s ago"
    if now - at > allowed:
        return Check(False, f"{word}, expected within {allowed.total_seconds():g} s", seconds)
    return Check(True, word, seconds)


def redis_trouble(settings: Settings) -> str | None:
    """Why Redis cannot be used, without any part of its URL; None: it answers one PING, which is never repeated."""
    try:
        client = Redis.from_url(
            redis_url(settings),
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
            retry=Retry(NoBackoff(), 0),
            client_name="registry-gc-web",
        )
        with client:
            client.ping()
    except (ValueError, TypeError):  # their texts quote the URL
        return "its URL cannot be used"
    except RedisError as error:
        return describe_redis_error(error)
    except (SecretError, NoRedisError) as error:
        return str(error)
    return None
