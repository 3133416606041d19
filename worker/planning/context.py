"""Gathers the context of a plan: evidence of use and holds."""

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
    """The context of a plan besides the inventory, and warnings about the evidence.

    `now`: the plan's time. Without `save` nothing is written. Raises EvidenceError, StoreError.
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


def record_held_digests(store: Store, registry: RegistrySettings, context: PlanContext, inventory: Inventory) -> None:
    """Record the digests of held ids from the inventory: a registry that changes its kind changes its ids."""
    held_ids = {hold.value for hold in context.holds.holds if hold.kind == "image" and hold.digest is None}
    if not held_ids:
        return
    images = (image for repository in inventory.repositories() for image in repository.images)
    digests = {image.id: image.digest for image in images if image.id in held_ids}
    with store.write() as connection:
        holds.set_digests(connection, registry.name, registry.key, digests)
