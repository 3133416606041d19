"""Facts of manifests are stored for their registry and loaded later."""

import pytest

from tests.store.rows import column
from worker.registries.interface import Manifest
from worker.store import Store
from worker.store.freed_bytes import ROWS_PER_QUERY
from worker.store.manifests import StoredManifests
from worker.store.tables import manifest

FIRST, SECOND = (Manifest(f"sha256:{number}", "an image", None) for number in (1, 2))


def both() -> dict[str, Manifest]:
    return {FIRST.digest: FIRST, SECOND.digest: SECOND}


def test_loads_manifests_of_the_same_registry_only(store: Store) -> None:
    StoredManifests(store, "one").save(both())
    asked = [SECOND.digest, "sha256:3"]
    assert StoredManifests(store, "one").load(asked) == {SECOND.digest: SECOND}
    assert StoredManifests(store, "another").load(asked) == {}
    assert StoredManifests(store, "one").load([]) == {}


def test_newer_facts_of_a_manifest_replace_older_ones(store: Store) -> None:
    more = Manifest(FIRST.digest, "an image", None, labels={"a": "b"}, config_read=True)
    StoredManifests(store, "one").save(both())
    StoredManifests(store, "one").save({more.digest: more})
    assert StoredManifests(store, "one").load(both()) == {FIRST.digest: more, SECOND.digest: SECOND}


def test_loads_more_manifests_than_fit_into_one_query(store: Store) -> None:
    many = {f"sha256:{number}": Manifest(f"sha256:{number}", "", None) for number in range(2 * ROWS_PER_QUERY + 1)}
    StoredManifests(store, "one").save(many)
    assert StoredManifests(store, "one").load(many) == many


@pytest.mark.parametrize("there", [True, False], ids=["not to be saved", "without a store"])
def test_writes_nothing_without_a_store_or_permission_to_save(store: Store, there: bool) -> None:
    StoredManifests(store if there else None, "one", save=not there).save(both())
    with store.read() as connection:
        assert column(connection, manifest, "digest") == []
    assert StoredManifests(None, "one").load(both()) == {}
