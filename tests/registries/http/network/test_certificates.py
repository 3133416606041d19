"""The trusted certificates: the system's, or those of the environment instead, and those of `ca_file`."""

import os
import ssl
from pathlib import Path

import pytest

from tests.registries.http.network.conftest import Opener
from tests.registries.http.network.servers import Authority
from worker.config.settings import ConfigError, Network, load
from worker.registries.errors import UnavailableError
from worker.registries.http.network import NetworkError, tls_context

# OpenSSL finds a certificate in a folder by this: `openssl x509 -noout -subject_hash` of the tests' authority.
SUBJECT_HASH = "7e030a48"
FILE = """
registries:
  r: {kind: oci, url: "https://registry.example.com", credentials: {anonymous: true}, policy: p, ca_file: CA}
policies: {p: []}
"""


def test_ca_file_is_trusted_besides_the_system(opened: Opener, tls_port: int, authority: Authority) -> None:
    registry = opened(f"https://localhost:{tls_port}", network=Network(ca_file=authority.file))
    assert [image.tags for image in registry.images("shop/api")] == [("v1",)]
    with_it, without = tls_context(authority.file), tls_context(None)
    subjects = {str(certificate["subject"]) for certificate in with_it.get_ca_certs()}
    assert subjects > {str(certificate["subject"]) for certificate in without.get_ca_certs()} != set()


def test_without_ca_file_the_message_names_the_key(opened: Opener, tls_port: int) -> None:
    registry = opened(f"https://localhost:{tls_port}")
    with pytest.raises(UnavailableError, match=r"no connection to localhost.*CERTIFICATE_VERIFY_FAILED.*with ca_file"):
        registry.clock()


def test_another_host_s_certificate_is_refused(opened: Opener, tls_port: int, authority: Authority) -> None:
    registry = opened(f"https://127.0.0.2:{tls_port}", network=Network(ca_file=authority.file))
    with pytest.raises(UnavailableError):
        registry.clock()


def test_the_environment_names_certificates(
    opened: Opener, tls_port: int, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    assert opened(f"https://localhost:{tls_port}").clock()


def test_the_environment_names_a_folder(
    opened: Opener, tls_port: int, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{SUBJECT_HASH}.0").write_bytes(authority.file.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert opened(f"https://localhost:{tls_port}").clock()


def test_a_certificate_that_changes_is_read_again(tmp_path: Path, authority: Authority) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(authority.file.read_bytes())
    first = tls_context(file)
    assert tls_context(file) is first
    file.write_text("broken")
    with pytest.raises(NetworkError, match="contains no valid certificate"):
        tls_context(file)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        pytest.param(None, "cannot be read: No such file or directory", id="missing"),
        pytest.param("", "contains no valid certificate in PEM format", id="empty"),
        pytest.param("rubbish", "contains no valid certificate in PEM format", id="rubbish"),
        pytest.param("half", "contains no valid certificate in PEM format", id="cut off"),
        pytest.param("folder", "cannot be read: Is a directory", id="a folder"),
    ],
)
def test_a_bad_file_is_a_mistake_of_the_configuration(
    tmp_path: Path, authority: Authority, content: str | None, what: str
) -> None:
    ca, whole = tmp_path / "ca.pem", authority.file.read_text()
    if content == "folder":
        ca.mkdir()
    elif content is not None:
        ca.write_text(whole + whole[:200] if content == "half" else content)
    file = tmp_path / "registry-gc.yaml"
    file.write_text(FILE.replace("CA", "ca.pem"))
    with pytest.raises(ConfigError) as raised:
        load(file, environ={})
    remedy = "write the path of the authority's certificate in PEM format"
    assert raised.value.lines == (f"{file}: registries.r.ca_file: file {ca} {what}; {remedy}",)


def test_commands_without_network_do_not_read_ca_file(tmp_path: Path) -> None:
    file = tmp_path / "registry-gc.yaml"
    file.write_text(FILE.replace("CA", "no-such-file.pem"))
    settings = load(file, environ={}, look_for_secrets=False)
    assert settings.registries["r"].ca_file == tmp_path / "no-such-file.pem"


def test_reports_a_configuration_file_that_disappears(opened: Opener, tls_port: int, tmp_path: Path) -> None:
    registry = opened(f"https://localhost:{tls_port}", network=Network(ca_file=tmp_path / "gone.pem"))
    with pytest.raises(UnavailableError, match=r"gone\.pem cannot be read: No such file"):
        registry.clock()


def test_hosts_are_still_checked() -> None:
    context = tls_context(None)
    assert context.check_hostname is True
    assert context.verify_mode is ssl.CERT_REQUIRED
