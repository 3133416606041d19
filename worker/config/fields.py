"""What one value of the configuration may be: readers that say what was expected, what came and what to write.

Each is an annotated type, with the JSON Schema that editors see.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from policies.grammar import refuse_impossible
from policies.patterns import LONGEST, Patterns
from policies.units import parse_duration, parse_share, parse_size, shown
from worker.config.addresses import is_loopback, is_private, is_proxy_url
from worker.config.connection_urls import REDIS_EXAMPLE, STORE_EXAMPLE, redis_flaw, store_flaw
from worker.config.kinds import KINDS

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
METADATA_ADDRESS = "169.254.169.254"  # link-local: the virtual machine's own host
PROXY_REMEDY = "write http://HOST:PORT (https:// is read too, socks is not)"
EXAMPLE, OCI_EXAMPLE = "https://cr.yandex", "https://registry.example.com"


def mistake(what: str, remedy: str = "") -> PydanticCustomError:
    """An error whose words are ours; `config_file.reading` adds the path."""
    return PydanticCustomError("mistake", "{what}", {"what": what, "remedy": remedy})


def closest(word: str, known: Iterable[str]) -> str:
    """ "did you mean mode?" or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"did you mean {found[0]}?" if found else ""


def listed(words: Iterable[str], last: str) -> str:
    """ "a, b or c" """
    *some, end = [*words] or [""]
    return f"{', '.join(some)} {last} {end}" if some else end


def read_text(value: object, expected: str, remedy: str = "") -> str:
    if not isinstance(value, str):
        raise mistake(f"expected {expected}, got {shown(value)}", remedy)
    return value


def _unit(parse: Callable[[object], Any]) -> Callable[[object], Any]:
    """A reader of `policies.units`, whose messages are finished: what, then the remedy."""

    def read(value: object) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            what, _, remedy = str(error).partition("; ")
            raise mistake(what, remedy) from None

    return read


def _possible_path(text: object) -> None:
    Patterns((str(text),), paths=True)
    refuse_impossible(str(text), paths=True)


_path_pattern = _unit(_possible_path)


def at_least(least: timedelta, written: str) -> Callable[[timedelta], timedelta]:
    """Refuses a duration under `least`, which is `written` in the file's own way."""

    def check(value: timedelta) -> timedelta:
        if value < least:
            raise mistake(
                f"expected a duration of at least {written}, got {value.total_seconds():g}s", f"write {written} or more"
            )
        return value

    return check


def read_name(value: object) -> str:
    """A name of a registry or policy: it becomes a label of metrics, a part of paths and an argument of commands."""
    text = read_text(value, "a name", "write it in quotes")
    if not re.fullmatch(NAME, text):
        raise mistake(
            f"expected a name of letters, digits, '.', '_' and '-', at most 63, got {shown(text)}",
            "choose another name",
        )
    return text


def read_kind(value: object) -> str:
    """A kind of registry that is built in."""
    known = listed(KINDS, "or")
    text = read_text(value, known, f"write {known}")
    if text not in KINDS:
        raise mistake(f"expected {known}, got {shown(text)}", closest(text, KINDS) or f"write {known}")
    return text


def read_id(value: object) -> str:
    """The registry's own id. Source: the API says letters and digits, at most 50."""
    text = read_text(value, "a registry's id", "put it in quotes")
    if not re.fullmatch("[A-Za-z0-9]{1,50}", text):
        raise mistake(
            f"expected a registry's id of letters and digits, got {shown(text)}",
            "`yc container registry list` or `yc cloud-registry registry list` shows the ids",
        )
    return text


def read_service_account(value: object) -> str:
    """The id of a service account."""
    text = read_text(value, "a service account's id", "put it in quotes")
    if not re.fullmatch("[A-Za-z0-9]{1,50}", text):
        raise mistake(
            f"expected a service account's id of letters and digits, got {shown(text)}",
            "`yc iam service-account list` shows the ids",
        )
    return text


def read_instant(value: object) -> datetime:
    """An instant with its time zone, as UTC."""
    example = 'write, for example, "2026-11-20T03:00:00Z"'
    text = read_text(value, "an instant", example)
    if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise mistake(f"expected an instant, got the date {shown(text)}", f'write the time too: "{text}T00:00:00Z"')
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise mistake(f"expected an instant, got {shown(text)}", example) from None
    raise mistake(f"expected an instant with its time zone, got {shown(text)}", f'write "{text}Z" if it is UTC')


def read_schedule(value: object) -> str:
    """Five cron fields."""
    text = read_text(value, "a cron line", 'write, for example, "0 3 * * *"')
    fields = text.split()
    example = 'write minute, hour, day of month, month, day of week; for example "0 3 * * *"'
    if len(fields) != 5:
        raise mistake(f"expected a cron line of five fields, got {len(fields)} in {shown(text)}", example)
    if odd := re.search("[LW#]", re.sub("[A-Z]{3}", "", text.upper())):  # JUL and WED are names
        raise mistake(f"{odd.group()} is not read in cron lines, got {shown(text)}", "write days as numbers or names")
    try:
        next(CronSim(text, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        field = str(error).removeprefix("Bad ").replace("-", " ")
        raise mistake(f"expected a cron line, got {shown(text)}: its {field} is wrong", example) from None
    except StopIteration:
        raise mistake(f"the cron line {shown(text)} never comes", "no month has that day") from None
    return " ".join(fields)


def read_timezone(value: object) -> str:
    """A name of the time zone database."""
    text = read_text(value, "a time zone", "write, for example, Europe/Moscow")
    try:
        ZoneInfo(text)
    except (ValueError, OSError, LookupError):  # a path, a folder's name, an unknown name
        remedy = closest(text, available_timezones()) or "write, for example, Europe/Moscow"
        raise mistake(f"there is no time zone {shown(text)}", remedy) from None
    return text


def read_endpoint(value: object) -> str:
    """A service's root: scheme, host and port, nothing else. Tokens are sent there; see `check_plain`."""
    return check_endpoint(read_text(value, "a URL", f"write, for example, {EXAMPLE}"))


def read_url(value: object) -> str:
    """The address of an OCI registry, perhaps with a path. Credentials are sent there; see `check_plain`."""
    text = read_text(value, "a registry's URL", f"write, for example, {OCI_EXAMPLE}")
    parts = _server(text, OCI_EXAMPLE)
    path = parts.path.rstrip("/")
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise mistake(f"expected an address without a query, got {shown(text)}", f"write {_root(parts)}{path}")
    if odd := re.search(r"[^A-Za-z0-9._~%+/-]|//|/\.{1,2}(?=/|$)", path):
        raise mistake(f"expected a URL with a proper path, got {shown(text)}, which has {odd[0]!r}", "leave that out")
    return _root(parts) + (path if path.startswith("/v2/") else path.removesuffix("/v2"))


def check_endpoint(text: str) -> str:
    """`text` without a trailing slash, if it is a root."""
    parts = _server(text, EXAMPLE)
    if parts.path not in ("", "/") or parts.query or parts.fragment or text.endswith(("?", "#")):
        raise mistake(f"expected a root, got {shown(text)}", f"write {parts.scheme}://{parts.netloc}")
    return _root(parts)


def _server(text: str, example: str) -> SplitResult:
    """An address of a server in its parts."""
    if "@" in text:  # first of all: what cannot be read would be quoted, with a password in it
        raise mistake("a URL with a user or password in it is not read", "write the host only")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not host or port == 0 or re.search(r"[\s\\]", text):
        raise mistake(f"expected a URL, got {shown(text)}", f"write, for example, {example}")
    return parts


def _root(parts: SplitResult) -> str:
    usual = {"http": ":80", "https": ":443"}[parts.scheme]  # left out, so that one registry has one identity
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(usual)}"


def check_plain(url: str, insecure: bool | None) -> str:
    """The same, unless it is plain http to where that is not allowed; names are looked up when they are used.

    `insecure`: whether the file allows private addresses; None: there is no key for it.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http" or is_loopback(host):
        return url
    secure = f"write https://{parts.netloc}{parts.path}"
    if not insecure:
        what = f"plain http is for loopback addresses only, got {shown(url)}"
        also = "" if insecure is None else ", or insecure_http: true beside it on a private network"
        raise mistake(what, secure + also)
    if is_private(host) is False:
        raise mistake(f"plain http is for private addresses only, got {shown(url)}", secure)
    return url


def read_address(value: object) -> str:
    """An http(s) URL of a document, with a path and a query. A token is sent there."""
    example = "write, for example, https://inventory.example.com/in-use.json"
    text = read_text(value, "a URL", example)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise mistake("expected a URL, got something else", example) from None
    if "@" in parts.netloc:
        raise mistake("a URL with a user or password in it is not read", "write the host only, and `token` beside it")
    # A query may be a secret, and what stands before an @ too, wherever the @ ended up.
    without_query = "something else" if "@" in text else shown(text.partition("?")[0])
    odd = re.search(r"[^!-~]|[\\#]", text)
    if parts.scheme not in ("http", "https") or not host or port == 0 or odd:
        raise mistake(f"expected a URL, got {without_query}", example)
    if parts.scheme == "http" and not is_loopback(host):
        what = f"plain http is for loopback addresses only, got {without_query}"
        raise mistake(what, f"write https://{parts.netloc}{parts.path}")
    return text


DIGEST = "sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"


def read_names(value: object) -> tuple[str, ...]:
    """A list of names that is not empty: whoever means all of them leaves the key out."""
    if not isinstance(value, list) or not value:
        got = "an empty list" if value == [] else shown(value)
        raise mistake(f"expected a list of names, got {got}", "write, for example, [production], or leave the key out")
    for name in value:
        if not isinstance(name, str) or not name.strip():
            raise mistake(f"expected names, got {shown(name)}", "put each in quotes")
    return tuple(dict.fromkeys(value))


def read_paths(value: object) -> tuple[str, ...]:
    """Globs on repositories' paths, letters of either case."""
    paths = _texts(value, "repositories", "write, for example, [shop/api, ml/**], or leave the key out")
    for text in paths:
        if text.startswith("re:"):
            raise mistake(f"expected globs on repositories' paths, got {shown(text)}", "write, for example, ml/**")
        _path_pattern(text)
    return tuple(dict.fromkeys(paths))


def read_token_hosts(value: object) -> tuple[str, ...]:
    """Hosts, each perhaps with a port, as they stand in a URL, in small letters."""
    example = "write, for example, [auth.example.com], or leave the key out"
    hosts = [text.lower().removesuffix(":443") for text in _texts(value, "hosts", example)]
    for host in hosts:
        if not re.fullmatch(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", host):
            remedy = "write the host alone, such as auth.example.com, or with its port"
            got = "a URL with a user or password in it" if "@" in host else shown(host)
            raise mistake(f"expected a host, got {got}", remedy)
    return tuple(dict.fromkeys(hosts))


def read_digests(value: object) -> tuple[str, ...]:
    """Digests of images, each in full."""
    digests = _texts(value, "digests", "write, for example, [sha256:9f86d081…], or leave the key out")
    for digest in digests:
        if not re.fullmatch(DIGEST, digest):
            raise mistake(f"expected a digest, got {shown(digest)}", "write it in full, as plan names it: sha256:…")
    return tuple(dict.fromkeys(digests))


def _texts(value: object, what: str, example: str) -> list[str]:
    if not isinstance(value, list) or not value:
        got = "an empty list" if value == [] else shown(value)
        raise mistake(f"expected a list of {what}, got {got}", example)
    for text in value:
        if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
            raise mistake(f"expected {what}, got {shown(text)}", "put each in quotes")
    return value


def read_proxy(value: str) -> str:
    """A URL of a proxy without a password in it."""
    example = "write, for example, http://proxy.example.com:3128"
    if "@" in value:
        raise mistake("a user or password stands in the file", "keep the whole URL in {file: PATH} or {env: NAME}")
    if not is_proxy_url(value):
        raise mistake(f"expected a URL of a proxy, got {shown(value)}", example)
    return value


def read_helper(value: object) -> str:
    """NAME of a program docker-credential-NAME."""
    text = read_text(value, "the name of a helper", "write, for example, ecr-login")
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        raise mistake(f"expected the name of a helper, got {shown(text)}", "write, for example, ecr-login")
    if text.startswith("docker-credential-"):
        raise mistake(f"expected the name of a helper, got {shown(text)}", f"write {text[18:] or 'ecr-login'}")
    return text


def read_words(value: object) -> tuple[str, ...]:
    """A program and its arguments. They are not shown: a secret may be among them."""
    words = value if isinstance(value, list) else []
    if not words or not all(isinstance(word, str) and "\0" not in word for word in words) or not words[0].strip():
        example = "write, for example, [/usr/local/bin/registry-password, production]"
        raise mistake("expected a list of a program and its arguments", f"{example}; no shell reads it")
    return tuple(words)


def read_redis(value: str) -> str:
    """A URL of Redis without a password in it."""
    if flaw := redis_flaw(value):
        raise mistake(flaw, REDIS_EXAMPLE)
    parts = urlsplit(value)
    if parts.password is not None or "password=" in parts.query:
        raise _password()
    return value


def read_store(value: str) -> str:
    """A URL of a store without a password in it; a file's path may still be relative."""
    if flaw := store_flaw(value):
        raise mistake(flaw, STORE_EXAMPLE)
    parts = urlsplit(value)
    if parts.password is not None or "password=" in parts.query:
        raise _password()
    return value


def _password() -> PydanticCustomError:
    return mistake("a password stands in the file", "keep the whole URL in {file: PATH} or {env: NAME}")


def read_listen(value: object) -> tuple[str, int]:
    """ "host:port" as (host, port); the host of an IPv6 address without its brackets."""
    example = 'write, for example, "127.0.0.1:9811"'
    text = read_text(value, "an address", example)
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535 or not re.fullmatch("[\\w.:-]+", bare):
        raise mistake(f"expected an address, got {shown(text)}", example)
    if ":" in bare and bare == host:
        raise mistake(f"expected an IPv6 address in brackets, got {shown(text)}", f'write "[{host}]:{port}"')
    return bare, int(port)


def read_true(value: object) -> bool:
    """`true`: a key that is either said or left out."""
    if value is not True:
        raise mistake(f"expected true, got {shown(value)}", "leave the key out to say no")
    return True


def text_schema(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


def list_schema(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "array", "items": {"type": "string", "pattern": pattern}, "minItems": 1})


DURATION_SCHEMA = text_schema("^[0-9]+[smhdw]$", "36h", "14d")
Duration = Annotated[timedelta, BeforeValidator(_unit(parse_duration)), DURATION_SCHEMA]
Size = Annotated[
    int, BeforeValidator(_unit(parse_size)), text_schema("^[0-9]+([.][0-9]+)? ?([kKMGTP]?i?B)$", "500MB", "2TiB")
]
Share = Annotated[float, BeforeValidator(_unit(parse_share)), text_schema("^[0-9]+([.][0-9]+)? ?%$", "30%")]
RegistryId = Annotated[str, BeforeValidator(read_id), text_schema("^[A-Za-z0-9]{1,50}$", "crpvab5oob146rh73ilt")]
KindName = Annotated[str, BeforeValidator(read_kind), WithJsonSchema({"enum": list(KINDS)})]
Url = Annotated[str, BeforeValidator(read_url), text_schema("^https?://[^/?#@]+(/[A-Za-z0-9._~%+/-]*)?$", OCI_EXAMPLE)]
Paths = Annotated[tuple[str, ...], BeforeValidator(read_paths), list_schema("^[A-Za-z0-9._/*?\\[\\]!\\\\-]+$")]
ImageDigests = Annotated[tuple[str, ...], BeforeValidator(read_digests), list_schema(f"^({DIGEST})$")]
TokenHosts = Annotated[tuple[str, ...], BeforeValidator(read_token_hosts), list_schema("^[A-Za-z0-9.:\\[\\]-]+$")]
Schedule = Annotated[str, BeforeValidator(read_schedule), text_schema("^ *\\S+( +\\S+){4} *$", "0 3 * * *")]
Timezone = Annotated[
    str, BeforeValidator(read_timezone), WithJsonSchema({"type": "string", "examples": ["Europe/Moscow"]})
]
Endpoint = Annotated[str, BeforeValidator(read_endpoint), text_schema("^https?://[^/?#@]+/?$", "https://cr.yandex")]
Listen = Annotated[tuple[str, int], BeforeValidator(read_listen), text_schema("^.+:[0-9]{1,5}$", "127.0.0.1:9811")]
ServiceAccountId = Annotated[
    str, BeforeValidator(read_service_account), text_schema("^[A-Za-z0-9]{1,50}$", "ajepg0mjt06siua65usm")
]
# Of YAML's and ISO's ways to write one, those with a time and a zone.
Instant = Annotated[
    datetime,
    BeforeValidator(read_instant),
    text_schema("^[0-9]{4}-?[0-9]{2}-?[0-9]{2}.[0-9:.,]+ ?(Z|[+-][0-9:]+)$", "2026-11-20T03:00:00Z"),
]
Address = Annotated[
    str,
    BeforeValidator(read_address),
    text_schema("^https?://[^/?#@]+([/?][^#]*)?$", "https://inventory.example.com/in-use"),
]
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(read_names),
    WithJsonSchema({"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}),
]
HelperName = Annotated[
    str, BeforeValidator(read_helper), text_schema("^(?!docker-credential-)[A-Za-z0-9][A-Za-z0-9._-]*$", "ecr-login")
]
Words = Annotated[
    tuple[str, ...],
    BeforeValidator(read_words),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 1}),
]
Yes = Annotated[bool, BeforeValidator(read_true), WithJsonSchema({"const": True})]
