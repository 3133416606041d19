"""The addresses of the configuration: which are read, as what, and which are refused without showing a secret."""

from collections.abc import Callable
from pathlib import Path

import pytest

from policies.mistakes import BadValueError
from worker.config.settings import ConfigError, load
from worker.config.urls import (
    check_plain,
    read_address,
    read_endpoint,
    read_hosts,
    read_listen,
    read_notify_address,
    read_proxy,
    read_url,
)

FILE = """
registries:
  r: {kind: oci, url: "URL", credentials: {anonymous: true}, policy: p}
policies: {p: []}
"""


@pytest.mark.parametrize(
    ("read", "written", "value"),
    [
        (read_endpoint, "https://CR.example.com:443/", "https://cr.example.com"),
        (read_endpoint, "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        (read_url, "https://Registry.example.com/", "https://registry.example.com"),
        (read_url, "https://registry.example.com/v2/", "https://registry.example.com"),
        (read_url, "https://registry.example.com/Team/docker/", "https://registry.example.com/Team/docker"),
        (read_url, "https://registry.example.com/v2/project", "https://registry.example.com/v2/project"),
        (read_address, "https://example.com/in-use?all=1", "https://example.com/in-use?all=1"),
        (read_address, "http://127.0.0.1:80/x", "http://127.0.0.1:80/x"),
        (read_proxy, "http://proxy.example.com:3128", "http://proxy.example.com:3128"),
        (read_notify_address, "json://127.0.0.1:8080/hook", "json://127.0.0.1:8080/hook"),
        (read_hosts, ["Auth.example.com", "auth.example.com:443", "[::1]:5000"], ("auth.example.com", "[::1]:5000")),
        (read_listen, "127.0.0.1:9811", ("127.0.0.1", 9811)),
        (read_listen, "[::1]:9811", ("::1", 9811)),
        (read_listen, "web.example.com:0", ("web.example.com", 0)),
    ],
)
def test_accepts_valid_urls_of_documents(read: Callable[[object], object], written: object, value: object) -> None:
    assert read(written) == value


def refusal(read: Callable[[object], object], written: object) -> str:
    with pytest.raises(BadValueError) as raised:
        read(written)
    return str(raised.value)


@pytest.mark.parametrize(
    ("read", "written", "message"),
    [
        (read_endpoint, 5, "expected a URL, got 5; write, for example, https://cr.yandex"),
        (read_endpoint, "cr.yandex", "expected a URL, got 'cr.yandex'; write, for example, https://cr.yandex"),
        (read_endpoint, "ftp://cr.yandex", "expected a URL, got 'ftp://cr.yandex'; write, for example, https://cr.yandex"),
        (read_endpoint, "https://cr.yandex:0", "expected a URL, got 'https://cr.yandex:0'; "
         "write, for example, https://cr.yandex"),
        (read_endpoint, "https://cr.yandex/v2", "expected a URL without a path, got 'https://cr.yandex/v2'; write https://cr.yandex"),
        (read_endpoint, "https://cr.yandex?", "expected a URL without a path, got 'https://cr.yandex?'; write https://cr.yandex"),
        (read_url, "https://a.example?x=1", "expected a URL without a query, got 'https://a.example?x=1'; "
         "write https://a.example"),
        (read_url, "https://a.example/a/../b", "expected a URL with a valid path, got 'https://a.example/a/../b', "
         "which has '/..'; remove that"),
        (read_address, "http://example.com/x?key=hunter2",
         "plain http is allowed to loopback addresses only, got 'http://example.com/x'; write https://example.com/x"),
        (read_address, "https://example.com/a b?key=hunter2", "expected a URL, got 'https://example.com/a b'; "
         "write, for example, https://inventory.example.com/in-use.json"),
        (read_hosts, [], "expected a list of hosts, got an empty list; "
         "write, for example, [auth.example.com], or leave the key out"),
        (read_hosts, ["https://auth.example.com"], "expected a host, got 'https://auth.example.com'; "
         "write only the host, such as auth.example.com, or the host with its port"),
        (read_proxy, "socks5://p:1", "expected a URL of a proxy, got 'socks5://p:1'; "
         "write, for example, http://proxy.example.com:3128"),
        (read_listen, "9811", "expected an address, got '9811'; write, for example, \"127.0.0.1:9811\""),
        (read_listen, "127.0.0.1:65536",
         "expected an address, got '127.0.0.1:65536'; write, for example, \"127.0.0.1:9811\""),
        (read_listen, "::1:9811", "expected an IPv6 address in brackets, got '::1:9811'; write \"[::1]:9811\""),
    ],
)  # fmt: skip
def test_refuses_invalid_urls(read: Callable[[object], object], written: object, message: str) -> None:
    assert refusal(read, written) == message


@pytest.mark.parametrize(
    ("read", "written"),
    [
        (read_endpoint, "https://gc:hunter2@cr.yandex"),
        (read_endpoint, "https://gc:hunter2@[cr.yandex"),
        (read_url, "https://gc:hunter2@registry.example.com"),
        (read_address, "https://gc:hunter2@example.com/in-use"),
        (read_address, "https:/gc:hunter2@example.com"),
        (read_address, "https://example.com:port/?key=hunter2"),
        (read_hosts, ["gc:hunter2@auth.example.com"]),
        (read_proxy, "http://gc:hunter2@proxy:3128"),
        (read_notify_address, "mailto://gc:hunter2@example.com"),
        (read_notify_address, "hunter2 no scheme"),
        (read_notify_address, "json://[hunter2"),
    ],
)
def test_no_refusal_shows_a_secret(read: Callable[[object], object], written: object) -> None:
    assert "hunter2" not in refusal(read, written)


@pytest.mark.parametrize(
    ("url", "insecure", "refused"),
    [
        ("https://8.8.8.8", None, ""),
        ("http://127.0.0.1:8080", None, ""),
        ("http://localhost", False, ""),
        ("http://10.0.0.7:5000", True, ""),
        ("http://registry.internal", True, ""),  # which is looked up when it is used
        ("http://8.8.8.8", True, "plain http is allowed to private addresses only, got 'http://8.8.8.8'; write https://8.8.8.8"),
        ("http://10.0.0.7/x", None,
         "plain http is allowed to loopback addresses only, got 'http://10.0.0.7/x'; write https://10.0.0.7/x"),
        ("http://10.0.0.7", False, "plain http is allowed to loopback addresses only, got 'http://10.0.0.7'; "
         "write https://10.0.0.7, or add insecure_http: true on a private network"),
    ],
)  # fmt: skip
def test_allows_plain_http_only_to_configured_networks(url: str, insecure: bool | None, refused: str) -> None:
    if refused:
        assert refusal(lambda _: check_plain(url, insecure), url) == refused
    else:
        assert check_plain(url, insecure) == url


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
def test_normalizes_the_url_of_a_registry(tmp_path: Path, written: str, url: str) -> None:
    file = tmp_path / "registry-gc.yaml"
    file.write_text(FILE.replace("URL", written))
    assert load(file, environ={}).registries["r"].url == url


@pytest.mark.parametrize("path", ["/a//b", "/a/../b", "/a/./b", "/a b", "/a;b", "/ä", "/a?b", "/a#b"])
def test_a_url_with_an_odd_path_is_refused(tmp_path: Path, path: str) -> None:
    file = tmp_path / "registry-gc.yaml"
    file.write_text(FILE.replace("URL", f"https://a.example{path}"))
    with pytest.raises(ConfigError, match=r"registries\.r\.url: expected a"):
        load(file, environ={})
