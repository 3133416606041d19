"""What the store knows of manifests: a digest's manifest never changes, so each is read once."""

from collections.abc import Iterable, Mapping

from worker.registries.interface import Manifest
from worker.store import Store, plans


class StoredManifests:
    """The manifests of one registry, by its key. `remember` False, or no store: nothing is written."""

    def __init__(self, store: Store | None, registry_key: str, *, remember: bool = True) -> None:
        self._store = store
        self._key = registry_key
        self._remember = remember

    def known(self, digests: Iterable[str]) -> Mapping[str, Manifest]:
        if self._store is None:
            return {}
        with self._store.read() as connection:
            return plans.known_manifests(connection, self._key, digests)

    def remember(self, manifests: Mapping[str, Manifest]) -> None:
        if self._store is not None and self._remember and manifests:
            with self._store.write() as connection:
                plans.remember_manifests(connection, self._key, manifests)
