"""Authentication of the trigger API: a request must carry the token of `web.token`. Without a token the API is off.

The token is read again for each request, so that it can be rotated, and compared in constant time. Only the header
Authorization carries it: logs and browser histories record addresses, and browsers send cookies for any site.
"""

import hmac
from collections.abc import Sequence

from worker.config.settings import SecretError, Web
from worker.logs import Log

log = Log(__name__)

OFF = "the API is off because no token is configured; set `web: {token: {file: PATH}}` in the configuration file"
UNREADABLE = "the API is off because the token of `web.token` cannot be read; the log says why"
REQUIRED = "this address requires the token of `web.token`; send the header Authorization: Bearer …"
WRONG = "the token is not that of `web.token`"


class RefusedError(Exception):
    """A request is refused and changes nothing: the response's status, error message and headers."""

    def __init__(
        self, status: int, message: str, headers: dict[str, str] | None = None, run: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.headers, self.run = status, message, headers or {}, run


def authenticate(web: Web, authorizations: Sequence[str]) -> None:
    """Raises RefusedError unless the one header Authorization carries the token."""
    if web.token is None:
        raise RefusedError(403, OFF)
    try:
        expected = web.token.read().encode()
    except SecretError as error:
        log.warning("web_token_unreadable", reason=str(error))
        raise RefusedError(403, UNREADABLE) from None
    kind, _, given = authorizations[0].partition(" ") if len(authorizations) == 1 else ("", "", "")
    if kind.lower() != "bearer" or not given:
        raise RefusedError(401, REQUIRED, {"WWW-Authenticate": 'Bearer realm="registry-gc"'})
    # Starlette decodes headers as Latin-1; encoding them again restores the bytes that were sent.
    if not hmac.compare_digest(given.strip(" ").encode("latin-1"), expected):
        raise RefusedError(401, WRONG, {"WWW-Authenticate": 'Bearer realm="registry-gc", error="invalid_token"'})
