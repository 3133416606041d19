"""The addresses of a registry's images: tags in use are matched by them, and holds are placed by them."""

import pytest

from policies.limits import Limits
from policies.rules import Policy
from tests.support.drivers import with_defaults
from worker.config.settings import Credentials, Endpoints, RegistrySettings
from worker.runs.evidence import own_address, path_in_registry, paths_in_registry


def registry(kind: str, *, id: str = "", url: str = "", docker: str = "") -> RegistrySettings:
    endpoints = Endpoints(docker=docker) if docker else Endpoints()
    return RegistrySettings(
        name="production",
        kind=kind,
        id=id,
        url=url,
        endpoints=endpoints,
        credentials=Credentials(anonymous=True),
        policy=Policy("nightly", ()),
        limits=Limits(),
    )


OCI = registry("oci", url="https://registry.example.com")
NAMED = OCI.model_copy(
    update={"url": "http://127.0.0.1:5000", "addresses": ("registry.example.com", "images.example.com:8443")}
)
PORT = registry("oci", url="http://127.0.0.1:5000")
HUB = registry("oci", url="https://registry-1.docker.io")
FIRST = registry("yandex-container-registry", id="crp1")
CLOUD = registry("yandex-cloud-registry", id="crp1", docker="https://registry.yandexcloud.net")


@pytest.mark.parametrize(
    ("settings", "address", "path"),
    [
        pytest.param(OCI, "registry.example.com/shop/api", "shop/api", id="by its host"),
        pytest.param(OCI, "REGISTRY.example.com:443/shop/api", "shop/api", id="by the port that it has anyway"),
        pytest.param(OCI, "registry.example.com:5000/shop/api", None, id="another port is another registry"),
        pytest.param(OCI, "cr.yandex/shop/api", None, id="another host"),
        pytest.param(OCI, "registry.example.com/", None, id="no repository"),
        pytest.param(NAMED, "registry.example.com/shop/api", "shop/api", id="by another of its addresses"),
        pytest.param(NAMED, "images.example.com:8443/shop/api", "shop/api", id="with that one's port"),
        pytest.param(NAMED, "images.example.com/shop/api", None, id="without that one's port"),
        pytest.param(PORT, "127.0.0.1:5000/shop/api", "shop/api", id="with a port"),
        pytest.param(PORT, "127.0.0.1/shop/api", None, id="without its port"),
        pytest.param(HUB, "docker.io/library/nginx", "library/nginx", id="Docker Hub's short name"),
        pytest.param(OCI, "docker.io/library/nginx", None, id="Docker Hub is not every registry"),
        pytest.param(FIRST, "cr.yandex/crp1/shop/api", "shop/api", id="the first kind"),
        pytest.param(FIRST, "cr.yandex/crp2/shop/api", None, id="another id"),
        pytest.param(CLOUD, "cr.yandex/crp1/shop/api", "shop/api", id="the old address goes on"),
        pytest.param(CLOUD, "registry.yandexcloud.net/crp1/shop/api", "shop/api", id="the new address"),
    ],
)
def test_finds_the_repository_of_an_address(settings: RegistrySettings, address: str, path: str | None) -> None:
    assert path_in_registry(settings, address) == path


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        pytest.param(OCI, "registry.example.com", id="oci"),
        pytest.param(PORT, "127.0.0.1:5000", id="oci with a port"),
        pytest.param(CLOUD, "registry.yandexcloud.net/crp1", id="cloud"),
    ],
)
def test_the_own_address_of_a_registry(settings: RegistrySettings, address: str) -> None:
    assert own_address(settings) == address


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
def test_finds_every_repository_that_an_address_may_name(url: str, address: str, paths: tuple[str, ...]) -> None:
    """Every repository that an ambiguous address may name counts as in use."""
    registry = with_defaults(kind="oci", url=url, credentials=Credentials(anonymous=True), addresses=("b.example",))
    assert paths_in_registry(registry, address) == paths
    assert path_in_registry(registry, address) == (paths[0] if paths else None)


def test_addresses_have_host_and_namespace() -> None:
    below = with_defaults(kind="oci", url="https://a.example/v2/project", credentials=Credentials(anonymous=True))
    assert own_address(below) == "a.example/project"
