"""The Redis for task calls and the rate limit: the configured one, or the one of `registry-gc up`."""

import os
import socket
from collections.abc import Mapping

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.config.files import own_redis_file
from worker.config.settings import Settings


class NoRedisError(Exception):
    """No Redis is configured, and `registry-gc up` does not run on this machine."""


def redis_url(settings: Settings, environ: Mapping[str, str] = os.environ) -> str:
    """The URL as redis-py reads it. Raises NoRedisError, SecretError."""
    if (configured := settings.redis_url()) is not None:
        return configured
    try:
        return own_redis_file(environ).read_text().strip()
    except OSError:
        raise NoRedisError(
            "no redis is configured, and `registry-gc up`, which starts its own, does not run on this machine"
        ) from None


def connect(url: str) -> Redis:
    """A client without retries: a hidden retry may execute a command twice. Connects on first use."""
    return Redis.from_url(
        url,
        socket_timeout=2.0,
        socket_connect_timeout=2.0,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        health_check_interval=0,
    )


def describe_redis_error(error: BaseException) -> str:
    """Why a Redis command failed, without any part of the URL."""
    words = (
        ((exceptions.AuthenticationError, exceptions.AuthorizationError), "Redis refuses the user or the password"),
        ((exceptions.NoPermissionError,), "the user of Redis lacks a permission"),
        ((exceptions.TimeoutError, TimeoutError), "no answer in time"),
        ((socket.gaierror,), "the host name of Redis cannot be resolved"),
    )
    for kinds, reason in words:
        if isinstance(error, kinds):
            return reason
    if isinstance(error, exceptions.ResponseError):  # the words of the server, which does not know the URL
        return next(iter(str(error).splitlines()), "an empty error")
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    cause = error.__cause__ or error.__context__
    return describe_redis_error(cause) if cause is not None else "the connection failed"


def celery_url(url: str) -> str:
    """The same URL in the form that Celery reads. unix:// becomes redis+socket://. With rediss://, the server's
    certificate is verified unless the URL says otherwise.
    """
    if url.startswith("unix://"):
        return url.replace("unix://", "redis+socket://", 1)
    if url.startswith("rediss://") and "ssl_cert_reqs=" not in url:
        return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"  # the default of redis-py
    return url
