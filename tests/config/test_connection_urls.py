"""URLs of Redis and of the store: accepted URLs, and flaws that quote no part of the URL."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.config.connection_urls import is_sqlite_with_remote_redis, redis_flaw, store_flaw


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "redis://cache",
        "redis://[::1]:6379",
        "rediss://user:p%40ss@cache.example.com:6380/15?ssl_cert_reqs=required&socket_timeout=2.5",
        "unix:///run/redis.sock?db=1",
        "unix://user:word@/run/redis.sock",
    ],
)
def test_accepts_valid_redis_urls(url: str) -> None:
    assert redis_flaw(url) == ""


@pytest.mark.parametrize(
    ("url", "flaw"),
    [
        ("http://cache", "its scheme is not redis, rediss or unix"),
        ("cache:6379", "its scheme is not redis, rediss or unix"),
        ("redis://", "its host or port is invalid"),
        ("redis://cache:0", "its host or port is invalid"),
        ("redis://cache:65536", "its host or port is invalid"),
        ("redis://:hunter2/word@cache", "its host or port is invalid"),
        ("redis://cache/first", "its path is not the number of a database"),
        ("redis://cache/12345", "its path is not the number of a database"),
        ("redis://cache?tiemout=3", "the part after ? has an unknown option"),
        ("redis://cache?db", "the part after ? cannot be read"),
        ("redis://cache?db=first", "its option db has an invalid value"),
        ("redis://:hunter 2@cache", "it contains a space, a # or a \\"),
        ("redis://:hunter#2@cache", "it contains a space, a # or a \\"),
        ("redis://:hunter%2@cache", "it contains a % that starts no code"),
        ("redis://[::1", "it cannot be read"),
        ("unix://run/redis.sock", "the socket's absolute path does not follow unix://"),
        ("unix:///", "the socket's absolute path does not follow unix://"),
    ],
)
def test_names_the_flaw_of_a_redis_url(url: str, flaw: str) -> None:
    assert redis_flaw(url) == f"expected a Redis URL: {flaw}"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////var/lib/gc.db",
        "sqlite:///gc.db",
        "postgresql+psycopg://gc:p%40ss@db.example.com:5432/gc",
        "postgresql+psycopg:///gc?host=/run/postgresql",
        "postgresql+psycopg://db/gc?sslmode=verify-full&connect_timeout=3",
    ],
)
def test_accepts_valid_store_urls(url: str) -> None:
    assert store_flaw(url) == ""


@pytest.mark.parametrize(
    ("url", "flaw"),
    [
        ("sqlite://", "expected the path of a file after sqlite://"),
        ("sqlite:////var/lib/", "expected the path of a file after sqlite://"),
        ("sqlite:////var/lib/gc.db?mode=ro", "expected the path of a file after sqlite://"),
        ("mysql://db/gc", "expected a store URL: its scheme is not sqlite or postgresql+psycopg"),
        ("postgresql://db/gc", "expected a store URL: its scheme is not sqlite or postgresql+psycopg"),
        ("postgresql+psycopg://gc:hunter@2@db/gc", "expected a store URL: it contains more than one @"),
        ("postgresql+psycopg://db:port/gc", "expected a store URL: its host or port is invalid"),
        ("postgresql+psycopg:///gc", "expected a store URL: its host or port is invalid"),
        ("postgresql+psycopg://db", "expected a store URL: its path is not the name of a database"),
        ("postgresql+psycopg://db/a/b", "expected a store URL: its path is not the name of a database"),
        ("postgresql+psycopg://db/gc?sslmod=x", "expected a store URL: "
         "the part after ? has an unknown option"),
    ],
)  # fmt: skip
def test_names_the_flaw_of_a_store_url(url: str, flaw: str) -> None:
    assert store_flaw(url) == flaw


@given(
    st.sampled_from(["redis://", "unix://", "postgresql+psycopg://", "sqlite://", ""]),
    st.text("hunter2:@/?#%& [", max_size=30),
)
def test_no_flaw_quotes_the_url(scheme: str, rest: str) -> None:
    for flaw in (redis_flaw(scheme + rest), store_flaw(scheme + rest)):
        assert "hunter2" not in flaw
        assert "\n" not in flaw


@pytest.mark.parametrize(
    ("store", "redis", "far"),
    [
        ("sqlite:////gc.db", "redis://cache/0", True),
        ("sqlite:////gc.db", "rediss://10.0.0.1", True),
        ("sqlite:////gc.db", "redis://127.0.0.1", False),
        ("sqlite:////gc.db", "redis://localhost", False),
        ("sqlite:////gc.db", "unix:///run/redis.sock", False),
        ("sqlite:////gc.db", None, False),
        ("postgresql+psycopg://db/gc", "redis://cache", False),
    ],
)
def test_detects_a_sqlite_store_with_a_remote_redis(store: str, redis: str | None, far: bool) -> None:
    assert is_sqlite_with_remote_redis(store, redis) is far
