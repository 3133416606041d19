"""Plain http in the file: to loopback addresses only, or, where the file says so, to private ones."""

import json
from pathlib import Path

import pytest

from worker.config.settings import ConfigError, load

FILE = """
registries:
  r: {kind: oci, url: "URL", credentials: {anonymous: true}, policy: p, insecure_http: true}
policies: {p: []}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "registry-gc.yaml"


def test_allows_plain_http_only_to_loopback_without_the_key(file: Path) -> None:
    file.write_text(FILE.replace("URL", "http://registry.internal:5000/team").replace(", insecure_http: true", ""))
    with pytest.raises(ConfigError) as raised:
        load(file, environ={})
    assert raised.value.lines == (
        f"{file}: registries.r.url: plain http is allowed to loopback addresses only, got 'http://registry.internal:5000/team';"
        " write https://registry.internal:5000/team, or add insecure_http: true on a private network",
    )


def test_plain_http_to_a_public_address_is_refused(file: Path) -> None:
    file.write_text(FILE.replace("URL", "http://8.8.8.8"))
    with pytest.raises(ConfigError) as raised:
        load(file, environ={})
    what = "plain http is allowed to private addresses only, got 'http://8.8.8.8'; write https://8.8.8.8"
    assert raised.value.lines == (f"{file}: registries.r.url: {what}",)


def test_plain_http_to_a_public_endpoint_is_refused(file: Path) -> None:
    document = {
        "registries": {
            "r": {
                "kind": "yandex-container-registry",
                "id": "crp1",
                "credentials": {"metadata": True},
                "policy": "p",
                "insecure_http": True,
                "endpoints": {"iam": "http://iam.internal", "docker": "http://8.8.8.8"},
            }
        },
        "policies": {"p": []},
    }
    file.write_text(json.dumps(document))
    with pytest.raises(ConfigError) as raised:
        load(file, environ={})
    (line,) = raised.value.lines
    assert line.startswith(f"{file}: registries.r.endpoints.docker: plain http is allowed to private addresses only")
