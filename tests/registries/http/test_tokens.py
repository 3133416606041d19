"""A token that somebody gives for a while: fetched early, by one thread at a time."""

import base64
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.waiting import until
from worker.config.secret import Origin, Secret
from worker.registries.errors import SignInError, UnavailableError
from worker.registries.http.messages import Response
from worker.registries.http.tokens import (
    Basic,
    Bearer,
    SecretBearer,
    Token,
    Tokens,
    base64_of,
    expiring_token,
    read_credentials,
)


@pytest.mark.parametrize(
    ("life", "longest", "refresh"),
    [
        (43_200.0, 43_200.0, 34_560.0),
        (1_000.0, 43_200.0, 700.0),
        (600.0, 43_200.0, 480.0),
        (10.0, 43_200.0, 8.0),
        (39_944.0, 3_600.0, 3_600.0),
    ],
    ids=["twelve hours", "five minutes before", "ten minutes", "ten seconds", "metadata, hourly"],
)
def test_a_token_is_replaced_before_it_expires(life: float, longest: float, refresh: float) -> None:
    now = time.monotonic()
    token = expiring_token("t1.x", life, longest)
    assert token.refresh_at - now == pytest.approx(refresh, abs=1.0)
    assert token.expires_at - now == pytest.approx(life, abs=1.0)


def test_one_refresh_at_a_time() -> None:
    """While one thread fetches, the others use the old token, and wait only if there is none."""
    fetched: list[int] = []

    def fetch() -> Token:
        fetched.append(1)
        now = time.monotonic()
        until(lambda: time.monotonic() > now + 0.1, what="a slow fetch")
        return Token(f"t1.{len(fetched)}", refresh_at=now if len(fetched) == 1 else now + 60.0, expires_at=now + 60.0)

    tokens = Tokens(fetch, "")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: tokens.current(), range(8))) <= {"t1.1", "t1.2"}
        until(lambda: tokens.current() == "t1.2", what="the second token")
        assert set(pool.map(lambda _: tokens.current(), range(8))) == {"t1.2"}
    assert len(fetched) == 2


REFUSED = Response(401, {}, b"")


class Issuer:
    """Issues t1, t2, …, each good for so long; or refuses."""

    def __init__(self, refresh: float = 60.0, life: float = 60.0) -> None:
        self.refresh, self.life, self.issued = refresh, life, 0
        self.error: UnavailableError | None = None

    def __call__(self) -> Token:
        if self.error is not None:
            raise self.error
        self.issued += 1
        now = time.monotonic()
        return Token(f"t{self.issued}", refresh_at=now + self.refresh, expires_at=now + self.life)


def test_a_token_is_fetched_once_and_not_before_it_is_needed() -> None:
    issuer = Issuer()
    tokens = Tokens(issuer, "")
    assert (tokens.last, issuer.issued) == (None, 0)
    assert [tokens.current(), tokens.current(), tokens.last] == ["t1"] * 3


def test_a_token_is_renewed_early_and_serves_on_where_that_fails() -> None:
    issuer = Issuer(refresh=-1.0)
    tokens = Tokens(issuer, "")
    assert [tokens.current(), tokens.current()] == ["t1", "t2"]
    issuer.error = UnavailableError("no answer")
    assert [tokens.current(), tokens.current()] == ["t2", "t2"]


def test_a_token_that_has_expired_is_not_used() -> None:
    issuer = Issuer(refresh=-2.0, life=-1.0)
    tokens = Tokens(issuer, "")
    tokens.current()
    issuer.error = UnavailableError("no answer")
    with pytest.raises(UnavailableError):
        tokens.current()


def test_a_refused_token_is_replaced_once_however_many_were_refused() -> None:
    issuer = Issuer()
    bearer = Bearer(Tokens(issuer, "see the key"))
    signed = bearer.sign()
    bearer.refused(signed, REFUSED)
    bearer.refused(signed, REFUSED)
    assert (signed, bearer.sign(), issuer.issued) == ("Bearer t1", "Bearer t2", 2)


def test_a_refusal_is_final_without_another_token() -> None:
    bearer = Bearer(Tokens(lambda: expiring_token("t1", 60.0), "see the key"))
    with pytest.raises(SignInError, match="the token was refused; see the key"):
        bearer.refused(bearer.sign(), REFUSED)


@pytest.mark.parametrize(("name", "pair"), [("iam", "iam:t1"), ("", "t1")])
def test_signs_in_with_a_name_and_a_password(name: str, pair: str) -> None:
    issuer = Issuer()
    basic = Basic(Tokens(issuer, ""), name)
    signed = basic.sign()
    assert base64.b64decode(signed.removeprefix("Basic ")).decode() == pair
    basic.refused(signed, REFUSED)
    assert issuer.issued == 2


def secret(environ: dict[str, str]) -> Secret:
    origin = Origin(folder=Path("/"), environ=environ, look_for_secrets=False)
    return Secret.model_validate({"env": "TOKEN"}, context=origin)


def test_a_token_of_a_secret_is_read_each_time() -> None:
    environ = {"TOKEN": "one"}
    bearer = SecretBearer(secret(environ))
    assert bearer.sign() == "Bearer one"
    environ["TOKEN"] = "another"
    bearer.refused("Bearer one", REFUSED)
    assert bearer.sign() == "Bearer another"


@pytest.mark.parametrize("token", ["hunter2\n", "hunter2\x00", "hünter2"])
def test_neither_sends_nor_shows_a_token_with_invalid_characters(token: str) -> None:
    with pytest.raises(SignInError) as raised:
        SecretBearer(secret({"TOKEN": f"a{token}b"})).sign()
    assert "nter2" not in str(raised.value)


def test_a_secret_that_cannot_be_read_says_where_it_is() -> None:
    for read in (SecretBearer(secret({})).sign, lambda: read_credentials(secret({}))):
        with pytest.raises(SignInError, match="environment variable TOKEN is not set"):
            read()
    assert read_credentials(secret({"TOKEN": "word"})) == "word"


def test_no_token_is_shown() -> None:
    assert "hunter2" not in repr(expiring_token("hunter2", 60.0))
    assert base64_of("ü") == "w7w="
