"""The proxy of each request: the registry's own, the environment's, and none on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registries.http.network.conftest import Opener
from tests.registries.http.network.servers import Authority, ForwardProxy
from tests.support.drivers import answering, with_defaults
from tests.support.oci.fake import FakeRegistry, TokenAuth
from worker.config.settings import ConfigError, Credentials, Endpoints, Network, Secret, load
from worker.registries import open_registry
from worker.registries.errors import RegistryError, SignInError, UnavailableError
from worker.registries.http.messages import Retries
from worker.registries.http.network import NetworkError, is_excepted, proxies_of

FILE = """
registries:
  r: {kind: oci, url: "https://registry.example.com", credentials: {anonymous: true}, policy: p, proxy: PROXY}
policies: {p: []}
"""
TO_REGISTRY = "CONNECT registry.example.com:443"


@pytest.fixture
def proxy(tls_port: int) -> Iterator[ForwardProxy]:
    """Leads to the registry behind TLS as registry.example.com."""
    with ForwardProxy({"registry.example.com:443": f"127.0.0.1:{tls_port}"}).running() as running:
        yield running


def test_the_proxy_of_the_file_is_used(opened: Opener, proxy: ForwardProxy, authority: Authority) -> None:
    registry = opened("https://registry.example.com", network=Network(ca_file=authority.file, proxy=proxy.url))
    assert [image.tags for image in registry.images("shop/api")] == [("v1",)]
    assert set(proxy.received) == {TO_REGISTRY}


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_the_proxy_of_the_environment_is_used(
    opened: Opener, proxy: ForwardProxy, authority: Authority, monkeypatch: pytest.MonkeyPatch, name: str, scheme: str
) -> None:
    monkeypatch.setenv(name, proxy.url.replace("http://", scheme))
    assert opened("https://registry.example.com", network=Network(ca_file=authority.file)).clock()
    assert proxy.received == [TO_REGISTRY]


def test_the_key_takes_the_place_of_the_environment(
    opened: Opener, proxy: ForwardProxy, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "*")
    assert opened("https://registry.example.com", network=Network(ca_file=authority.file, proxy=proxy.url)).clock()
    assert proxy.received == [TO_REGISTRY]


def test_this_machine_needs_no_proxy(
    opened: Opener, plain: FakeRegistry, proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    assert opened(plain.url).clock()
    assert opened(plain.url.replace("127.0.0.1", "localhost")).clock()
    assert proxy.received == []


def test_the_key_applies_to_this_machine_too(opened: Opener, plain: FakeRegistry, proxy: ForwardProxy) -> None:
    assert opened(plain.url, network=Network(proxy=proxy.url)).clock()
    assert proxy.received == [f"GET {plain.url}/v2/"]


def test_tokens_and_redirects_use_it_too(opened: Opener, proxy: ForwardProxy) -> None:
    with FakeRegistry(TokenAuth(elsewhere=True), redirect=True) as registry:
        pushed = registry.push("shop/api", "v1", layers=[b"layer"])
        credentials = Credentials(anonymous=True)
        driver = opened(
            registry.url, network=Network(proxy=proxy.url), token_hosts=(registry.token_host,), credentials=credentials
        )
        assert driver.missing_blobs("shop/api", [pushed.layers[0].digest]) == ()  # type: ignore[attr-defined]
    hosts = {line.split("/")[2] for line in proxy.received}
    assert {registry.host, registry.token_host} < hosts
    assert len(hosts) == 3, "the blob's redirect went another way"


def test_a_password_comes_from_a_secret_and_is_never_shown(
    opened: Opener, tls_port: int, authority: Authority, tmp_path: Path
) -> None:
    file = tmp_path / "proxy"
    with ForwardProxy({"registry.example.com:443": f"127.0.0.1:{tls_port}"}, password="gc:open sesame").running() as p:
        file.write_text(p.url.replace("http://", "http://gc:open%20sesame@"))
        network = Network(ca_file=authority.file, proxy=Secret(file=file))
        assert opened("https://registry.example.com", network=network).clock()
        file.write_text(p.url.replace("http://", "http://gc:hunter2@"))
        refused = opened("https://registry.example.com", network=network)
        with pytest.raises(UnavailableError) as raised:
            refused.clock()
    assert f"the proxy 127.0.0.1:{p.port} refused a connection to registry.example.com: 407" in str(raised.value)
    assert "hunter2" not in str(raised.value) + repr(refused) + repr(network) + repr(proxies_of(network))


def test_a_proxy_that_asks_for_a_password_of_plain_requests(opened: Opener, plain: FakeRegistry) -> None:
    with ForwardProxy(password="gc:secret").running() as p, pytest.raises(UnavailableError) as raised:
        opened(plain.url, network=Network(proxy=p.url)).clock()
    assert (
        raised.value.message == f"the proxy 127.0.0.1:{p.port} requires a user name and a password; add them to its URL"
    )


def test_reports_a_proxy_that_refuses(opened: Opener) -> None:
    with ForwardProxy(refuse=True).running() as p, pytest.raises(UnavailableError) as raised:
        opened("https://registry.example.com", network=Network(proxy=p.url)).clock()
    refused = "refused a connection to registry.example.com: 403 Forbidden"
    assert raised.value.message == f"the proxy 127.0.0.1:{p.port} {refused}"


def test_reports_an_unreachable_proxy(opened: Opener) -> None:
    with pytest.raises(
        UnavailableError, match=r"no connection to registry\.example\.com through the proxy 127\.0\.0\.1:9"
    ):
        opened("https://registry.example.com", network=Network(proxy="http://127.0.0.1:9")).clock()


def test_the_metadata_service_is_never_asked_by_a_proxy(proxy: ForwardProxy) -> None:
    """Its token would be the proxy's for the taking."""
    nobody = dict.fromkeys(("container_registry", "operation", "iam", "docker"), "http://127.0.0.1:9")
    with answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as metadata:
        settings = with_defaults(
            id="crp1",
            credentials=Credentials(metadata=True),
            endpoints=Endpoints(**nobody, metadata=metadata),
            network=Network(proxy=proxy.url),
        )
        retries = Retries(attempts=1)
        with open_registry(settings, retries=retries) as registry, pytest.raises(SignInError) as raised:
            registry.clock()
    assert "the metadata service has no token" in str(raised.value)
    assert proxy.received == []
    assert proxies_of(settings).of("http://169.254.169.254/computeMetadata/v1/") is None


def test_yandex_services_use_it(proxy: ForwardProxy, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t1.token")
    settings = with_defaults(
        id="crp1", credentials=Credentials(iam_token=Secret(file=tmp_path / "token")), network=Network(proxy=proxy.url)
    )
    proxy.hosts["container-registry.api.cloud.yandex.net:443"] = "127.0.0.1:9"
    with open_registry(settings, retries=Retries(attempts=1)) as registry, pytest.raises(RegistryError):
        registry.clock()
    assert proxy.received == ["CONNECT container-registry.api.cloud.yandex.net:443"]


@pytest.mark.parametrize(
    ("host", "port", "exceptions", "excepted"),
    [
        pytest.param("registry.example.com", 443, "registry.example.com", True, id="the host"),
        pytest.param("Registry.Example.com", 443, "REGISTRY.example.com", True, id="in any case"),
        pytest.param("registry.example.com", 443, "example.com", True, id="its domain"),
        pytest.param("registry.example.com", 443, ".example.com", True, id="with a dot"),
        pytest.param("registry.example.com", 443, "*.example.com", True, id="with a star"),
        pytest.param("registry.example.com", 443, "other.org, example.com", True, id="the second of two"),
        pytest.param("registry.example.com", 443, "other.org example.com", True, id="parted by a space"),
        pytest.param("registry.example.com", 443, "*", True, id="all"),
        pytest.param("registry.example.com", 443, "ample.com", False, id="half a word"),
        pytest.param("example.com", 443, "registry.example.com", False, id="a host below"),
        pytest.param("registry.example.com", 5000, "example.com:5000", True, id="the port"),
        pytest.param("registry.example.com", 443, "example.com:5000", False, id="another port"),
        pytest.param("10.1.2.3", 443, "10.1.2.3", True, id="the address"),
        pytest.param("10.1.2.3", 443, "10.0.0.0/8", True, id="its network"),
        pytest.param("11.1.2.3", 443, "10.0.0.0/8", False, id="another network"),
        pytest.param("10.1.2.3", 443, "1.2.3", False, id="half an address"),
        pytest.param("fd00::1", 443, "fd00::/8", True, id="a network of IPv6"),
        pytest.param("fd00::1", 443, "[fd00::1]:443", True, id="an address of IPv6 with its port"),
        pytest.param("registry.example.com", 443, "10.0.0.0/8", False, id="a name is no address"),
        pytest.param("registry.example.com", 443, ", ,", False, id="nothing"),
    ],
)
def test_no_proxy_excepts_hosts_domains_and_networks(host: str, port: int, exceptions: str, excepted: bool) -> None:
    assert is_excepted(host, port, exceptions) is excepted


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        pytest.param({"HTTPS_PROXY": "http://p:1"}, "https://a.example", "http://p:1", id="https"),
        pytest.param({"HTTP_PROXY": "http://p:1"}, "https://a.example", None, id="http's is not https's"),
        pytest.param({"HTTP_PROXY": "http://p:1"}, "http://10.0.0.1", "http://p:1", id="http"),
        pytest.param({"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:2"}, "https://a.example", "http://q:2"),
        pytest.param({"HTTPS_PROXY": ""}, "https://a.example", None, id="empty"),
        pytest.param({"HTTPS_PROXY": "http://p:1/"}, "https://a.example", "http://p:1", id="a slash"),
        pytest.param({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example"}, "https://a.example", None, id="excepted"),
        pytest.param({"ALL_PROXY": "https://p:1"}, "http://169.254.169.254/x", None, id="the metadata service"),
        pytest.param({"ALL_PROXY": "https://p:1"}, "https://[::1]:5000/v2/", None, id="this machine"),
    ],
)
def test_reads_proxies_from_the_environment(environ: dict[str, str], url: str, proxy: str | None) -> None:
    assert proxies_of(Network(), environ).of(url) == proxy


@pytest.mark.parametrize("text", ["socks5://p:1080", "http://:3128", "http://p:x", "http://p:1/path", "http://p q"])
def test_the_environment_names_no_proxy(text: str) -> None:
    with pytest.raises(NetworkError) as raised:
        proxies_of(Network(), {"HTTPS_PROXY": text})
    assert str(raised.value).startswith("environment variable HTTPS_PROXY is not a proxy URL; write http://HOST:PORT")
    assert text not in str(raised.value)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        pytest.param(
            "http://gc:hunter2@proxy:3128",
            "contains a user or password; store the whole URL in {file: PATH} or {env: NAME}",
            id="a password",
        ),
        pytest.param(
            "socks5://proxy:1080",
            "expected a URL of a proxy, got 'socks5://proxy:1080'; write, for example, http://proxy.example.com:3128",
            id="socks",
        ),
        pytest.param(
            "proxy.example.com",
            "expected a URL of a proxy, got 'proxy.example.com'; write, for example, http://proxy.example.com:3128",
            id="no scheme",
        ),
        pytest.param(
            "{env: PROXY}",
            "environment variable PROXY is not the URL of a proxy;"
            " write http://HOST:PORT (https:// is read too, socks is not)",
            id="an invalid secret",
        ),
        pytest.param(
            "{env: NO_SUCH}",
            "environment variable NO_SUCH is not set; every secret must exist and be readable at the start",
            id="a secret that is not there",
        ),
    ],
)
def test_a_mistake_of_the_configuration(tmp_path: Path, written: str, message: str) -> None:
    file = tmp_path / "registry-gc.yaml"
    file.write_text(FILE.replace("PROXY", written, 1))
    with pytest.raises(ConfigError) as raised:
        load(file, environ={"PROXY": "socks5://gc:hunter2@proxy"})
    assert raised.value.lines == (f"{file}: registries.r.proxy: {message}",)
