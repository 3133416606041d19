"""The header WWW-Authenticate in every form that servers send, and in forms that none should."""

import pytest

from worker.registries.http.challenges import Challenge, find_challenge, parse_challenges

BEARER = Challenge("bearer", {"realm": "https://a.example/token", "service": "s"})
BASIC = Challenge("basic", {"realm": "x"})


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ("", ()),
        (", ,", ()),
        ('Bearer realm="https://a.example/token",service="s"', (BEARER,)),
        ("Bearer realm=https://a.example/token,service=s", (BEARER,)),
        ('bearer Realm="https://a.example/token", SERVICE=s', (BEARER,)),
        ('BEARER realm = "https://a.example/token" ,\tservice\t=\t"s"', (BEARER,)),
        ('Basic realm="x", Bearer realm="https://a.example/token",service="s"', (BASIC, BEARER)),
        ('Bearer realm="https://a.example/token",service="s", Basic realm="x"', (BEARER, BASIC)),
        ('Negotiate, Bearer realm="https://a.example/token",service="s"', (Challenge("negotiate"), BEARER)),
        ('Negotiate YIIabc+/==, Basic realm="x"', (Challenge("negotiate"), BASIC)),
        (',, Basic realm="x",, ,', (BASIC,)),
        ('Basic realm="a, Bearer b=\\"c\\""', (Challenge("basic", {"realm": 'a, Bearer b="c"'}),)),
        ("Basic", (Challenge("basic"),)),
        ('Basic realm="x", realm="y"', (BASIC,)),
        ('Basic realm="x" Bearer realm="https://a.example/token",service="s"', (BASIC, BEARER)),
        ('Basic realm="x", Bearer realm="never closed', (BASIC, Challenge("bearer"))),
        ('realm="x"', ()),
        ('@, Basic realm="x"', ()),
    ],
)
def test_each_challenge_is_read_with_its_parameters(header: str, challenges: tuple[Challenge, ...]) -> None:
    assert parse_challenges(header) == challenges


def test_ignores_the_word_bearer_in_another_challenge() -> None:
    assert find_challenge("bearer", 'Basic realm="Bearer realm=https://evil.example/token"') is None


def test_parses_a_long_header_quickly() -> None:
    for piece in ('Bearer a="', "x" * 10 + " ", "a=b,", 'Basic realm="\\', "=", " \t"):
        parse_challenges(piece * 20_000)
