"""Evidence from a service: the document of `document.py` by GET."""

from urllib.parse import urlsplit

from worker.config.settings import EvidenceSettings
from worker.evidence.document import DocumentError, read_document
from worker.evidence.reading import EvidenceError, Reading
from worker.registries.errors import (
    BadResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    RegistryError,
    SignInError,
    UnavailableError,
)
from worker.registries.http.client import Http
from worker.registries.http.messages import Request, Response, Retries
from worker.registries.http.rate_limit import LocalLimiter
from worker.registries.http.tokens import SecretBearer

RETRIES = Retries(attempts=4, total=60.0)
REMEDY = "see the service's own log, and docs/evidence.md for what it must answer"

_REFUSALS: dict[int, tuple[type[RegistryError], str]] = {
    401: (SignInError, "does not accept the token"),
    403: (PermissionDeniedError, "does not let this token read it"),
    404: (NotFoundError, "does not know this address"),
    429: (RateLimitedError, "asks for fewer requests"),
}


def read(settings: EvidenceSettings, retries: Retries = RETRIES) -> Reading:
    """What the service says. Raises EvidenceError."""
    url = settings.url or ""  # the configuration insists on one
    host = urlsplit(url).netloc  # without path and query, which may be a secret
    request = Request(method="GET", url=url, about=host, repeatable=True, paced=False, timeout=20.0)
    signer = SecretBearer(settings.token) if settings.token else None
    client = Http(settings.name, LocalLimiter(1.0), 1, retries)

    def document(response: Response) -> Reading:
        if response.status != 200:
            raise _refusal(response.status)
        try:
            return read_document(response.body, settings.name)
        except DocumentError as error:
            raise BadResponseError(f"the answer {error}") from None

    try:
        return client.call(request, document, signer)
    except RegistryError as error:
        raise EvidenceError(settings.name, f"{host}: {error.message}", REMEDY) from None
    finally:
        client.close()


def _refusal(status: int) -> RegistryError:
    if 300 <= status < 400:
        return BadResponseError(f"answers {status}: redirects are not followed, write the address it leads to")
    kind, what = _REFUSALS.get(status, (BadResponseError, "gives no document"))
    if status >= 500:
        kind, what = UnavailableError, "is ill"
    return kind(f"the service {what}: {status}", status=status)
