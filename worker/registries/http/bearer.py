"""Signs requests with a token from a secret."""

from dataclasses import dataclass

from worker.config.secret import Secret, SecretError
from worker.registries.errors import SignInError
from worker.registries.http.messages import Answer


@dataclass(frozen=True, slots=True)
class Bearer:
    """Signs with a token that is read anew each time."""

    token: Secret

    def sign(self) -> str:
        try:
            return f"Bearer {_in_header(self.token.read())}"
        except SecretError as error:
            raise SignInError(str(error)) from None

    def refused(self, authorization: str | None, answer: Answer) -> None:
        """Nothing to renew: the next `sign` reads the token again."""


def _in_header(token: str) -> str:
    if not token.isascii() or not token.isprintable():
        raise SignInError("the token holds characters that no header may hold")
    return token
