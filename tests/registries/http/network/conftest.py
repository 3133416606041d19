"""A registry behind TLS by a company's own authority, once a module, and drivers for it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.registries.http.network.servers import Authority, tls_front
from tests.support.drivers import with_defaults
from tests.support.oci.fake import FakeRegistry
from worker.config.settings import Credentials
from worker.registries import open_registry
from worker.registries.http.messages import Retries
from worker.registries.interface import Registry

Opener = Callable[..., Registry]
ONCE = Retries(attempts=1, total=10.0)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def plain() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.push("shop/api", "v1")
        yield registry
        assert registry.refused == []


@pytest.fixture(scope="module")
def _front(authority: Authority) -> Iterator[tuple[int, list[str]]]:
    backend: list[str] = [""]
    certificate = authority.issue("localhost", "registry.example.com")
    with tls_front(lambda: backend[0], certificate) as port:
        yield port, backend


@pytest.fixture
def tls_port(_front: tuple[int, list[str]], plain: FakeRegistry) -> int:
    """The port of `plain` behind TLS, for localhost and registry.example.com."""
    port, backend = _front
    backend[0] = plain.host
    return port


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens drivers for a URL, anonymous by default, and closes them after the test."""
    with ExitStack() as stack:

        def open_one(url: str, **changes: Any) -> Registry:
            given = {"kind": "oci", "url": url, "credentials": Credentials(anonymous=True), **changes}
            return stack.enter_context(open_registry(with_defaults(**given), retries=ONCE))

        yield open_one
