"""The facts of manifests. The manifest of a digest never changes, so each is requested once."""

from collections.abc import Iterable, Mapping

import msgspec
from sqlalchemy import select

from worker.registries.interface import Manifest
from worker.store.engine import Store, insert_for
from worker.store.freed_bytes import portions
from worker.store.tables import manifest

_facts = msgspec.json.Decoder(Manifest)


class StoredManifests:
    """The manifests of one registry, by its key. Without a store, or with `save` false, nothing is written."""

    def __init__(self, store: Store | None, registry_key: str, *, save: bool = True) -> None:
        self._store = store
        self._key = registry_key
        self._save = save

    def load(self, digests: Iterable[str]) -> Mapping[str, Manifest]:
        """The stored facts of these manifests, by digest."""
        if self._store is None:
            return {}
        rows: list[bytes] = []
        with self._store.read() as connection:
            for portion in portions(list(digests)):
                mine = (manifest.c.registry_key == self._key) & manifest.c.digest.in_(portion)
                rows.extend(connection.execute(select(manifest.c.facts).where(mine)).scalars())
        return {stored.digest: stored for stored in map(_facts.decode, rows)}

    def save(self, manifests: Mapping[str, Manifest]) -> None:
        """Save facts, so that manifests are never requested again; newer facts of a digest replace older ones."""
        if self._store is not None and self._save and manifests:
            rows = [
                {"registry_key": self._key, "digest": digest, "facts": msgspec.json.encode(manifests[digest])}
                for digest in sorted(manifests)
            ]
            with self._store.write() as connection:
                new = insert_for(connection, manifest)
                keys = [manifest.c.registry_key, manifest.c.digest]
                connection.execute(
                    new.on_conflict_do_update(index_elements=keys, set_={"facts": new.excluded.facts}), rows
                )
