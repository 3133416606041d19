"""A registry whose url has a path: `/v2/` is appended to it, unless the path begins with it."""

from pathlib import Path
from typing import Any

import pytest

from tests.registries.http.network.conftest import Opener
from tests.support.drivers import with_defaults
from tests.support.oci.fake import FakeRegistry, Tokens
from worker.config.settings import ConfigError, Credentials, key_of, load, one_endpoint
from worker.registries.errors import NotFoundError
from worker.runs.evidence import own_address, path_here, paths_here

ABOVE, BELOW = "/artifactory/api/docker/local", "/v2/project"
FILE = """
registries:
  r: {kind: oci, url: "URL", credentials: {anonymous: true}, policy: p}
policies: {p: []}
"""


@pytest.mark.parametrize("path", [ABOVE, BELOW])
@pytest.mark.parametrize("auth", [None, Tokens(), Tokens(elsewhere=True)], ids=["nobody", "tokens", "elsewhere"])
def test_a_proxy_has_put_a_registry_there(opened: Opener, path: str, auth: Tokens | None) -> None:
    """Pages, sign-in, blobs, deletion and mounts, though the registry itself knows nothing of the path."""
    mounted = path if path.startswith("/v2") else f"{path}/v2"
    with FakeRegistry(auth, mounted=mounted, tags_page=2, catalog_page=1, redirect=True) as registry:
        images = [registry.push("shop/api", f"v{number}", layers=[b"%d" % number]) for number in range(5)]
        registry.push("shop/web", "v1")
        driver: Any = opened(f"{registry.url}{path}", token_hosts=(registry.token_host,))
        assert driver.clock()
        assert list(driver.repositories()) == ["shop/api", "shop/web"]
        assert len(driver.images("shop/api")) == 5
        assert driver.lost_blobs("shop/api", [images[0].layers[0].digest]) == ()
        assert driver.mount("shop/api", images[0].layers[0].digest, "shop/web") is False
        image = next(one for one in driver.images("shop/api") if one.digest == images[0].digest)
        assert driver.delete("shop/api", image, "key").done
        assert registry.deleted == [("shop/api", images[0].digest)]
        ended = [line for line in registry.lines("DELETE") if "/blobs/uploads/" in line]
        assert len(ended) == 1, "the upload that the mount began was left open"
        assert [line for line in registry.refused if ended[0] not in line] == []


def test_a_namespace_of_an_ordinary_registry(opened: Opener) -> None:
    """The registry knows its repositories by their whole names, answers /v2/ alone, and lists them all."""
    tokens = Tokens(granted={"registry:catalog:*", "repository:project/api:pull", "repository:project/web:pull"})
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


def test_nothing_is_there(opened: Opener) -> None:
    with FakeRegistry() as registry, pytest.raises(NotFoundError) as raised:
        opened(f"{registry.url}/prefix").clock()
    assert f"no registry answers at {registry.url}/prefix/v2/" in str(raised.value)


def test_two_paths_are_two_registries() -> None:
    endpoints = with_defaults(id="x", credentials=Credentials(anonymous=True)).endpoints
    one, other = (key_of("oci", endpoints, "", f"https://a.example/{path}") for path in ("docker-one", "docker-two"))
    assert one != other
    assert one_endpoint("https://A.example:443/x/") == one_endpoint("https://a.example/x")
    first, second = (
        with_defaults(kind="oci", url=url, credentials=Credentials(anonymous=True)).memory_key
        for url in ("https://a/x", "https://a/y")
    )
    assert first != second


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://A.example/", "https://a.example"),
        ("https://a.example/v2", "https://a.example"),
        ("https://a.example/v2/", "https://a.example"),
        ("https://a.example:443/Docker-Local/", "https://a.example/Docker-Local"),
        ("https://a.example/docker/v2/", "https://a.example/docker"),
        ("https://a.example/v2/project/", "https://a.example/v2/project"),
        ("https://a.example/v2/project/v2", "https://a.example/v2/project/v2"),
    ],
)
def test_how_it_is_written(tmp_path: Path, written: str, url: str) -> None:
    file = tmp_path / "registry-gc.yaml"
    file.write_text(FILE.replace("URL", written))
    assert load(file, environ={}).registries["r"].url == url


@pytest.mark.parametrize("path", ["/a//b", "/a/../b", "/a/./b", "/a b", "/a;b", "/ä", "/a?b", "/a#b"])
def test_a_path_that_is_none(tmp_path: Path, path: str) -> None:
    file = tmp_path / "registry-gc.yaml"
    file.write_text(FILE.replace("URL", f"https://a.example{path}"))
    with pytest.raises(ConfigError, match=r"registries\.r\.url: expected a"):
        load(file, environ={})


@pytest.mark.parametrize(
    ("one", "other", "is_part"),
    [
        ("https://a.example", "https://a.example/v2/project", True),
        ("https://a.example/v2/project/sub", "https://a.example/v2/project", True),
        ("https://a.example/v2/project", "https://a.example/v2/project-two", False),
        ("https://a.example", "https://a.example/artifactory/docker", True),  # an image of one may be the other's
        ("https://a.example/docker-one", "https://a.example/docker-two", False),
    ],
)
def test_a_part_of_a_registry_is_no_registry_beside_it(tmp_path: Path, one: str, other: str, is_part: bool) -> None:
    file = tmp_path / "registry-gc.yaml"
    entries = "".join(
        f"  {name}: {{kind: oci, url: '{url}', credentials: {{anonymous: true}}, policy: p}}\n"
        for name, url in (("one", one), ("other", other))
    )
    file.write_text(f"registries:\n{entries}policies: {{p: []}}\n")
    if not is_part:
        assert set(load(file, environ={}).registries) == {"one", "other"}
        return
    with pytest.raises(ConfigError) as raised:
        load(file, environ={})
    (line,) = raised.value.lines
    assert line.startswith(f"{file}: registries.other: is the same registry as registries.one: images of both are")


@pytest.mark.parametrize(
    ("url", "address", "paths"),
    [
        ("https://a.example/v2/project", "a.example/project/api", ("api",)),
        ("https://a.example/v2/project", "a.example/other/api", ()),
        ("https://a.example/v2/project", "a.example/project", ()),
        ("https://a.example/v2/project", "b.example/project/api", ("api", "project/api")),
        ("https://a.example/v2/project", "b.example/api", ("api",)),
        ("https://a.example/artifactory/api/docker/Local", "a.example/local/api", ("api", "local/api")),
        (
            "https://a.example/artifactory/api/docker/local",
            "a.example/artifactory/api/docker/local/api",
            ("api", "artifactory/api/docker/local/api"),
        ),
        ("https://a.example/artifactory/api/docker/local", "a.example/api", ("api",)),
        ("https://a.example/artifactory/api/docker/local", "c.example/api", ()),
        ("https://a.example", "a.example/shop/api", ("shop/api",)),
    ],
)
def test_how_its_images_are_addressed(url: str, address: str, paths: tuple[str, ...]) -> None:
    """Where nothing says how, whatever an address may name is in use."""
    registry = with_defaults(kind="oci", url=url, credentials=Credentials(anonymous=True), addresses=("b.example",))
    assert paths_here(registry, address) == paths
    assert path_here(registry, address) == (paths[0] if paths else None)


def test_its_own_address() -> None:
    below = with_defaults(kind="oci", url="https://a.example/v2/project", credentials=Credentials(anonymous=True))
    assert own_address(below) == "a.example/project"
