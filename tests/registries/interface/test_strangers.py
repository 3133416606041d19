"""Names from the wire that no good registry has: refused or left out, and never a part of a path."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from tests.registries.interface.server import Server
from tests.registries.interface.steps import listed
from worker.registries.errors import BadResponseError
from worker.registries.interface import Registry

T = TypeVar("T")

NAMES = [
    pytest.param("../../admin", id="dots"),
    pytest.param("a%2Fb%2e%2e", id="encoded"),
    pytest.param("a\r\nHost: b", id="two lines"),
    pytest.param("a\x00b", id="a zero"),
    pytest.param("a?b=c#d", id="a query"),
    pytest.param("x" * 5_000, id="endless"),
]


def unless_refused(call: Callable[[], T]) -> T | None:
    """The accepted result; None: the driver refused the response, with a printable message."""
    try:
        return call()
    except BadResponseError as error:
        words = str(error)
    assert len(words) < 1_000
    assert words.isprintable()
    return None


@pytest.mark.parametrize("name", NAMES)
def test_refuses_an_invalid_repository_name(server: Server, driver: Registry, name: str) -> None:
    server.push("harmless", "v1")
    server.push("other", "v1")
    server.proxy.replace_text(name, instead_of="harmless")
    paths = unless_refused(lambda: list(driver.repositories()))
    assert paths is None or {*paths} - {name} == {"other"}
    for path in paths or ():  # a listed invalid path is unreadable alone
        assert unless_refused(lambda path=path: driver.images(path)) is None or path != name
    assert server.proxy.received_naming(name) == []


@pytest.mark.parametrize("name", NAMES)
def test_refuses_an_invalid_tag(server: Server, driver: Registry, name: str) -> None:
    """A listed image has all its tags, because any tag may keep it."""
    digest = server.push("shop/api", "harmless", "v1").digest
    server.proxy.replace_text(name, instead_of="harmless")
    images = unless_refused(lambda: listed(driver, "shop/api"))
    if images and digest in images:
        assert set(images[digest].tags) in ({name, "v1"}, {"v1"} if server.names_may_be_no_tags else {name, "v1"})
    assert server.proxy.received_naming(name) == []


@pytest.mark.parametrize("name", NAMES)
def test_refuses_an_invalid_digest(server: Server, driver: Registry, name: str) -> None:
    child = server.push("shop/api", layers=["child"])
    index = server.push_index("shop/api", [child.digest], "v1")
    for digest in (child.digest, index.digest):
        server.proxy.heal()
        server.proxy.replace_text(name, instead_of=digest)
        images = unless_refused(lambda: listed(driver, "shop/api")) or {}
        assert name not in images
        assert all(name not in (image.children or ()) for image in images.values())
    assert server.proxy.received_naming(name) == []
