"""Has the policies decide on a registry's inventory: registry -> Inventory -> plan -> store. Deletes nothing."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from policies.image import Repository, UnreadableImage
from policies.limits import UNUSUAL_AMONG, Exceeded, exceeded, unusual
from policies.plan import Across, Closing, Columns, RepositoryPlan, across, close, decide, survey_all
from policies.standing import NOTHING, Standing
from policies.times import BELIEVED, OUR_OWN, Times, doubted, trusted_after
from policies.warnings import PlanWarning, keeps_nothing, undecidable
from worker import runs
from worker.checkpoints import reach
from worker.clocks import ClockError, check
from worker.config import RegistrySettings, Settings
from worker.evidence.reading import EvidenceError
from worker.expiry import expire
from worker.inventory import (
    Alive,
    Inventory,
    Progress,
    ScanStoppedError,
    take_inventory,
)
from worker.leases import Heartbeat, identity
from worker.lister import Lister
from worker.manifests import StoredManifests
from worker.memory import Comparison, Memoir, compare
from worker.registries import open_registry
from worker.registries.interface import Registry, RegistryError, SignInError
from worker.registries.limiter import Limiter
from worker.runs import Bell
from worker.spending import gone_remedy, note_sign_in, spending
from worker.standing import note_held_ids, standing_of
from worker.store import Store, StoreError, memory, plans, retention
from worker.store import runs as run_rows
from worker.store.freed_bytes import storable
from worker.store.memory import Recalled
from worker.store.plans import PlanRows, PlanWriter, Segment
from worker.store.runs import Run
from worker.store.terms import encoded
from worker.subjects import plan_with_subjects
from worker.surroundings import tags_not_read
from worker.terms import registry_of, terms_of, why_not_there
from worker.unclear import Unclear

NEVER_SCANNED = Recalled()


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, whole but for its decisions, which are made again from the inventory whenever they are read."""

    inventory: Inventory
    registry: RegistrySettings
    now: datetime
    across: Across
    closing: Closing
    exceeded: tuple[Exceeded, ...]
    standing: Standing
    compared: Comparison
    warnings: tuple[PlanWarning, ...] = ()
    undecidable: int = 0  # images kept because nobody reported an order between them and others
    unreadable_images: tuple[UnreadableImage, ...] = ()
    unread: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # path -> digests whose subject is not reported

    @property
    def complete(self) -> bool:
        return not self.inventory.unreadable

    @property
    def doubt(self) -> str:
        """Why push times are not believed; empty: they are, or a person has said which ones are."""
        return "" if self.registry.trust_times_after is not None else self.standing.times.doubt

    def repository_plans(self) -> Iterator[RepositoryPlan]:
        """The same every time: what the policies are given does not change."""
        for repository in self.inventory.repositories():
            yield _decide(repository, self.registry, self.now, self.across, self.standing)


def plan(
    inventory: Inventory,
    registry: RegistrySettings,
    now: datetime,
    standing: Standing = NOTHING,
    before: Recalled = NEVER_SCANNED,
) -> Planned:
    """Have the policies decide on every image of an inventory. Pure but for the memory it takes.

    `before`: what earlier scans have seen.
    """
    standing = replace(
        standing,
        memory=before.lasting,
        settle=registry.settle,
        times=_times(registry, before),
        ignore_unreadable=frozenset(registry.ignore_unreadable),
    )
    everywhere, compared, standing = _survey(inventory, registry, now, standing, before)
    unread: dict[str, tuple[str, ...]] = {}
    unclear = Unclear(standing.ignore_unreadable)
    tags: dict[str, int] = {}  # of repositories in which something goes

    def decided() -> Iterator[Columns]:
        for repository in inventory.repositories():
            unclear.note(repository.path, repository.images)
            one = _decide(repository, registry, now, everywhere, standing)
            if one.unread:
                unread[one.path] = one.unread
            if any(made.verdict == "delete" for made in one.decisions):
                tags[one.path] = sum(len(image.tags) for image in repository.images)
            yield one.columns

    closing = close(decided())
    over = exceeded(closing.totals, registry.limits) + compared.exceeded
    whole = closing.totals.images and not inventory.unreadable
    return Planned(
        inventory,
        registry,
        now,
        everywhere,
        closing,
        over,
        standing,
        compared,
        warnings=(
            *undecidable(closing.undecidable),
            *unclear.warnings(),
            *tags_not_read(tags, registry),
            *keeps_nothing(registry.policy.keep_rules if whole else (), closing.keeping),
        ),
        undecidable=closing.undecidable,
        unreadable_images=tuple(unclear.unreadable),
        unread=unread,
    )


def _survey(
    inventory: Inventory, registry: RegistrySettings, now: datetime, standing: Standing, before: Recalled
) -> tuple[Across, Comparison, Standing]:
    """What must be known of all repositories before one is decided; the surveys themselves are not held any longer."""
    surveys, standing = survey_all(inventory.repositories, registry.policy, now, standing)
    return (
        across(surveys, registry.policy, standing),
        compare(before, surveys, inventory.unreadable, registry.asks_for),
        standing,
    )


def _times(registry: RegistrySettings, before: Recalled) -> Times:
    """Which push times are believed before this inventory is looked at. A doubt stays until a person answers it.

    What this store saw first, and when, is its own word: a whole registry seen first in one scan is no doubt.
    """
    if registry.trust_times_after is not None:
        return trusted_after(registry.trust_times_after, first_seen=not registry.tells_push_time)
    if not registry.tells_push_time:
        return OUR_OWN
    return doubted(before.head.doubt) if before.head is not None and before.head.doubt else BELIEVED


def _decide(
    repository: Repository, registry: RegistrySettings, now: datetime, everywhere: Across, standing: Standing
) -> RepositoryPlan:
    n = registry.keep_per_repository
    return decide(repository, registry.policy, now, everywhere, keep_per_repository=n, standing=standing)


def recall(store: Store | None, registry: RegistrySettings) -> Recalled:
    """What earlier scans have seen. Raises StoreError."""
    if store is None:
        return NEVER_SCANNED
    with store.read() as connection:
        return memory.recall(connection, registry.memory_key, registry.name)


def plan_live(
    settings: Settings,
    name: str,
    *,
    now: datetime | None = None,
    limiter: Limiter | None = None,
    progress: Progress = lambda _done, _all: None,
    store: Store | None = None,
) -> Planned:
    """List and decide, record nothing. `store`: read for what is known of manifests, never written.

    Raises UnknownRegistryError, ClockError, RegistryError, EvidenceError, StoreError.
    """
    registry = settings.registries.get(name)
    if registry is None:
        raise runs.UnknownRegistryError(f"no registry is named {name!r}")
    lister = Lister(store, registry, recall(store, registry), datetime.now(UTC))
    inventory = _list(store, registry, lister, limiter, progress)
    at = now or inventory.listed_at
    standing, warnings = standing_of(store, settings, registry, inventory, remember=False)

    def opened_again() -> AbstractContextManager[Registry]:
        return open_registry(registry, limiter, manifests=StoredManifests(store, registry.key, remember=False))

    planned = plan_with_subjects(lambda: plan(inventory, registry, at, standing, lister.recalled), opened_again)
    planned = replace(planned, warnings=(*planned.warnings, *warnings))
    return planned if store is None else _beside_earlier_plans(store, planned)


def list_live(
    registry: RegistrySettings,
    *,
    limiter: Limiter | None = None,
    progress: Progress = lambda _done, _all: None,
    store: Store | None = None,
) -> Inventory:
    """A registry's inventory, recording nothing. Raises ClockError, RegistryError, StoreError."""
    return _list(
        store, registry, Lister(store, registry, recall(store, registry), datetime.now(UTC)), limiter, progress
    )


def _list(
    store: Store | None, registry: RegistrySettings, lister: Lister, limiter: Limiter | None, progress: Progress
) -> Inventory:
    manifests = StoredManifests(store, registry.key, remember=False)
    with open_registry(registry, limiter, manifests=manifests) as opened:
        check(_clock, store, opened)
        n = registry.rate.concurrency
        return take_inventory(opened, now=lister.now, concurrency=n, read=lister.read, progress=progress)


def carry_out_scan(
    store: Store, settings: Settings, run_id: str, *, limiter: Limiter | None = None
) -> tuple[Bell, ...]:
    """Plan a run: claim it, list, decide, store the whole plan in one transaction. Safe to run twice, late, or never.

    Raises StoreError. What is wrong with the registry ends the run as failed, with one line.
    """
    run = _claim(store, settings, run_id)
    if run is None:
        return ()  # somebody else carries it out, or it waited so long that it is missed
    reach("scan_claimed")
    registry = registry_of(settings, run)
    if registry is None:
        runs.fail(store, run_id, why_not_there(settings, run), datetime.now(UTC), fence=run.fence)
        return ()
    lease = settings.timing.lease

    def renew() -> bool:
        with store.write() as connection:
            return run_rows.renew_scan(connection, run_id, run.fence, store.now(connection) + lease)

    try:
        with Heartbeat(lease, renew, forgiven=(StoreError,)) as heartbeat:
            planned = _plan_run(store, settings, registry, run, limiter, _watching(heartbeat))
            reach("inventory_taken")
            if not _store_plan(store, run, planned, settings):
                return ()
    except ScanStoppedError:
        _end_stopped(store, run)
        return ()
    except (RegistryError, ClockError, EvidenceError) as error:
        runs.fail(store, run_id, f"{error}{gone_remedy(registry, error)}", datetime.now(UTC), fence=run.fence)
        return ()
    reach("plan_stored")
    bells = runs.advance(store, run_id, datetime.now(UTC))
    reach("run_advanced")
    return bells


def _claim(store: Store, settings: Settings, run_id: str) -> Run | None:
    with store.read() as connection:
        run, now = run_rows.get(connection, run_id), store.now(connection)
    if run is None or expire(store, settings, run, now):
        return None
    with store.write() as connection:
        now = store.now(connection)
        until = now + settings.timing.lease
        return run_rows.claim_scan(connection, run_id, owner=identity(), now=now, until=until, most=runs.SCANS)


def _watching(heartbeat: Heartbeat) -> Alive:
    def alive() -> None:
        if heartbeat.lost.is_set():
            raise ScanStoppedError

    return alive


def _end_stopped(store: Store, run: Run) -> None:
    """An aborted scan ends its run; one whose lease was lost leaves it to who holds the lease now."""
    now = datetime.now(UTC)
    with store.read() as connection:
        current = run_rows.get(connection, run.id)
    if current is not None and current.stop is not None:
        runs.fail(store, run.id, current.message or "stopped", now, fence=run.fence)


def _plan_run(
    store: Store, settings: Settings, registry: RegistrySettings, run: Run, limiter: Limiter | None, alive: Alive
) -> Planned:
    manifests = StoredManifests(store, registry.key)
    started = run.started_at or run.opened_at
    lister = Lister(store, registry, recall(store, registry), started)
    with open_registry(registry, limiter, manifests=manifests) as opened, spending(store, registry.name, opened):
        try:
            check(_clock, store, opened)
            inventory = take_inventory(
                opened, now=started, concurrency=registry.rate.concurrency, read=lister.read, alive=alive
            )
            check(_clock, store, opened)  # a scan may take hours: evidence is judged by the clock of its end
        except SignInError:
            note_sign_in(store, registry.name, works=False)
            raise
    note_sign_in(store, registry.name, works=True)
    at = inventory.listed_at
    standing, warnings = standing_of(store, settings, registry, inventory)
    note_held_ids(store, registry, standing, inventory)

    @contextmanager
    def opened_again() -> Iterator[Registry]:
        with open_registry(registry, limiter, manifests=manifests) as again, spending(store, registry.name, again):
            yield again

    planned = plan_with_subjects(lambda: plan(inventory, registry, at, standing, lister.recalled), opened_again, alive)
    planned = replace(planned, warnings=(*planned.warnings, *warnings))
    return _beside_earlier_plans(store, planned)


def _clock() -> datetime:
    return datetime.now(UTC)


def _beside_earlier_plans(store: Store, planned: Planned) -> Planned:
    """The same, blocked as well if it is unlike the registry's plans before it."""
    with store.read() as connection:
        sizes = run_rows.plan_sizes(connection, planned.registry.name, UNUSUAL_AMONG)
    return replace(planned, exceeded=planned.exceeded + unusual(planned.closing.totals, sizes))


def _store_plan(store: Store, run: Run, planned: Planned, settings: Settings) -> bool:
    """The whole plan, or none: rows in portions, then the one update that makes them a plan. False: the lease was lost.

    Portions, because a million decisions in one transaction would keep every other writer waiting. Nothing looks at the
    rows of a run that is still planning, and a scan that begins again clears them first.
    """
    writer = PlanWriter(run.id, planned.closing)
    memoir = Memoir(planned.compared, planned.now)
    remembered: list[tuple[str, bytes]] = []

    def rows() -> Iterator[tuple[Segment, PlanRows]]:
        for segment, one in zip(planned.inventory.segments, planned.repository_plans(), strict=True):
            remembered.extend(memoir.of(one.path, one.ties.images))
            yield segment, writer.rows(segment, one)

    with store.write() as connection:
        if not run_rows.holds_scan(connection, run.id, run.fence):
            return False
        plans.clear(connection, run.id)
    for portion in plans.portions(rows()):
        with store.write() as connection:
            if not run_rows.holds_scan(connection, run.id, run.fence):
                return False
            for segment, some in portion:
                plans.write_rows(connection, segment, some)
            memory.stage(connection, run.id, remembered)
            remembered.clear()
    with store.write() as connection:
        now = store.now(connection)
        if not run_rows.holds_scan(connection, run.id, run.fence):
            return False
        memory.stage(connection, run.id, memoir.rest(planned.doubt))
        memory.move(connection, run.id, planned.registry.memory_key)
        facts = _facts(planned, writer) | {"terms": encoded(terms_of(settings, planned.registry))}
        run_rows.change(connection, run.id, ["planning"], state="planned", planned_at=now, **facts)
        if run.mode == "delete":  # a dry run says nothing against a plan that waits for its approval
            run_rows.supersede(connection, run.registry, run.registry_key, run.id, now)
        retention.forget(connection, run.registry, plans=settings.retention.plans)
    return True


def _facts(planned: Planned, writer: PlanWriter) -> dict[str, Any]:
    """What a run's row says of its plan."""
    totals = planned.closing.totals
    return {
        "plan_sha256": writer.plan_sha256,
        "policy_sha256": planned.registry.policy.sha256,
        "complete": planned.complete,
        "exceeded": msgspec.json.encode(planned.exceeded).decode(),
        "unreadable": msgspec.json.encode(planned.inventory.unreadable).decode(),
        "warnings": msgspec.json.encode(planned.warnings).decode(),
        "undecidable": planned.undecidable,
        "unreadable_images": msgspec.json.encode(planned.unreadable_images).decode(),
        "rule_selected": msgspec.json.encode(dict(planned.closing.rule_selected)).decode(),
        "images": totals.images,
        "planned": totals.delete,
        "selected_bytes": storable(totals.selected_bytes),
        "reclaimable_bytes": storable(totals.reclaimable_bytes),
        "registry_bytes": storable(totals.registry_bytes),
        "foreign_deletions": planned.compared.vanished.new,
        "doubt": planned.doubt or None,
    }
