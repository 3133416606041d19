"""Responses of every registry: bodies of any content, statuses, foreign text."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from worker.registries.errors import (
    BadResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    RegistryError,
    SignInError,
    UnavailableError,
)
from worker.registries.http.messages import BrokenBodyError, Response
from worker.registries.http.responses import (
    bad,
    decode,
    decode_any_text,
    protects,
    server_time,
    status_error,
    succeeded,
    without_names,
)


class Listed(Struct):
    names: list[str]


def response(status: int = 200, body: bytes = b"", **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.mark.parametrize(("status", "good"), [(199, False), (200, True), (204, True), (299, True), (300, False)])
def test_a_2xx_response_is_a_success(status: int, good: bool) -> None:
    assert succeeded(response(status)) is good


def test_decodes_a_body_into_its_struct() -> None:
    assert decode(b'{"names": ["a"], "more": 1}', Listed) == Listed(["a"])
    with pytest.raises(BadResponseError, match="the response does not match the API: Object missing") as missing:
        decode(b"{}", Listed)
    assert not isinstance(missing.value, BrokenBodyError)


@pytest.mark.parametrize("body", [b"", b"<html>\n\x1b[2J", b'{"names": ["a"', b'{"names": ["\xff"]}'])
def test_rejects_a_body_that_is_not_json_and_allows_a_retry(body: bytes) -> None:
    with pytest.raises(BrokenBodyError, match="the response is not JSON") as broken:
        decode(body, Listed)
    assert str(broken.value).isprintable()
    assert len(str(broken.value)) < 400


def test_decodes_texts_that_are_not_unicode() -> None:
    assert decode_any_text(b'{"names": ["caf\xe9", "sur\\ud800"]}', Listed) == Listed(["caf\udce9", "sur\ud800"])
    for body in (b'{"names": ["\xff"', b'{"names": 5}', b"\xff", b"[" * 100_000):
        assert decode_any_text(body, Listed) is None


@given(
    st.binary(max_size=40)
    | st.recursive(st.none() | st.text(max_size=3), st.lists).map(lambda value: json.dumps(value).encode())
)
def test_any_body_is_decoded_or_rejected(body: bytes) -> None:
    try:
        assert isinstance(decode(body, Listed), Listed)
    except BadResponseError:
        decode_any_text(body, Listed)


def test_the_servers_own_time() -> None:
    dated = response(date="Tue, 24 Nov 2026 06:00:00 +0300")
    assert server_time(dated) == datetime(2026, 11, 24, 3, tzinfo=UTC)
    for date in ("", "yesterday"):
        with pytest.raises(BadResponseError, match="no valid Date header"):
            server_time(response(date=date))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, BadResponseError), (304, BadResponseError), (400, RegistryError), (401, SignInError),
        (403, PermissionDeniedError), (404, NotFoundError), (405, RegistryError), (408, UnavailableError),
        (418, RegistryError), (429, RateLimitedError), (499, UnavailableError), (500, UnavailableError),
        (501, RegistryError), (502, UnavailableError), (503, UnavailableError), (520, UnavailableError),
    ],
)  # fmt: skip
def test_maps_a_status_to_its_error(status: int, kind: type[RegistryError]) -> None:
    error = status_error(response(status, b"words", x_request_id="0f0c"))
    assert type(error) is kind
    assert (error.status, error.request_id, error.message) == (status, "0f0c", f"HTTP {status}: words")


@pytest.mark.parametrize(
    ("body", "words", "message"),
    [
        (b"", "", "HTTP 500: the response is empty"),
        (b"\xff\n", "", "HTTP 500: \ufffd"),
        (b"of the body", "given", "HTTP 500: given"),
        (b"a\n b\x1b[2J", "", "HTTP 500: a b [2J"),
    ],
)
def test_reads_the_message_of_a_refusal(body: bytes, words: str, message: str) -> None:
    assert status_error(response(500, body), words).message == message


@pytest.mark.parametrize(
    ("words", "of_the_image"),
    [
        ("Failed to process request due to tag configured as immutable", True),
        ("TAG_IMMUTABLE", True),
        ("the operation is disallowed on this registry, repository or image", True),
        ("tag is protected", True),
        ("the manifest is locked", True),
        ("a retention policy keeps it", True),
        ("access to a protected resource was denied", False),
        ("unprotected", False),
        ("requested access to the resource is denied", False),
        ("the account is locked", False),
        ("", False),
    ],
)
def test_recognizes_a_refusal_about_the_image(words: str, of_the_image: bool) -> None:
    assert protects(words) is of_the_image


@pytest.mark.parametrize(
    ("words", "names", "left"),
    [
        ("no rights on shop/protected", (), "no rights on"),
        ("robot$immutable may not", (), "may not"),
        ("protected is denied to Protected", ("protected",), "is denied to"),
        ("unprotected stays", ("protected",), "unprotected stays"),
        ("shop/api:v1 is immutable", ("", "v1"), "is immutable"),
        ("v1 v1.2 v1.2.3", ("v1", "v1.2", "v1.2.3"), ""),
    ],
)
def test_ignores_names_in_the_text_of_a_refusal(words: str, names: tuple[str, ...], left: str) -> None:
    assert without_names(words, names).split() == left.split()


def test_reports_a_bad_response_on_one_line() -> None:
    with pytest.raises(BadResponseError) as raised:
        bad("an odd\nname: \x1b[2J")
    assert str(raised.value) == "an odd name: [2J"
