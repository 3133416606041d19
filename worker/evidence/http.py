"""Evidence from an HTTP service, which answers GET with the document of `document.py`."""

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
REMEDY = "see the log of the service; docs/evidence.md describes the response"

_REFUSALS: dict[int, tuple[type[RegistryError], str]] = {
    401: (SignInError, "does not accept the token"),
    403: (PermissionDeniedError, "does not allow this token to read it"),
    404: (NotFoundError, "has no such address"),
    429: (RateLimitedError, "asks for fewer requests"),
}


def read(settings: EvidenceSettings, retries: Retries = RETRIES) -> Reading:
    """The reading of the service. Raises EvidenceError."""
    url = settings.url or ""  # required by the configuration
    host = urlsplit(url).netloc  # path and query may contain a secret
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
        return BadResponseError(f"answers {status}: redirects are not followed; write the final address")
    kind, what = _REFUSALS.get(status, (BadResponseError, "returns no document"))
    if status >= 500:
        kind, what = UnavailableError, "fails"
    return kind(f"the service {what}: {status}", status=status)
