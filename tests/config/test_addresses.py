"""Where an address leads: this machine, a private network, a proxy, one registry by many names."""

import pytest

from worker.config.addresses import api_of, is_loopback, is_private, is_proxy_url, namespace_of, one_endpoint


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("10.1.2.3", True),
        ("172.16.0.1", True),
        ("172.32.0.1", False),
        ("192.168.1.1", True),
        ("127.0.0.1", True),
        ("fd00::1", True),
        ("::1", True),
        ("::ffff:10.1.2.3", True),
        ("::ffff:8.8.8.8", False),
        ("8.8.8.8", False),
        ("2a00::1", False),
        ("169.254.169.254", False),
        ("registry.internal", None),
    ],
)
def test_recognizes_private_addresses(host: str, private: bool | None) -> None:
    assert is_private(host) is private


@pytest.mark.parametrize(
    ("url", "api"),
    [
        ("https://a.example", "https://a.example/v2"),
        ("https://a.example/artifactory/docker", "https://a.example/artifactory/docker/v2"),
        ("https://a.example/v2/project", "https://a.example/v2/project"),
        ("https://a.example/v2x", "https://a.example/v2x/v2"),
    ],
)
def test_appends_v2_to_the_url_of_the_api(url: str, api: str) -> None:
    assert api_of(url) == api


@pytest.mark.parametrize(
    ("host", "stays"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True),
        ("localhost.example.com", False), ("169.254.169.254", False), ("10.0.0.1", False), ("", False),
        ("127.0.0.1.nip.io", False),
    ],
)  # fmt: skip
def test_recognizes_loopback_addresses(host: str, stays: bool) -> None:
    assert is_loopback(host) is stays


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("http://proxy.example.com:3128", True),
        ("https://user:word@proxy.example.com/", True),
        ("socks5://proxy:1080", False),
        ("http://:3128", False),
        ("http://proxy:0", False),
        ("http://proxy:99999", False),
        ("http://proxy:3128/path", False),
        ("http://proxy:3128?x=1", False),
        ("http://pro xy", False),
        ("proxy:3128", False),
        ("", False),
    ],
)
def test_recognizes_the_url_of_a_proxy(text: str, is_one: bool) -> None:
    assert is_proxy_url(text) is is_one


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://A.example.com:443/", "https://a.example.com"),
        ("https://a.example.com.", "https://a.example.com"),
        ("http://a.example.com:80/Team/", "http://a.example.com/Team"),
        ("https://a.example.com:80", "https://a.example.com:80"),
        ("http://127.0.0.1:5000", "http://localhost:5000"),
        ("http://[::1]:5000", "http://localhost:5000"),
        ("http://[::ffff:127.0.0.1]:5000", "http://localhost:5000"),
        ("https://[2001:DB8:0::1]", "https://[2001:db8::1]"),
        ("https://реестр.рф", "https://xn--e1aa5aceg.xn--p1ai"),
    ],
)
def test_spellings_of_one_endpoint_have_one_canonical_form(written: str, meant: str) -> None:
    assert one_endpoint(written) == one_endpoint(meant) == meant


@pytest.mark.parametrize(
    ("url", "namespace"),
    [
        ("https://a.example", ""),
        ("https://a.example/docker", ""),
        ("https://a.example/v2/project", "project"),
        ("https://a.example/v2/project/sub", "project/sub"),
        ("https://a.example/v2x", ""),
    ],
)
def test_a_path_below_v2_is_the_prefix_of_repository_names(url: str, namespace: str) -> None:
    assert namespace_of(url) == namespace
