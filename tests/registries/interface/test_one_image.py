"""Rereading one image, and facts about a driver and its registry."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from tests.registries.interface.server import Server
from tests.registries.interface.steps import listed, one
from tests.support.http_fault_proxy import ForwardRequest, ProxiedRequest, ProxyResponse
from tests.support.waiting import until
from worker.registries.errors import NotFoundError, RegistryError
from worker.registries.interface import FindsByDigest, ListsTagsOnly, Registry, Restores

KNOWN = dict.fromkeys(("v1", "latest", "other"), "")


@pytest.fixture
def pushed(server: Server) -> str:
    """The digest of an image tagged v1 and latest, next to another image."""
    server.push("shop/api", "other", layers=["other"])
    return server.push("shop/api", "v1", "latest").digest


def test_reads_an_image_again(server: Server, driver: Registry, pushed: str) -> None:
    image = one(server, "shop/api", pushed)
    assert driver.get("shop/api", image, KNOWN) == image


def test_rereads_a_new_tag(server: Server, driver: Registry, pushed: str) -> None:
    image = one(server, "shop/api", pushed)
    server.tag("shop/api", pushed, "new")
    assert set(driver.get("shop/api", image, KNOWN).tags) == {"v1", "latest", "new"}


def test_rereads_a_tag_that_another_image_had(server: Server, driver: Registry, pushed: str) -> None:
    image = one(server, "shop/api", pushed)
    server.tag("shop/api", pushed, "other")
    tags = set(driver.get("shop/api", image, KNOWN).tags)
    # Where an image's own tags cannot be asked for, those that the scan has seen on others are not asked for again.
    assert tags == {"v1", "latest", "other"} or (isinstance(driver, ListsTagsOnly) and tags == {"v1", "latest"})


def test_rereads_that_a_tag_was_moved(server: Server, driver: Registry, pushed: str) -> None:
    image = one(server, "shop/api", pushed)
    server.push("shop/api", "latest", layers=["newer"])
    assert set(driver.get("shop/api", image, KNOWN).tags) == {"v1"}


def test_rereads_that_a_tag_was_deleted(server: Server, driver: Registry, pushed: str) -> None:
    image = one(server, "shop/api", pushed)
    server.untag("shop/api", "latest")
    assert set(driver.get("shop/api", image, KNOWN).tags) == {"v1"}


def test_rereads_that_an_image_was_deleted(server: Server, driver: Registry, pushed: str) -> None:
    image = one(server, "shop/api", pushed)
    server.remove("shop/api", pushed)
    with pytest.raises(NotFoundError):
        driver.get("shop/api", image, KNOWN)


def test_finds_an_untagged_image_by_its_digest(server: Server, driver: Registry) -> None:
    assert isinstance(driver, FindsByDigest)
    kept, gone = server.push("shop/api", layers=["kept"]), server.push("shop/api", layers=["gone"])
    server.remove("shop/api", gone.digest)
    wanted = (kept.digest, gone.digest, f"sha256:{'0' * 64}")
    assert driver.existing("shop/api", wanted) == {kept.digest}


def test_has_the_abilities_in_the_table_of_kinds(server: Server, driver: Registry) -> None:
    kind = server.tells
    assert isinstance(driver, Restores) is bool(kind.to_restore)
    assert isinstance(driver, ListsTagsOnly) is not kind.lists_untagged


def test_reports_the_time_of_the_registry(server: Server, driver: Registry) -> None:
    for ahead in (timedelta(0), timedelta(hours=3)):
        server.proxy.clock_ahead = ahead
        server_time = driver.clock()
        assert server_time.utcoffset() == timedelta(0)
        assert abs(server_time - datetime.now(UTC) - ahead) < timedelta(seconds=30)


def test_counts_its_requests(server: Server, driver: Registry) -> None:
    server.push("shop/api", "v1")
    before = len(server.proxy.received())
    for path in driver.repositories():
        driver.images(path)
    spent = driver.usage()
    assert sum(spent.requests.values()) == len(server.proxy.received()) - before > 0
    assert driver.usage().requests == {}
    server.proxy.on("", lambda asked, forward: ProxyResponse(503))
    with pytest.raises(RegistryError):
        driver.images("shop/api")
    assert any(code == "503" for _, code in driver.usage().requests)


def test_closes_its_connections(server: Server) -> None:
    server.push("shop/api", "v1")
    until(lambda: server.proxy.open_connections == 0, what="the end of older connections")
    with server.open() as driver:
        driver.images("shop/api")
        assert server.proxy.open_connections > 0
    until(lambda: server.proxy.open_connections == 0, what="the end of all connections")


def test_never_shows_a_secret(server: Server, driver: Registry, caplog: pytest.LogCaptureFixture) -> None:
    """Neither its repr nor an error shows a secret, although the server repeats the credentials."""
    caplog.set_level(logging.DEBUG)
    server.push("shop/api", "v1")
    listed(driver, "shop/api")
    sent: list[str] = []

    def repeat(asked: ProxiedRequest, forward: ForwardRequest) -> ProxyResponse:
        sent.append(asked.headers.get("authorization", ""))
        reply = server.refusal(403, f"not with {sent[-1]}")
        return ProxyResponse(403, reply.body, reply.headers)

    server.proxy.on(server.calls.images, repeat)
    with pytest.raises(RegistryError) as failure:
        driver.images("shop/api")
    logged = [vars(record) for record in caplog.records]
    shown = f"{failure.value} {failure.value!r} {driver!r} {server.settings('http://127.0.0.1')!r} {logged}"
    scheme, _, credentials = sent[-1].partition(" ")
    assert scheme
    for secret in (*server.secrets, credentials):
        assert len(secret) > 5
        assert secret not in shown
