"""A registry whose url has a path: `/v2/` is appended to it, unless the path begins with it."""

from typing import Any

import pytest

from tests.registries.http.network.conftest import Opener
from tests.support.oci.fake import FakeRegistry, TokenAuth
from worker.registries.errors import NotFoundError

ABOVE, BELOW = "/artifactory/api/docker/local", "/v2/project"


@pytest.mark.parametrize("path", [ABOVE, BELOW])
@pytest.mark.parametrize("auth", [None, TokenAuth(), TokenAuth(elsewhere=True)], ids=["nobody", "tokens", "elsewhere"])
def test_works_with_a_registry_below_the_path_of_a_proxy(opened: Opener, path: str, auth: TokenAuth | None) -> None:
    """Pages, sign-in, blobs, deletion and mounts, though the registry itself knows nothing of the path."""
    mounted = path if path.startswith("/v2") else f"{path}/v2"
    with FakeRegistry(auth, mounted=mounted, tags_page=2, catalog_page=1, redirect=True) as registry:
        images = [registry.push("shop/api", f"v{number}", layers=[b"%d" % number]) for number in range(5)]
        registry.push("shop/web", "v1")
        driver: Any = opened(f"{registry.url}{path}", token_hosts=(registry.token_host,))
        assert driver.clock()
        assert list(driver.repositories()) == ["shop/api", "shop/web"]
        assert len(driver.images("shop/api")) == 5
        assert driver.missing_blobs("shop/api", [images[0].layers[0].digest]) == ()
        assert driver.mount("shop/api", images[0].layers[0].digest, "shop/web") is False
        image = next(image for image in driver.images("shop/api") if image.digest == images[0].digest)
        assert driver.delete("shop/api", image, "key").done
        assert registry.deleted == [("shop/api", images[0].digest)]
        ended = [line for line in registry.lines("DELETE") if "/blobs/uploads/" in line]
        assert len(ended) == 1, "the upload that the mount began was left open"
        assert [line for line in registry.refused if ended[0] not in line] == []


def test_works_with_a_namespace_of_an_ordinary_registry(opened: Opener) -> None:
    """The registry knows its repositories by their whole names, answers /v2/ alone, and lists them all."""
    tokens = TokenAuth(granted={"registry:catalog:*", "repository:project/api:pull", "repository:project/web:pull"})
    with FakeRegistry(tokens) as registry:
        for name in ("project/api", "project/web", "other/api"):
            registry.push(name, "v1")
        driver = opened(f"{registry.url}{BELOW}")
        assert driver.clock()
        assert list(driver.repositories()) == ["api", "web"]
        (image,) = driver.images("api")
    assert image.name == f"{registry.host}/project/api"
    assert ("repository:project/api:pull",) in tokens.asked
    assert not any("project" not in "".join(scopes) for scopes in tokens.asked if "repository" in "".join(scopes))


def test_mounting_names_the_source_as_the_registry_knows_it(opened: Opener) -> None:
    with FakeRegistry() as registry:
        pushed = registry.push("project/web", "v1")
        driver: Any = opened(f"{registry.url}{BELOW}")
        assert driver.mount("api", pushed.layers[0].digest, "web") is True


def test_reports_the_address_of_a_registry_that_does_not_respond(opened: Opener) -> None:
    with FakeRegistry() as registry, pytest.raises(NotFoundError) as raised:
        opened(f"{registry.url}/prefix").clock()
    assert f"no registry answers at {registry.url}/prefix/v2/" in str(raised.value)
