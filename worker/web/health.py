"""The checks of /healthz: the store is readable, Redis answers, beat is alive, the configuration is valid.

The page needs no token, so it only names the part that fails; the log gives the reason.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from worker.config.broker import NoRedisError, describe_redis_error, redis_url
from worker.config.settings import SecretError, Settings
from worker.logs import Log
from worker.store import StoreError
from worker.store.measures import heartbeats
from worker.text import counted
from worker.web.current import Configuration, OpenStore

log = Log(__name__)

REDIS_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class HealthCheck:
    healthy: bool
    detail: str
    age_seconds: float | None = None


def health(store: OpenStore, configuration: Configuration, now: datetime) -> dict[str, HealthCheck]:
    """The result of each check, by the name of its part."""
    settings = configuration.settings
    try:
        with store() as opened, opened.read() as connection:
            beat = beat_check(heartbeats(connection).get("beat"), 3 * settings.timing.reconcile, now)
        store_check = HealthCheck(True, "readable")
    except StoreError as error:
        beat = HealthCheck(False, "unknown: its heartbeat is in the store")
        log.warning("store_unavailable", reason=str(error))
        store_check = HealthCheck(False, "cannot be read; the log says why")
    redis_check = HealthCheck(True, "answers")
    if (why := redis_problem(settings)) is not None:
        log.warning("redis_unavailable", reason=why)
        redis_check = HealthCheck(False, "does not answer; the log says why")
    configuration_check = HealthCheck(True, "usable")
    if count := configuration.mistakes:
        mistakes = f"the file has {counted(count, 'mistake')}, which `registry-gc check` lists"
        configuration_check = HealthCheck(False, f"{mistakes}; nothing is deleted until they are fixed")
    return {"store": store_check, "redis": redis_check, "beat": beat, "configuration": configuration_check}


def beat_check(heartbeat_at: datetime | None, allowed: timedelta, now: datetime) -> HealthCheck:
    """Fails if beat has sent no heartbeat for `allowed`."""
    if heartbeat_at is None:
        return HealthCheck(False, "no heartbeat yet")
    seconds = (now - heartbeat_at).total_seconds()
    detail = f"last heartbeat {seconds:.0f} s ago"
    if now - heartbeat_at > allowed:
        return HealthCheck(False, f"{detail}, expected within {allowed.total_seconds():g} s", seconds)
    return HealthCheck(True, detail, seconds)


def redis_problem(settings: Settings) -> str | None:
    """Why Redis cannot be used, without any part of its URL; None if it answers a PING."""
    try:
        client = Redis.from_url(
            redis_url(settings),
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),
            client_name="registry-gc-web",
        )
        with client:
            client.ping()
    except (ValueError, TypeError):  # their messages quote the URL
        return "its URL cannot be used"
    except RedisError as error:
        return describe_redis_error(error)
    except (SecretError, NoRedisError) as error:
        return str(error)
    return None
