"""Behaviours in which other registries differ, and how the driver handles them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.drivers import QUICK, with_defaults
from tests.support.oci.fake import FLAVOURS, BasicAuth, FakeRegistry, TokenAuth
from tests.support.oci.manifests import ACCEPT
from tests.support.oci.wire import Wire, WireResponse
from worker.config.settings import Credentials, Secret
from worker.registries import open_registry
from worker.registries.errors import PermanentlyReadOnlyError, RateLimitedError, RegistryError, UsedByImageListsError
from worker.registries.interface import Deletion, Registry


def opened(registry: FakeRegistry, **changes: Any) -> Registry:
    given = {"kind": "oci", "url": registry.url, "credentials": Credentials(anonymous=True), "repositories": ("a",)}
    return open_registry(with_defaults(**{**given, **changes}), retries=QUICK, manifests=None)


# Whole registries


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> Iterator[FakeRegistry]:
    with FakeRegistry(**FLAVOURS[request.param]) as registry:
        yield registry
        assert registry.refused == []


def test_the_driver_lists_any_of_them(flavour: FakeRegistry) -> None:
    images = flavour.fill("a", 120)
    index = flavour.push_index("a", "all", children=[image.digest for image in images[:3]])
    with opened(flavour) as driver:
        tags = {image.digest: image.tags for image in driver.images("a")}
    assert tags == {image.digest: image.tags for image in [*images, index]}


def test_the_driver_deletes_or_says_why_not(flavour: FakeRegistry) -> None:
    child, other = (flavour.push("a", tag, layers=[tag.encode()]) for tag in ("child", "other"))
    flavour.push_index("a", "all", children=[child.digest])
    with opened(flavour) as driver:
        images = {image.digest: image for image in driver.images("a")}
        if flavour.switches.deletion == "off":
            with pytest.raises(PermanentlyReadOnlyError):
                driver.delete("a", images[other.digest], "key")
            return
        assert driver.delete("a", images[other.digest], "key") == Deletion("", done=True)
        if flavour.switches.protects:
            with pytest.raises(UsedByImageListsError):
                driver.delete("a", images[child.digest], "key")
    assert flavour.deleted == [("a", other.digest)]


# Deletion


@pytest.mark.parametrize("deleted", ["late", "tags answer"])
def test_the_driver_does_not_report_that_deletion_as_done(deleted: str) -> None:
    with FakeRegistry(deleted=deleted) as registry, opened(registry) as driver:
        pushed = registry.push("a", "v1")
        (image,) = driver.images("a")
        begun = driver.delete("a", image, "key")
        assert not begun.done
        if deleted == "late":
            registry.before("HEAD", f"/manifests/{pushed.digest}", registry.finish_deletions, after=1)
            followed = driver.follow(begun, deadline=float("inf"))
            assert followed.done
            assert registry.deleted == [("a", pushed.digest)]
        else:
            assert not driver.follow(begun, deadline=0.0).done


# Tokens from elsewhere


def anna(folder: Path) -> Credentials:
    (folder / "password").write_text("secret")
    return Credentials(username="anna", password=Secret(file=folder / "password"))


@pytest.mark.parametrize("named", ["token", "access_token"])
@pytest.mark.parametrize("allowed", [True, False])
def test_the_driver_signs_in_only_where_it_may(tmp_path: Path, named: Any, allowed: bool) -> None:
    tokens = TokenAuth(user=BasicAuth("anna", "secret"), elsewhere=True, named=named, tells_lifetime=False)
    with FakeRegistry(tokens) as registry:
        registry.push("a", "v1")
        hosts = (registry.token_host,) if allowed else ()
        with opened(registry, credentials=anna(tmp_path), token_hosts=hosts) as driver:
            if allowed:
                assert [image.tags for image in driver.images("a")] == [("v1",)]
                assert tokens.asked == [("repository:a:pull",)]
            else:
                with pytest.raises(RegistryError, match="token_hosts"):
                    driver.images("a")
                assert tokens.asked == []
        assert registry.refused == []


def ask(registry: FakeRegistry, method: str, path: str, url: str = "", **options: Any) -> WireResponse:
    wire = Wire(url or registry.url)
    try:
        return wire.ask(method, path, **{"headers": {"Accept": ACCEPT}, **options})
    finally:
        wire.close()


def test_a_429_in_plain_text_is_a_rate_limit() -> None:
    with FakeRegistry() as registry, opened(registry) as driver:
        registry.push("a", "v1")
        (image,) = driver.images("a")
        registry.fault("status", "DELETE", times=None, status=429, text="pull rate limit", headers={"Retry-After": "0"})
        answer = ask(registry, "DELETE", f"/v2/a/manifests/{image.digest}")
        assert (answer.status, answer.body, answer.header("Content-Type")) == (429, b"pull rate limit", "text/plain")
        assert answer.header("Retry-After") == "0"
        with pytest.raises(RateLimitedError) as failure:
            driver.delete("a", image, "key")
        assert not failure.value.maybe_done
        assert registry.deleted == []
