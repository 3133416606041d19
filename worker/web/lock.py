"""Who may change anything here: who knows the token that `web.token` names. Without one, nobody.

The token is read anew for each request, so that it can be rotated, and compared in constant time. It is taken from the
header Authorization alone: an address ends up in logs and histories, and a cookie would be sent for whoever asks.
"""

import hmac
from collections.abc import Sequence

from worker.config.settings import SecretError, Web
from worker.logs import Log

log = Log(__name__)

OFF = "nothing can be started or changed here: set `web: {token: {file: PATH}}` in the configuration file"
UNREADABLE = "nothing can be started or changed here: the token that `web.token` names cannot be read; the log says why"
ASKED_FOR = "this needs the token of `web.token`: send the header Authorization: Bearer …"
WRONG = "this is not the token of `web.token`"


class RefusedError(Exception):
    """A request that changes nothing: its answer's status, one line, and headers."""

    def __init__(
        self, status: int, message: str, headers: dict[str, str] | None = None, run: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.headers, self.run = status, message, headers or {}, run


def let_in(web: Web, authorizations: Sequence[str]) -> None:
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
        raise RefusedError(401, ASKED_FOR, {"WWW-Authenticate": 'Bearer realm="registry-gc"'})
    # Headers are bytes that come decoded as Latin-1: back to bytes, whatever was sent.
    if not hmac.compare_digest(given.strip(" ").encode("latin-1"), expected):
        raise RefusedError(401, WRONG, {"WWW-Authenticate": 'Bearer realm="registry-gc", error="invalid_token"'})
