"""URLs of the store and of Redis: which are accepted, in the file or in a secret.

A flaw quotes no part of the URL: text in the wrong place may be a part of a password.
"""

import re
from collections.abc import Collection
from urllib.parse import SplitResult, parse_qsl, urlsplit

from worker.config.addresses import is_loopback

REDIS_EXAMPLE = "write, for example, redis://127.0.0.1:6379/0"
STORE_EXAMPLE = "write sqlite:////absolute/path.db or postgresql+psycopg://user@host/database"
ENCODE = "write @ : / ? # % and spaces in a user's name or password as %40 %3A %2F %3F %23 %25 %20"

# Options that redis-py and Celery both support. Source: redis.connection.URL_QUERY_ARGUMENT_PARSERS, and TLS.
REDIS_OPTIONS = {
    "db": "[0-9]{1,4}",
    "socket_timeout": "[0-9.]{1,9}",
    "socket_connect_timeout": "[0-9.]{1,9}",
    "socket_keepalive": "(?i:true|false|yes|no|[01])",
    "health_check_interval": "[0-9]{1,9}",
    "max_connections": "[0-9]{1,9}",
    "protocol": "[23]",
    "ssl_cert_reqs": "(?i:none|optional|required|cert_none|cert_optional|cert_required)",
    "ssl_check_hostname": "(?i:true|false|yes|no|[01])",
    "ssl_ca_certs": ".+",
    "ssl_certfile": ".+",
    "ssl_keyfile": ".+",
    "username": ".+",
    "password": ".+",
}
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?"


class _FlawError(Exception):
    """What is wrong with a URL."""


def redis_flaw(url: str) -> str:
    """The problem of a Redis URL; empty: none. Quotes no part of the URL. Contacts nothing: a URL without a problem may
    still not work.
    """
    try:
        _check_redis(_split(url))
    except _FlawError as flaw:
        return f"expected a Redis URL: {flaw}"
    return ""


def _check_redis(parts: SplitResult) -> None:
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise _FlawError("its scheme is not redis, rediss or unix")
    if parts.scheme == "unix":
        _, _, host = parts.netloc.rpartition("@")
        if host or not parts.path.strip("/"):
            raise _FlawError("the socket's absolute path does not follow unix://")
    else:
        _check_host(parts.netloc)
        if not re.fullmatch("/?[0-9]{0,4}", parts.path):
            raise _FlawError("its path is not the number of a database")
    for key, value in _options(parts.query, REDIS_OPTIONS):
        if not re.fullmatch(REDIS_OPTIONS[key], value):
            raise _FlawError(f"its option {key} has an invalid value")


SQLITE_WITH_REMOTE_REDIS = (
    "the store is a SQLite file of this machine, but Redis is on another one: a worker elsewhere would take messages"
    " about rows that its store does not have; use PostgreSQL for workers on several machines"
)


def is_sqlite_with_remote_redis(store: str, redis: str | None) -> bool:
    """Whether workers of other machines can take messages of this store without access to it. Both are URLs; `redis`
    None: not configured. A socket is local. Every name but localhost counts as remote.
    """
    parts = urlsplit(redis or "")
    there = parts.hostname if parts.scheme in ("redis", "rediss") else None
    return store.startswith("sqlite:") and there is not None and not is_loopback(there)


def store_flaw(url: str) -> str:
    """The problem of a store URL; empty: none."""
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return "" if re.fullmatch(r"/[^?#:\s]*[^/?#:\s]", rest) else "expected the path of a file after sqlite://"
    try:
        _check_postgresql(_split(url))
    except _FlawError as flaw:
        return f"expected a store URL: {flaw}"
    return ""


def _check_postgresql(parts: SplitResult) -> None:
    if parts.scheme != "postgresql+psycopg":
        raise _FlawError("its scheme is not sqlite or postgresql+psycopg")
    if "@" in parts.netloc.rpartition("@")[0]:  # SQLAlchemy ends the password at the first @
        raise _FlawError("it contains more than one @")
    if parts.netloc.rpartition("@")[2] or not parts.query:
        _check_host(parts.netloc)
    if not re.fullmatch("/[^/@:]+", parts.path):
        raise _FlawError("its path is not the name of a database")
    if parts.query:
        from psycopg.pq import Conninfo  # noqa: PLC0415 - libpq is loaded only where it is asked

        _options(parts.query, {option.keyword.decode() for option in Conninfo.get_defaults()})


def _split(url: str) -> SplitResult:
    """The parts of a URL. Raises _FlawError for characters that a URL cannot contain."""
    if re.search(r"[\s\\#\x00-\x1f\x7f]", url):
        raise _FlawError("it contains a space, a # or a \\")
    if re.search("%(?![0-9A-Fa-f]{2})", url):
        raise _FlawError("it contains a % that starts no code")
    try:
        return urlsplit(url)
    except ValueError:
        raise _FlawError("it cannot be read") from None


def _check_host(netloc: str) -> None:
    match = re.fullmatch(_HOST, netloc.rpartition("@")[2])
    if match is None or (match["port"] is not None and not 0 < int(match["port"]) < 65536):
        raise _FlawError("its host or port is invalid")


def _options(query: str, known: Collection[str]) -> list[tuple[str, str]]:
    try:
        options = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise _FlawError("the part after ? cannot be read") from None
    if any(key not in known for key, _ in options):
        raise _FlawError("the part after ? has an unknown option")
    return options
