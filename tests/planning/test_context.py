"""The context of a plan: active holds, and no evidence without a store and sources."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from policies.context import PlanContext
from policies.holds import Hold
from tests.planning.rows import Rows
from tests.support.builders import DAY, NOW, digest, image
from tests.support.drivers import with_defaults
from tests.support.stores import opened
from worker.config.settings import Credentials, RegistrySettings, Settings
from worker.planning.context import plan_context_of, record_held_digests
from worker.planning.inventory import Inventory, take_inventory
from worker.store import Store, holds

REGISTRY = with_defaults(name="production", id="crp1", credentials=Credentials(metadata=True))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened_store = opened(f"sqlite:///{tmp_path}/gc.db")
    yield opened_store
    opened_store.dispose()


def inventory() -> Inventory:
    return take_inventory(Rows({"shop/api": [image("a"), image("b")]}), now=NOW, concurrency=1)


def plan_context(store: Store | None, registry: RegistrySettings = REGISTRY, now: datetime = NOW) -> PlanContext:
    settings = Settings(path=Path("/gc.yaml"), sha256="", store="", registries={registry.name: registry})
    context, warnings = plan_context_of(store, settings, registry, inventory(), now)
    assert warnings == ()
    return context


def hold(store: Store, held: Hold, registry: str = "production") -> None:
    with store.write() as connection:
        holds.add(connection, registry, held, NOW)


def test_the_context_is_empty_without_a_store_and_a_source() -> None:
    assert plan_context(None) == PlanContext()


def test_the_context_has_the_active_holds_of_the_registry(store: Store) -> None:
    kept, over = Hold(kind="image", value="crpa"), Hold(kind="image", value="crpb", until=NOW + DAY)
    hold(store, kept)
    hold(store, over)
    hold(store, Hold(kind="image", value="crpb"), "another")
    assert plan_context(store).holds.holds == (kept, over)
    assert plan_context(store, now=NOW + DAY).holds.holds == (kept,)


def test_records_the_digests_of_held_ids(store: Store) -> None:
    hold(store, Hold(kind="image", value="crpa"))
    hold(store, Hold(kind="image", value="crpgone"))
    hold(store, Hold(kind="tag", repository="shop/api", value="v1"))
    record_held_digests(store, REGISTRY, plan_context(store), inventory())
    assert [(listed_hold.value, listed_hold.digest) for listed_hold in plan_context(store).holds.holds] == [
        ("crpa", digest("a")), ("crpgone", None), ("v1", None)
    ]  # fmt: skip


def test_keeps_the_first_digest_of_a_held_id(store: Store) -> None:
    hold(store, Hold(kind="image", value="crpa", digest=digest("before")))
    record_held_digests(store, REGISTRY, plan_context(store), inventory())
    assert [listed_hold.digest for listed_hold in plan_context(store).holds.holds] == [digest("before")]
