"""What a registry lists as referring to an image, and where it has no API for that: then fallback tags count.

A repository is listed by its tags and manifests, so what a registry says to this one question never ends a listing:
only where the registry has listed referrers before is a failure reason to leave a repository unreadable.
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

Ask = Callable[[str, str, Mapping[str, str], bool], Page | None]  # name, digest, query, whether the API is known

_logged: set[str] = set()  # keys of registries that are known to this process as without the API
_logging = threading.Lock()


class Referrers:
    """Of one registry. Safe to use from several threads.

    `ask`: one page; None: it is no list. `key`: the registry's, by which the log names it once in a process.
    """

    def __init__(self, ask: Ask, registry: str, key: str) -> None:
        self._ask, self._registry, self._key = ask, registry, key
        self._works = False  # the registry has listed referrers
        self._has_api: dict[str, bool] = {}  # by repository; some registries hold repositories of several kinds
        self._finding: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()

    def of(self, name: str, digest: str) -> tuple[str, ...]:
        """What is listed as referring to a digest of a repository whose tags were listed.

        Raises RegistryError where a registry that has listed referrers fails to.
        """
        if name in self._has_api:
            return self._listed(name, digest)
        with self._lock:
            finding = self._finding[name]
        with finding:  # one finds out for all
            return self._listed(name, digest)

    def _listed(self, name: str, digest: str) -> tuple[str, ...]:
        if self._has_api.get(name) is False:
            return ()
        about = f"referrers of {manifests.about(name, digest)}"
        try:
            found = linked_list(lambda query: self._page(name, digest, query), self._registry, about)
        except NoConnectionError:
            raise  # it answers nothing at all
        except RegistryError as error:
            if not self._works:
                found = None
            elif isinstance(error, SignInError):  # refused here alone: no failure to sign in
                message = f"the referrers API, which has answered before, refuses to: {error.message}"
                where = (error.registry, error.request, error.status, error.request_id)
                raise BadResponseError(message, *where) from None
            else:
                raise
        if found is None:
            with _logging:
                first = self._key not in _logged
                _logged.add(self._key)
            if first:
                log.info("referrers_api_missing", registry=self._registry, reason="fallback tags and subjects count")
        self._has_api.setdefault(name, found is not None)
        return found or ()

    def _page(self, name: str, digest: str, query: Mapping[str, str]) -> Page | None:
        try:
            page = self._ask(name, digest, query, self._works)
        except UnchallengedError:  # other requests of this listing were answered
            return None
        self._works |= page is not None
        return page
