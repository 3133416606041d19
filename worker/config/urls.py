"""The URLs of the configuration: what each may be, in the file or in a secret that the file names.

A message never quotes a part of a URL that may contain a password or a token.
"""

import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator

from policies.findings import written
from policies.mistakes import BadValueError
from policies.units import shown
from worker.config.addresses import is_loopback, is_private, is_proxy_url
from worker.config.connection_urls import REDIS_EXAMPLE, STORE_EXAMPLE, redis_flaw, store_flaw
from worker.config.secret import AS_SECRET, AS_TEXT, TEXT_OR_SECRET, Secret, holds, url_schema
from worker.config.values import Reader, list_schema, read_text, read_texts, text_schema

EXAMPLE, OCI_EXAMPLE = "https://cr.yandex", "https://registry.example.com"
KEPT_APART = "store the whole URL in {file: PATH} or {env: NAME}"
NO_PROXY_URL = "is not the URL of a proxy"
PROXY_REMEDY = "write http://HOST:PORT (https:// is read too, socks is not)"
SCHEME = "[A-Za-z][A-Za-z0-9]*://"


def read_endpoint(value: object) -> str:
    """The root of a service: only scheme, host and port. Tokens are sent there; see `check_plain`."""
    text = read_text(value, "a URL", f"write, for example, {EXAMPLE}")
    parts = _server(text, EXAMPLE)
    if parts.path not in ("", "/") or parts.query or parts.fragment or text.endswith(("?", "#")):
        raise BadValueError(
            f"expected a URL without a path, got {shown(text)}", f"write {parts.scheme}://{parts.netloc}"
        )
    return _root(parts)


def read_url(value: object) -> str:
    """The URL of an OCI registry, optionally with a path. Credentials are sent there; see `check_plain`."""
    text = read_text(value, "a registry's URL", f"write, for example, {OCI_EXAMPLE}")
    parts = _server(text, OCI_EXAMPLE)
    path = parts.path.rstrip("/")
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise BadValueError(f"expected a URL without a query, got {shown(text)}", f"write {_root(parts)}{path}")
    if odd := re.search(r"[^A-Za-z0-9._~%+/-]|//|/\.{1,2}(?=/|$)", path):
        raise BadValueError(f"expected a URL with a valid path, got {shown(text)}, which has {odd[0]!r}", "remove that")
    return _root(parts) + (path if path.startswith("/v2/") else path.removesuffix("/v2"))


def _server(text: str, example: str) -> SplitResult:
    """The parts of a server's URL. Raises BadValueError."""
    if "@" in text:  # checked first: later messages quote the text, which may contain a password
        raise BadValueError("expected a URL without user and password", "write only the host")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not host or port == 0 or re.search(r"[\s\\]", text):
        raise BadValueError(f"expected a URL, got {shown(text)}", f"write, for example, {example}")
    return parts


def _root(parts: SplitResult) -> str:
    usual = {"http": ":80", "https": ":443"}[parts.scheme]  # removed, so that one registry has one identity
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(usual)}"


def check_plain(url: str, insecure: bool | None) -> str:
    """The same URL. Raises BadValueError for plain http to a forbidden address. Names are resolved on use.

    `insecure`: whether the file allows private addresses; None: this URL has no such key.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http" or is_loopback(host):
        return url
    secure = f"write https://{parts.netloc}{parts.path}"
    if not insecure:
        what = f"plain http is allowed to loopback addresses only, got {shown(url)}"
        also = "" if insecure is None else ", or add insecure_http: true on a private network"
        raise BadValueError(what, secure + also)
    if is_private(host) is False:
        raise BadValueError(f"plain http is allowed to private addresses only, got {shown(url)}", secure)
    return url


def read_address(value: object) -> str:
    """An http(s) URL of a document, optionally with a path and a query. A token is sent there."""
    example = "write, for example, https://inventory.example.com/in-use.json"
    text = read_text(value, "a URL", example)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadValueError("expected a URL, got something else", example) from None
    if "@" in parts.netloc:
        raise BadValueError("expected a URL without user and password", "write only the host, and the token in `token`")
    # A query may be a secret, and so may the text before an @, wherever the @ is.
    without_query = "something else" if "@" in text else shown(text.partition("?")[0])
    odd = re.search(r"[^!-~]|[\\#]", text)
    if parts.scheme not in ("http", "https") or not host or port == 0 or odd:
        raise BadValueError(f"expected a URL, got {without_query}", example)
    if parts.scheme == "http" and not is_loopback(host):
        what = f"plain http is allowed to loopback addresses only, got {without_query}"
        raise BadValueError(what, f"write https://{parts.netloc}{parts.path}")
    return text


def read_hosts(value: object) -> tuple[str, ...]:
    """Hosts, optionally with a port, in lower case."""
    hosts = [text.lower().removesuffix(":443") for text in read_texts(value, "hosts", "auth.example.com")]
    for host in hosts:
        if not re.fullmatch(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", host):
            got = "a URL with a user or password in it" if "@" in host else shown(host)
            remedy = "write only the host, such as auth.example.com, or the host with its port"
            raise BadValueError(f"expected a host, got {got}", remedy)
    return tuple(dict.fromkeys(hosts))


def read_proxy(value: str) -> str:
    """A URL of a proxy without a password in it."""
    example = "write, for example, http://proxy.example.com:3128"
    if "@" in value:
        raise BadValueError("contains a user or password", KEPT_APART)
    if not is_proxy_url(value):
        raise BadValueError(f"expected a URL of a proxy, got {shown(value)}", example)
    return value


def _without_password(flaw: Callable[[str], str], example: str) -> BeforeValidator:
    """Refuses a URL of the store or of Redis with a flaw or a password. A store's path may still be relative."""

    def read(url: str) -> str:
        if problem := flaw(url):
            raise BadValueError(problem, example)
        parts = urlsplit(url)
        if parts.password is not None or "password=" in parts.query:
            raise BadValueError("contains a password", KEPT_APART)
        return url

    return BeforeValidator(written(read))


def read_notify_address(value: str) -> str:
    """An address of apprise without a password. Whether apprise supports it is checked on use."""
    example = "write, for example, json://127.0.0.1:8080/hook, or store it in {file: PATH} or {env: NAME}"
    try:
        password = urlsplit(value).password
    except ValueError:
        raise BadValueError("expected an address of apprise, got something else", example) from None
    if password is not None:
        raise BadValueError("contains a password", KEPT_APART)
    if not re.fullmatch(f"{SCHEME}\\S+", value):
        # Not quoted: most of these addresses contain a token.
        raise BadValueError("expected an address of apprise, got something else", example)
    return value


def read_listen(value: object) -> tuple[str, int]:
    """ "host:port" as (host, port), an IPv6 address without its brackets."""
    example = 'write, for example, "127.0.0.1:9811"'
    text = read_text(value, "an address", example)
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535 or not re.fullmatch("[\\w.:-]+", bare):
        raise BadValueError(f"expected an address, got {shown(text)}", example)
    if ":" in bare and bare == host:
        raise BadValueError(f"expected an IPv6 address in brackets, got {shown(text)}", f'write "[{host}]:{port}"')
    return bare, int(port)


Endpoint = Annotated[str, Reader(read_endpoint, text_schema("^https?://[^/?#@]+/?$", EXAMPLE))]
RegistryUrl = Annotated[str, Reader(read_url, text_schema("^https?://[^/?#@]+(/[A-Za-z0-9._~%+/-]*)?$", OCI_EXAMPLE))]
DOCUMENT_EXAMPLE = "https://inventory.example.com/in-use"
Address = Annotated[str, Reader(read_address, text_schema("^https?://[^/?#@]+([/?][^#]*)?$", DOCUMENT_EXAMPLE))]
Hosts = Annotated[tuple[str, ...], Reader(read_hosts, list_schema("^[A-Za-z0-9.:\\[\\]-]+$"))]
Listen = Annotated[tuple[str, int], Reader(read_listen, text_schema("^.+:[0-9]{1,5}$", "127.0.0.1:9811"))]
ProxyUrl = Annotated[
    Annotated[str, BeforeValidator(written(read_proxy)), AS_TEXT]
    | Annotated[
        Secret,
        holds(lambda url: "" if is_proxy_url(url if "://" in url else f"http://{url}") else NO_PROXY_URL, PROXY_REMEDY),
        AS_SECRET,
    ],
    TEXT_OR_SECRET,
    url_schema("https?://"),
]
RedisUrl = Annotated[
    Annotated[str, _without_password(redis_flaw, REDIS_EXAMPLE), AS_TEXT]
    | Annotated[
        Secret, holds(lambda url: f"cannot be used: {problem}" if (problem := redis_flaw(url)) else ""), AS_SECRET
    ],
    TEXT_OR_SECRET,
    url_schema("rediss?://", "unix:///"),
]
StoreUrl = Annotated[
    Annotated[str, _without_password(store_flaw, STORE_EXAMPLE), AS_TEXT] | Annotated[Secret, AS_SECRET],
    TEXT_OR_SECRET,
    url_schema("sqlite:///", "postgresql[+]psycopg://"),
]
NotifyUrl = Annotated[
    Annotated[str, BeforeValidator(written(read_notify_address)), AS_TEXT] | Annotated[Secret, AS_SECRET],
    TEXT_OR_SECRET,
    url_schema(SCHEME),
]
