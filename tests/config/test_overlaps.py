"""One registry under two entries, whatever their kinds and however their hosts are written."""

import json
from pathlib import Path
from typing import Any

import pytest

from worker.config.settings import ConfigError, load

ID = "crpvab5oob146rh73ilt"
OLD = {"kind": "yandex-container-registry", "id": ID, "credentials": {"metadata": True}}
NEW = OLD | {"kind": "yandex-cloud-registry"}
PROXIED = NEW | {"endpoints": {"docker": "https://proxy.example.com"}}


def oci(url: str, **keys: Any) -> dict[str, Any]:
    return {"kind": "oci", "url": url, "credentials": {"anonymous": True}, **keys}


def registries(folder: Path, *entries: dict[str, Any]) -> list[str]:
    """The names that a file of these entries has. Raises ConfigError."""
    named = {name: entry | {"policy": "p"} for name, entry in zip(("a", "b", "c"), entries, strict=False)}
    written = {"registries": named, "policies": {"p": [{"name": "old", "delete": {"tags": ["old"]}}]}}
    path = folder / "registry-gc.yaml"
    path.write_text(json.dumps(written))
    return sorted(load(path, environ={}).registries)


@pytest.mark.parametrize(
    ("first", "second", "address"),
    [
        pytest.param(OLD, NEW, f"cr.yandex/{ID}", id="two kinds, one id"),
        pytest.param(NEW, OLD, f"cr.yandex/{ID}", id="the other way round"),
        pytest.param(OLD, oci("https://cr.yandex"), f"cr.yandex/{ID}", id="by the vendor's host"),
        pytest.param(oci("https://CR.Yandex.:443/"), NEW, f"cr.yandex/{ID}", id="in another spelling"),
        pytest.param(oci("https://docker.io"), oci("https://registry-1.docker.io"), "docker.io", id="Docker Hub"),
        pytest.param(OLD, PROXIED, f"cr.yandex/{ID}", id="two kinds, one id, an endpoint of its own"),
        pytest.param(PROXIED, OLD, f"cr.yandex/{ID}", id="an endpoint of its own first"),
        *[
            pytest.param(oci("https://docker.io"), oci(f"https://{host}"), "docker.io", id=host)
            for host in ("index.docker.io", "registry.hub.docker.com")
        ],
        pytest.param(
            oci("http://127.0.0.1:5000", addresses=["registry.example.com"]),
            oci("https://Registry.Example.com:443"),
            "registry.example.com",
            id="an address that is another's url",
        ),
        pytest.param(
            oci("https://xn--e1afmkfd.example"),
            oci("http://127.0.0.1:5000", addresses=["XN--E1AFMKFD.example:443"]),
            "xn--e1afmkfd.example",
            id="a url that is another's address",
        ),
        pytest.param(
            oci("http://127.0.0.1:5000"),
            oci("https://registry.example.com", addresses=["localhost:5000"]),
            "localhost:5000",
            id="this machine",
        ),
    ],
)
def test_refuses_two_entries_of_one_registry(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], address: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        registries(tmp_path, first, second)
    assert raised.value.lines == (
        f"{tmp_path / 'registry-gc.yaml'}: registries.b: is the same registry as registries.a: both have images at"
        f" {address}/…; keep one of the two",
    )


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([OLD, NEW | {"id": "crpvab5oob146rh73xxx"}], id="two kinds, two ids"),
        pytest.param(
            [oci("https://a.example.com", addresses=["a:1"]), oci("https://b.example.com", addresses=["a:2"])],
            id="two ports",
        ),
        pytest.param(
            [
                oci("https://a.example.com", addresses=["front.example.com"]),
                oci("https://b.example.com", addresses=["front.example.com"]),
            ],
            id="one host before two registries",
        ),
        pytest.param([OLD, oci("https://registry.example.com")], id="two hosts"),
    ],
)
def test_accepts_two_entries_of_two_registries(tmp_path: Path, entries: list[dict[str, Any]]) -> None:
    assert registries(tmp_path, *entries) == ["a", "b"]


@pytest.mark.parametrize(
    ("first", "other", "is_part"),
    [
        ("https://a.example", "https://a.example/v2/project", True),
        ("https://a.example/v2/project/sub", "https://a.example/v2/project", True),
        ("https://a.example/v2/project", "https://a.example/v2/project-two", False),
        ("https://a.example", "https://a.example/artifactory/docker", True),  # an image of one may be the other's
        ("https://a.example/docker-one", "https://a.example/docker-two", False),
    ],
)
def test_refuses_a_part_of_a_registry_as_a_second_registry(
    tmp_path: Path, first: str, other: str, is_part: bool
) -> None:
    file = tmp_path / "registry-gc.yaml"
    entries = "".join(
        f"  {name}: {{kind: oci, url: '{url}', credentials: {{anonymous: true}}, policy: p}}\n"
        for name, url in (("one", first), ("other", other))
    )
    file.write_text(f"registries:\n{entries}policies: {{p: []}}\n")
    if not is_part:
        assert set(load(file, environ={}).registries) == {"one", "other"}
        return
    with pytest.raises(ConfigError) as raised:
        load(file, environ={})
    (line,) = raised.value.lines
    assert line.startswith(f"{file}: registries.other: is the same registry as registries.one: both have images at")
