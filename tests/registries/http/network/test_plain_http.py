"""Plain http to private addresses, where the file says so: the address of the connection must be private."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.registries.http.network.conftest import Opener
from tests.registries.http.network.servers import ForwardProxy
from tests.support.oci.fake import BasicAuth, FakeRegistry, TokenAuth
from worker.cli.check import risks
from worker.config.addresses import is_private
from worker.config.settings import Credentials, Network, Secret, load
from worker.registries.errors import BadResponseError, RegistryError, SignInError, UnavailableError

INSECURE = Network(insecure_http=True)
Names = dict[str, list[str]]
FILE = """
registries:
  r: {kind: oci, url: "URL", credentials: {anonymous: true}, policy: p, insecure_http: true}
policies: {p: []}
"""


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """The addresses that a fake name server returns for names; no real name server is used."""
    known: Names = {}
    real: Callable[..., Any] = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        if is_private(host) is None and host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [item for address in known.get(host, [host]) for item in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


@pytest.fixture
def inner(plain: FakeRegistry, names: Names) -> str:
    """The registry's address by a name of the network."""
    names["registry.internal"] = ["127.0.0.1"]
    return plain.url.replace("127.0.0.1", "registry.internal")


def test_a_private_address_is_fine(opened: Opener, plain: FakeRegistry, inner: str) -> None:
    assert [image.tags for image in opened(inner, network=INSECURE).images("shop/api")] == [("v1",)]
    with pytest.raises(BadResponseError, match=r"refused to send a request to registry\.internal:[0-9]+ without TLS"):
        opened(inner).clock()


@pytest.mark.parametrize(
    "addresses", [["8.8.8.8"], ["127.0.0.1", "8.8.8.8"], ["169.254.169.254"], ["::ffff:8.8.8.8"], ["100.64.0.1"]]
)
def test_rejects_a_name_that_leads_to_another_path(
    opened: Opener, plain: FakeRegistry, inner: str, names: Names, addresses: list[str]
) -> None:
    names["registry.internal"] = addresses
    with pytest.raises(UnavailableError) as raised:
        opened(inner, network=INSECURE).clock()
    assert "plain http is allowed for private addresses only, and registry.internal has the address " in str(
        raised.value
    )
    assert plain.requests == []


def test_the_address_that_was_checked_is_the_one_that_is_used(
    opened: Opener, plain: FakeRegistry, inner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that answers otherwise the second time leads nowhere."""
    answers = iter(["127.0.0.1"])
    real: Callable[..., Any] = socket.getaddrinfo

    def once(host: str, *args: Any, **kwargs: Any) -> Any:
        return real(next(answers, "8.8.8.8") if host == "registry.internal" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    driver = opened(inner, network=INSECURE)
    assert driver.clock()
    assert driver.clock()
    assert {request.path for request in plain.requests} == {"/v2/"}


def test_uses_the_second_address_if_the_first_refuses(
    opened: Opener, plain: FakeRegistry, inner: str, names: Names
) -> None:
    names["registry.internal"] = ["127.0.0.9", "127.0.0.1"]  # no server listens on the first
    assert opened(inner, network=INSECURE).clock()


def test_reports_a_host_name_without_an_address(opened: Opener, inner: str, names: Names) -> None:
    del names["registry.internal"]
    with pytest.raises(UnavailableError, match=r"no connection to registry\.internal:[0-9]+: .*not known"):
        opened(inner, network=INSECURE).clock()


def test_sends_the_name_of_the_host_to_the_registry(opened: Opener, names: Names) -> None:
    with FakeRegistry() as registry:
        hosts: list[str] = []
        say = registry._carried_out
        registry._carried_out = lambda ask: hosts.append(ask.headers["host"]) or say(ask)  # type: ignore[method-assign,func-returns-value]  # to record hosts, which the fake does not
        names["registry.internal"] = ["127.0.0.1"]
        assert opened(registry.url.replace("127.0.0.1", "registry.internal"), network=INSECURE).clock()
    assert hosts == [registry.host.replace("127.0.0.1", "registry.internal")]


def test_a_token_server_of_the_network(opened: Opener, names: Names, tmp_path: Path) -> None:
    names.update({"registry.internal": ["127.0.0.1"], "auth.internal": ["127.0.0.1"]})
    (tmp_path / "password").write_text("sesame")
    route = Credentials(username="gc", password=Secret(file=tmp_path / "password"))
    with FakeRegistry(Renamed(user=BasicAuth("gc", "sesame"), elsewhere=True)) as registry:
        host = registry.token_host
        url = registry.url.replace("127.0.0.1", "registry.internal")
        allowed = (host.replace("127.0.0.1", "auth.internal"),)
        assert opened(url, network=INSECURE, credentials=route, token_hosts=allowed).clock()
        with pytest.raises(SignInError, match="only; if that is the registry's token server"):
            opened(url, network=INSECURE, credentials=route).clock()
        names["auth.internal"] = ["8.8.8.8"]
        with pytest.raises(
            RegistryError, match=r"private addresses only, and auth\.internal has the address 8\.8\.8\.8"
        ):
            opened(url, network=INSECURE, credentials=route, token_hosts=allowed).clock()


class Renamed(TokenAuth):
    """Names the host of its realm otherwise."""

    def allow(self, ask: Any, needed: Any, host: str) -> Any:
        return super().allow(ask, needed, host.replace("127.0.0.1", "auth.internal"))


def test_no_redirect_leads_to_the_metadata_service(opened: Opener, plain: FakeRegistry, inner: str) -> None:
    headers = {"Location": "http://169.254.169.254/latest/meta-data"}
    plain.fault("status", "GET", "/blobs/", status=307, headers=headers, times=None)
    driver: Any = opened(inner, network=INSECURE)
    with pytest.raises(BadResponseError, match=r"refused to send a request to 169\.254\.169\.254 without TLS"):
        driver.missing_blobs("shop/api", ["sha256:" + "a" * 64])


def test_requires_a_private_proxy_and_a_private_registry_for_plain_http(
    opened: Opener, plain: FakeRegistry, inner: str, names: Names
) -> None:
    """The proxy resolves the name itself; its address here must be private, and the address of the proxy as well."""
    with ForwardProxy({inner.removeprefix("http://"): plain.host}).running() as proxy:
        assert opened(inner, network=Network(proxy=proxy.url, insecure_http=True)).clock()
        assert proxy.received == [f"GET {inner}/v2/"]
        names["proxy.example"] = ["8.8.8.8"]
        elsewhere = proxy.url.replace("127.0.0.1", "proxy.example")
        with pytest.raises(
            UnavailableError, match=r"private addresses only, and proxy\.example has the address 8\.8\.8\.8"
        ):
            opened(inner, network=Network(proxy=elsewhere, insecure_http=True)).clock()
        names["registry.internal"] = ["8.8.8.8"]
        with pytest.raises(UnavailableError, match=r"registry\.internal has the address 8\.8\.8\.8"):
            opened(inner, network=Network(proxy=proxy.url, insecure_http=True)).clock()
    assert len(proxy.received) == 1


# The configuration.


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "registry-gc.yaml"


@pytest.mark.parametrize("host", ["registry.internal:5000", "10.0.0.7:5000", "[fd00::7]:5000", "127.0.0.1:5000"])
def test_the_key_is_warned_of(file: Path, host: str) -> None:
    file.write_text(FILE.replace("URL", f"http://{host}"))
    settings = load(file, environ={})
    assert settings.registries["r"].insecure_http
    ((path, sentence),) = [risk for risk in risks(settings) if "insecure_http" in risk[0]]
    assert path == "registries.r.insecure_http"
    assert "passwords" in sentence
