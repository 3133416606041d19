"""Authentication of the API: only a request with the token in its one header Authorization is accepted."""

from pathlib import Path

import pytest

from worker.config.settings import Secret, Web
from worker.web.authentication import OFF, REQUIRED, UNREADABLE, WRONG, RefusedError, authenticate

TOKEN = "correct-horse-battery-stäple"


@pytest.fixture
def web(tmp_path: Path) -> Web:
    (tmp_path / "token").write_text(TOKEN)
    return Web(token=Secret(file=tmp_path / "token"))


def as_sent(text: str) -> str:
    """A header's bytes, as the server hands them on: decoded as Latin-1."""
    return text.encode().decode("latin-1")


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "BEARER  {} "], ids=["usual", "lower", "more blanks"])
def test_accepts_the_token(web: Web, header: str) -> None:
    authenticate(web, [as_sent(header.format(TOKEN))])


@pytest.mark.parametrize(
    ("headers", "line", "challenge"),
    [
        pytest.param([], REQUIRED, 'Bearer realm="registry-gc"', id="no header"),
        pytest.param([f"Bearer {TOKEN}"] * 2, REQUIRED, 'Bearer realm="registry-gc"', id="two headers"),
        pytest.param([TOKEN], REQUIRED, 'Bearer realm="registry-gc"', id="no scheme"),
        pytest.param([f"Basic {TOKEN}"], REQUIRED, 'Bearer realm="registry-gc"', id="another scheme"),
        pytest.param(["Bearer "], REQUIRED, 'Bearer realm="registry-gc"', id="a scheme without a token"),
        pytest.param(["Bearer  "], WRONG, 'Bearer realm="registry-gc", error="invalid_token"', id="a blank"),
        pytest.param([f"Bearer {TOKEN[:-1]}"], WRONG, 'Bearer realm="registry-gc", error="invalid_token"', id="less"),
        pytest.param([f"Bearer {TOKEN}x"], WRONG, 'Bearer realm="registry-gc", error="invalid_token"', id="more"),
    ],
)
def test_rejects_anything_but_the_token(web: Web, headers: list[str], line: str, challenge: str) -> None:
    with pytest.raises(RefusedError) as refused:
        authenticate(web, [as_sent(header) for header in headers])
    assert (refused.value.status, refused.value.message) == (401, line)
    assert refused.value.headers == {"WWW-Authenticate": challenge}


def test_rejects_every_request_without_a_configured_token() -> None:
    with pytest.raises(RefusedError) as refused:
        authenticate(Web(), [f"Bearer {TOKEN}"])
    assert (refused.value.status, refused.value.message, refused.value.headers) == (403, OFF, {})


def test_an_unreadable_token_rejects_every_request_without_naming_its_file(web: Web, tmp_path: Path) -> None:
    (tmp_path / "token").unlink()
    with pytest.raises(RefusedError) as refused:
        authenticate(web, [as_sent(f"Bearer {TOKEN}")])
    assert (refused.value.status, refused.value.message) == (403, UNREADABLE)
    assert str(tmp_path) not in refused.value.message


def test_a_changed_token_applies_at_once(web: Web, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("another")
    with pytest.raises(RefusedError, match="is not that of"):
        authenticate(web, [as_sent(f"Bearer {TOKEN}")])
    authenticate(web, ["Bearer another"])
