"""Restoring deleted images, for kinds that can restore."""

import hashlib

import pytest

from tests.registries.interface.server import Server
from tests.registries.interface.steps import deleted, listed, one
from worker.registries.errors import BlobsMissingError, NotFoundError
from worker.registries.interface import Registry, Restores


def digest_of(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def test_saves_a_manifest_byte_for_byte(server: Server, driver: Registry) -> None:
    assert isinstance(driver, Restores)
    pushed = server.push("shop/api", "v1")
    kept = driver.save("shop/api", pushed.digest)
    assert (kept.digest, kept.media_type, digest_of(kept.body)) == (pushed.digest, pushed.media_type, pushed.digest)
    server.remove("shop/api", pushed.digest)
    with pytest.raises(NotFoundError):
        driver.save("shop/api", pushed.digest)


def test_restores_a_deleted_image(server: Server, driver: Registry) -> None:
    assert isinstance(driver, Restores)
    child = server.push("shop/api", layers=["child"])
    index = server.push_index("shop/api", [child.digest], "v1", "latest")
    server.push("shop/api", "other")
    before, images = server.state(), listed(driver, "shop/api")
    kept = {digest: driver.save("shop/api", digest) for digest in (child.digest, index.digest)}
    for digest in (index.digest, child.digest):
        assert deleted(driver, "shop/api", images[digest]).done
    assert server.state() != before
    driver.push_manifest("shop/api", kept[child.digest])
    for tag in ("v1", "latest"):
        driver.push_manifest("shop/api", kept[index.digest], tag)
    assert server.state() == before
    assert driver.save("shop/api", index.digest) == kept[index.digest]
    assert listed(driver, "shop/api") == images


def test_resolves_a_tag(server: Server, driver: Registry) -> None:
    assert isinstance(driver, Restores)
    pushed = server.push("shop/api", "v1")
    assert driver.resolve_tag("shop/api", "v1") == pushed.digest
    assert driver.resolve_tag("shop/api", "v2") is None
    newer = server.push("shop/api", "v1", layers=["newer"])
    assert driver.resolve_tag("shop/api", "v1") == newer.digest


def test_names_the_missing_blobs(server: Server, driver: Registry) -> None:
    assert isinstance(driver, Restores)
    pushed = server.push("shop/api", "v1", layers=["base", "one"])
    assert pushed.blobs is not None
    assert driver.missing_blobs("shop/api", pushed.blobs) == ()
    lost = list(pushed.blobs)[1]
    server.lose_blob(lost)
    assert driver.missing_blobs("shop/api", pushed.blobs) == (lost,)


def test_refuses_a_manifest_without_its_blobs(server: Server, driver: Registry) -> None:
    assert isinstance(driver, Restores)
    pushed = server.push("shop/api", "v1", layers=["base", "one"])
    assert pushed.blobs is not None
    kept = driver.save("shop/api", pushed.digest)
    assert deleted(driver, "shop/api", one(server, "shop/api", pushed.digest)).done
    server.lose_blob(list(pushed.blobs)[1])
    with pytest.raises(BlobsMissingError):
        driver.push_manifest("shop/api", kept, "v1")
    assert pushed.digest not in server.state().get("shop/api", {})
