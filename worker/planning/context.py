"""What decides beside a registry's inventory, gathered for a plan: evidence of use and what people hold."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from policies.context import PlanContext
from policies.warnings import PlanWarning
from worker.config.settings import RegistrySettings, Settings
from worker.evidence.judgement import digests_in
from worker.planning.inventory import Inventory
from worker.runs.evidence import gather
from worker.store import Store, holds


def plan_context_of(
    store: Store | None,
    settings: Settings,
    registry: RegistrySettings,
    inventory: Inventory,
    now: datetime,
    *,
    save: bool = True,
) -> tuple[PlanContext, tuple[PlanWarning, ...]]:
    """What decides beside the inventory, and what the evidence of use leaves to be said.

    `now`: the plan's time. `save` False: nothing is written. Raises EvidenceError, StoreError.
    """

    def listed(digests: Collection[str]) -> Collection[str]:
        return digests_in(inventory.repositories(), digests)

    gathered = gather(store, registry, settings.registries.values(), listed, scanning=True, remember=save)
    plan_context = PlanContext(evidence=gathered.evidence)
    if store is not None:
        with store.read() as connection:
            held = holds.active(connection, registry.name, registry.key, now)
        plan_context = replace(plan_context, holds=held)
    return plan_context, gathered.warnings


def record_held_digests(
    store: Store, registry: RegistrySettings, plan_context: PlanContext, inventory: Inventory
) -> None:
    """Keep what held ids name, as long as somebody can tell: a registry that changes its kind changes its ids."""
    wanted = {one.value for one in plan_context.holds.holds if one.kind == "image" and one.digest is None}
    if not wanted:
        return
    images = (image for repository in inventory.repositories() for image in repository.images)
    found = {image.id: image.digest for image in images if image.id in wanted}
    with store.write() as connection:
        holds.set_digests(connection, registry.name, registry.key, found)
