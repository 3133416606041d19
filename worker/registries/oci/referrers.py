"""The referrers of an image by the referrers API. A registry without this API has fallback tags instead.

A failure of this API makes a repository unreadable only if the registry has listed referrers before.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping

from worker.logs import Log
from worker.registries.docker import manifests
from worker.registries.errors import BadResponseError, NoConnectionError, RegistryError, SignInError
from worker.registries.oci.pages import linked_list
from worker.registries.oci.protocol import Page
from worker.registries.oci.sign_in import UnchallengedError

log = Log(__name__)

Ask = Callable[[str, str, Mapping[str, str], bool], Page | None]  # name, digest, query, whether the API has worked

_logged: set[str] = set()  # keys of registries without the API that this process has logged
_logging = threading.Lock()


class Referrers:
    """The referrers API of one registry. Safe to use from several threads.

    `ask`: reads one page; None: not a list. `key`: of the registry, which is logged only once per process.
    """

    def __init__(self, ask: Ask, registry: str, key: str) -> None:
        self._ask, self._registry, self._key = ask, registry, key
        self._works = False  # whether the registry has listed referrers
        self._has_api: dict[str, bool] = {}  # by repository: some registries have repositories of several types
        self._probing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()

    def of(self, name: str, digest: str) -> tuple[str, ...]:
        """The digests of the referrers of a digest. Raises RegistryError if a registry with this API fails."""
        if name in self._has_api:
            return self._listed(name, digest)
        with self._lock:
            probing = self._probing[name]
        with probing:  # one thread probes for all
            return self._listed(name, digest)

    def _listed(self, name: str, digest: str) -> tuple[str, ...]:
        if self._has_api.get(name) is False:
            return ()
        about = f"referrers of {manifests.about(name, digest)}"
        try:
            referrers = linked_list(lambda query: self._page(name, digest, query), self._registry, about)
        except NoConnectionError:
            raise  # the registry is not reachable at all
        except RegistryError as error:
            if not self._works:
                referrers = None
            elif isinstance(error, SignInError):  # refused for this API only
                message = f"the referrers API has worked before and now refuses: {error.message}"
                where = (error.registry, error.request, error.status, error.request_id)
                raise BadResponseError(message, *where) from None
            else:
                raise
        if referrers is None:
            with _logging:
                first = self._key not in _logged
                _logged.add(self._key)
            if first:
                log.info("referrers_api_missing", registry=self._registry, reason="fallback tags and subjects count")
        self._has_api.setdefault(name, referrers is not None)
        return referrers or ()

    def _page(self, name: str, digest: str, query: Mapping[str, str]) -> Page | None:
        try:
            page = self._ask(name, digest, query, self._works)
        except UnchallengedError:  # the other requests of this listing succeeded
            return None
        self._works |= page is not None
        return page
