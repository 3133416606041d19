"""Evidence from Kubernetes clusters: the images of pods and of pod templates.

Only this module imports the client. A source is complete or fails: one incomplete list, in one namespace of a cluster,
fails it. The official client provides only the connection (a kubeconfig has many sign-in methods): its typed models
are slow, and refuse unknown values of newer servers.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import stamina
import stamina.instrumentation

from worker import __version__
from worker.config.files import is_named_pipe
from worker.config.settings import EvidenceSettings
from worker.evidence.kubernetes_objects import KINDS, Object, ObjectKind, ObjectPage, decode_page, uses_of
from worker.evidence.reading import EvidenceError, NamedImage, Reading, reading_of
from worker.registries.http.messages import is_local

try:
    import urllib3
    from kubernetes.client import ApiClient, ApiException, Configuration
    from kubernetes.config import ConfigException, load_kube_config
    from kubernetes.config.incluster_config import InClusterConfigLoader
except ImportError:
    INSTALLED = False
else:
    INSTALLED = True

# stamina would log each retry to standard output.
stamina.instrumentation.set_on_retry_hooks([])

PAGE = 500  # objects
MAX_PAGE = 64 * 1024 * 1024  # bytes, uncompressed
RESTARTS = 3  # of a list whose next page has expired
ATTEMPTS = 4  # of one request that may succeed later
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
RIGHTS = "docs/evidence.md has the role that grants it"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits in seconds."""

    total: float = 120.0  # for everything in one cluster
    silence: float = 20.0  # between two parts of a response
    first_wait: float = 0.2  # before the first retry; doubled each time


@dataclass(eq=False)
class _FailedError(Exception):
    """A cluster could not be read: the reason and the remedy."""

    what: str
    remedy: str


class _PassingError(_FailedError):
    """A cluster could not be read, and a retry may succeed."""


class _GoneError(Exception):
    """The next page of the list has expired."""


def read(
    settings: EvidenceSettings,
    limits: Timeouts = Timeouts(),
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> Reading:
    """The reading of all clusters, which are read in parallel. Raises EvidenceError."""
    if not INSTALLED:
        what = "the Kubernetes client is not installed"
        raise EvidenceError(settings.name, what, "install registry-gc with its extra: registry-gc[kubernetes]")
    as_of = datetime.now(UTC)
    clusters = [
        _Cluster(settings, context, limits, environ, service_account) for context in settings.contexts or (None,)
    ]
    images: list[NamedImage] = []
    for cluster in clusters:
        try:
            images += cluster.result()
        except _FailedError as error:
            raise EvidenceError(settings.name, f"{cluster.name}: {error.what}", error.remedy) from error
    return reading_of(as_of, images)


class _Cluster:
    """One cluster, read by its own thread, so that a blocked client cannot block the caller."""

    def __init__(
        self,
        settings: EvidenceSettings,
        context: str | None,
        limits: Timeouts,
        environ: Mapping[str, str],
        service_account: Path,
    ) -> None:
        self._settings, self._context, self._limits = settings, context, limits
        self._environ, self._service_account = environ, service_account
        self._ends = time.monotonic() + limits.total
        self._images: list[NamedImage] | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"evidence {self.name}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        return f"context {self._context}" if self._context else "cluster"

    def result(self) -> list[NamedImage]:
        """The images in use there. Raises _FailedError, or the unexpected error of the thread."""
        self._thread.join(max(0.0, self._ends - time.monotonic()) + 1.0)
        if self._error is not None:
            raise self._error
        if self._images is None:
            what = f"was not read within {self._limits.total:g} s"
            raise _FailedError(what, "check how quickly its API server answers, and any command of the kubeconfig")
        return self._images

    def _run(self) -> None:
        try:
            self._images = list(self._uses())
        except Exception as error:  # noqa: BLE001 - raised again by `result`, in the thread that waits
            self._error = error

    def _uses(self) -> Iterator[NamedImage]:
        configuration = self._configuration()
        configuration.retries = urllib3.Retry(total=0, raise_on_redirect=False)  # `get` retries; no redirects
        address = urlsplit(configuration.host)
        if address.scheme != "https" and not is_local(address.hostname or ""):
            raise _FailedError(f"refusing to talk to {address.netloc} without TLS", "configure https in the kubeconfig")
        with closing(ApiClient(configuration)) as client:
            client.user_agent = f"registry-gc/{__version__}"
            lists = _Lists(client, self._limits, self._ends)
            # A list of a namespace that does not exist is empty, without an error.
            for wanted in self._settings.namespaces:
                about, right = f"namespace {wanted}", "the verb get on namespaces"
                lists.get("/api/v1/namespaces/{namespace}", wanted, {}, about, right)
            for kind in KINDS:
                for namespace in self._settings.namespaces or (None,):
                    yield from lists.uses(kind, namespace, self._context or "cluster")

    def _configuration(self) -> Any:
        """The address and credentials of the cluster. Raises _FailedError."""
        configuration, configured = Configuration(), self._settings.kubeconfig or self._context
        # Without a configured file or context, a pod uses its own service account.
        inside = not configured and bool(self._environ.get("KUBERNETES_SERVICE_HOST"))
        kubeconfig = str(self._settings.kubeconfig or self._environ.get("KUBECONFIG") or "~/.kube/config")
        for path in () if inside else kubeconfig.split(os.pathsep):
            if is_named_pipe(Path(path).expanduser()):  # the client would wait for its writer
                raise _FailedError(f"no usable kubeconfig: {path} is a named pipe", "name a file")
        try:
            if inside:
                token, certificate = (str(self._service_account / name) for name in ("token", "ca.crt"))
                InClusterConfigLoader(token, certificate, environ=self._environ).load_and_set(configuration)
            else:
                # The file belongs to the user: it is never written.
                load_kube_config(kubeconfig, self._context, configuration, persist_config=False)
        except Exception as error:  # noqa: BLE001 - the client checks little: a kubeconfig may fail it in any way
            # The text of other errors may quote the file.
            what = str(error) if isinstance(error, ConfigException | OSError) else type(error).__name__
            raise _FailedError(f"no usable kubeconfig: {what}", "check `kubectl config view`") from None
        return configuration


class _Lists:
    """Reads complete lists of one API server."""

    def __init__(self, client: Any, limits: Timeouts, ends: float) -> None:
        self._client, self._limits, self._ends = client, limits, ends

    def uses(self, kind: ObjectKind, namespace: str | None, cluster: str) -> list[NamedImage]:
        """The images that all objects of a kind use. Raises _FailedError."""
        where = f"{kind.resource} in {f'namespace {namespace}' if namespace else 'all namespaces'}"
        for _ in range(1 + RESTARTS):
            try:
                # Page by page: only image names of 20,000 pods stay in memory.
                pages = self._pages(kind, namespace, where)
                return [use for page in pages for item in page.items or () for use in _uses(item, kind, cluster)]
            except _GoneError:
                continue  # from the start: the pages so far are of another state
        what = f"the list of {where} expired before its end, {1 + RESTARTS} times"
        raise _FailedError(what, "check how quickly the API server answers")

    def _pages(self, kind: ObjectKind, namespace: str | None, where: str) -> Iterator[ObjectPage]:
        path = f"{kind.root}/namespaces/{{namespace}}/{kind.resource}" if namespace else f"{kind.root}/{kind.resource}"
        query, seen = {"limit": str(PAGE)}, set[str]()
        while True:
            body = self.get(path, namespace, query, f"list of {where}", f"the verb list on {kind.right}")
            try:
                page = decode_page(body, kind)
            except ValueError as error:  # msgspec's errors are such
                raise _FailedError(f"the list of {where} cannot be parsed: {error}", _SERVER) from None
            yield page
            if not page.more:
                return
            if page.more in seen:
                raise _FailedError(f"the list of {where} repeats a page", _SERVER)
            seen.add(page.more)
            query = {"limit": str(PAGE), "continue": page.more}

    def get(self, path: str, namespace: str | None, query: dict[str, str], about: str, right: str) -> bytes:
        """The body of a response; `right`: the permission that the request needs. Raises _FailedError."""
        attempts = stamina.retry_context(
            on=_PassingError,
            attempts=ATTEMPTS,
            timeout=max(0.1, self._ends - time.monotonic()),
            wait_initial=self._limits.first_wait,
            wait_max=self._limits.first_wait * 20,
            wait_jitter=self._limits.first_wait,
        )
        for attempt in attempts:
            with attempt:
                status, body = self._exchange(path, namespace, query, about)
                if status != 200:
                    raise _refusal(status, about, right, "continue" in query)
                return body
        raise AssertionError("stamina gave no attempt")

    def _exchange(self, path: str, namespace: str | None, query: dict[str, str], about: str) -> tuple[int, bytes]:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise _FailedError(f"{about}: the time limit was reached", "check how quickly the API server answers")
        silence = min(self._limits.silence, left)
        request = self._client.param_serialize(
            "GET",
            path,
            path_params={"namespace": namespace} if namespace else None,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", "Accept-Encoding": "gzip"},
            auth_settings=["BearerToken"],
        )
        try:
            response = self._client.call_api(*request, _request_timeout=(min(5.0, silence), silence)).response
            with closing(response):
                pieces, size = [], 0
                # Partial reads: waiting for a full buffer would hide a response that trickles in.
                while piece := response.read1(65536, decode_content=True):
                    pieces.append(piece)
                    size += len(piece)
                    if size > MAX_PAGE:
                        raise _FailedError(f"{about}: a response of more than {MAX_PAGE >> 20} MiB", _SERVER)
                    if time.monotonic() > self._ends:
                        raise _FailedError(
                            f"{about}: the time limit was reached", "check how quickly the API server answers"
                        )
                return response.status, b"".join(pieces)
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            # The innermost reason, without the client's own words
            reason: Any = getattr(error, "reason", None) or error
            what = f"{about}: {str(reason) or type(reason).__name__}"
            raise _PassingError(what, "check that the API server is reachable") from None


_SERVER = "check that this is the API server's address"


def _uses(item: Object, kind: ObjectKind, cluster: str) -> Iterator[NamedImage]:
    try:
        yield from uses_of(item, kind, cluster)
    except ValueError as error:  # msgspec's errors are such
        where = f"{kind.name} {item.metadata.namespace}/{item.metadata.name}"
        raise _FailedError(f"{where} cannot be parsed: {error}", "report it with this line") from None


def _refusal(status: int, about: str, right: str, in_mid_list: bool) -> Exception:
    if status == 410 and in_mid_list:
        return _GoneError()
    if status == 401:
        return _FailedError(f"{about}: the API server does not accept the credentials (401)", "renew them")
    if status == 403:
        return _FailedError(f"{about}: forbidden (403)", f"grant {right}; {RIGHTS}")
    if status == 404:
        return _FailedError(
            f"{about}: not found (404)", "check that it exists, and that this is the API server's address"
        )
    if status == 429 or status >= 500:
        return _PassingError(f"{about}: the API server answers {status}", "check the API server")
    return _FailedError(f"{about}: the API server answers {status}", _SERVER)
