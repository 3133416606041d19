"""Reads a registry whole and has the policies decide: registry -> Inventory -> plan -> store. Deletes nothing.

An inventory is kept compressed, a repository at a time: each pass over it (survey, decide, write) holds only one.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from policies.image import Image, Repository, Unreadable
from policies.limits import Exceeded, exceeded
from policies.plan import Across, Closing, RepositoryPlan, across, close, decide, survey
from worker import runs
from worker.checkpoints import reach
from worker.config import RegistrySettings, Retention, Settings
from worker.leases import Heartbeat
from worker.registries import open_registry
from worker.registries.interface import Manifest, Registry, RegistryError, SignInError
from worker.registries.limiter import Limiter
from worker.runs import Bell
from worker.store import Store, StoreError, plans, retention
from worker.store import runs as run_rows
from worker.store.plans import PlanWriter, Segment
from worker.store.runs import Run
from worker.store.sweeping import add_to_tally

SKEW = timedelta(minutes=5)  # more than this between our clock and the registry's: no age can be believed

Progress = Callable[[int, int], None]  # repositories listed, of how many
Alive = Callable[[], None]  # raises ScanStoppedError where the work is no longer wanted


class ScanStoppedError(Exception):
    """The scan's lease was lost or its run aborted: whatever was read is thrown away."""


class ClockError(Exception):
    """Our clock and the registry's disagree."""


class Manifests:
    """What is known of manifests, from the store or from nowhere; what was read is remembered there."""

    def __init__(self, store: Store | None, registry_key: str, *, remember: bool = True) -> None:
        self._store = store
        self._key = registry_key
        self._remember = remember

    def known(self, digests: Iterable[str]) -> dict[str, Manifest]:
        if self._store is None:
            return {}
        with self._store.read() as connection:
            return plans.known_manifests(connection, self._key, digests)

    def remember(self, manifests: Mapping[str, Manifest]) -> None:
        if self._store is not None and self._remember and manifests:
            with self._store.write() as connection:
                plans.remember_manifests(connection, self._key, manifests)


def resolve(registry: Registry, repository: str, images: tuple[Image, ...], manifests: Manifests) -> tuple[Image, ...]:
    """The same images with what their manifests say of others; one that cannot be read has `children` None."""
    wanted = [image.digest for image in images if registry.needs_manifest(image)]
    if not wanted:
        return images
    known = manifests.known(wanted)
    answers = dict(registry.manifests(repository, [digest for digest in wanted if digest not in known]))
    read = {digest: answer for digest, answer in answers.items() if isinstance(answer, Manifest)}
    manifests.remember(read)
    known |= read
    asked = set(wanted)
    return tuple(_resolved(image, known.get(image.digest)) if image.digest in asked else image for image in images)


def _resolved(image: Image, manifest: Manifest | None) -> Image:
    if manifest is None:
        return msgspec.structs.replace(image, children=None)
    children = msgspec.UNSET if manifest.children is None else manifest.children
    subject = msgspec.UNSET if manifest.subject is None else manifest.subject
    return msgspec.structs.replace(image, children=children, subject=subject, media_type=manifest.media_type)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was listed, at one instant: a compressed segment a repository, in order of their paths."""

    listed_at: datetime
    segments: tuple[Segment, ...]
    unreadable: tuple[Unreadable, ...]

    def repositories(self) -> Iterator[Repository]:
        for segment in self.segments:
            yield Repository(path=segment.path, images=plans.decode_images(segment.images))


def take_inventory(
    registry: Registry,
    manifests: Manifests,
    *,
    now: datetime,
    concurrency: int,
    progress: Progress = lambda _done, _all: None,
    alive: Alive = lambda: None,
) -> Inventory:
    """List a registry whole, repositories side by side. One that cannot be listed is named in `unreadable`.

    Raises ClockError, ScanStoppedError, and any RegistryError that leaves nothing readable.
    """
    _check_clock(registry.clock(), now)
    paths = list(registry.repositories())
    progress(0, len(paths))
    listing = threading.Event()  # set: no further repository is begun
    with ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="list") as pool:
        listed = {pool.submit(_list_one, registry, path, manifests, listing): path for path in paths}
        try:
            segments, refused = _collect(listed, progress, alive)
        except BaseException:
            listing.set()
            raise
    if refused and not segments:
        raise next(iter(refused.values()))
    return Inventory(
        listed_at=now,
        segments=tuple(sorted(segments, key=lambda segment: segment.path)),
        unreadable=tuple(Unreadable(repository=path, reason=str(refused[path])) for path in sorted(refused)),
    )


def _check_clock(theirs: datetime, ours: datetime) -> None:
    if abs(theirs - ours) > SKEW:
        raise ClockError(
            f"this machine's clock ({ours:%Y-%m-%dT%H:%M:%SZ}) is more than 5 minutes from the registry's "
            f"({theirs:%Y-%m-%dT%H:%M:%SZ}); ages cannot be believed, set the clock"
        )


def _list_one(registry: Registry, path: str, manifests: Manifests, stopped: threading.Event) -> Segment:
    if stopped.is_set():
        raise ScanStoppedError
    return Segment.of(path, resolve(registry, path, registry.images(path), manifests))


def _collect(
    listed: "dict[Future[Segment], str]", progress: Progress, alive: Alive
) -> tuple[list[Segment], dict[str, RegistryError]]:
    segments: list[Segment] = []
    refused: dict[str, RegistryError] = {}
    for number, future in enumerate(as_completed(listed), start=1):
        alive()
        try:
            segments.append(future.result())
        except SignInError:
            raise  # no other repository would fare better, and none of them is at fault
        except RegistryError as error:
            refused[listed[future]] = error
        progress(number, len(listed))
    return segments, refused


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, whole but for its decisions, which are made again from the inventory whenever they are read."""

    inventory: Inventory
    registry: RegistrySettings
    now: datetime
    across: Across
    closing: Closing
    exceeded: tuple[Exceeded, ...]

    @property
    def complete(self) -> bool:
        return not self.inventory.unreadable

    def repository_plans(self) -> Iterator[RepositoryPlan]:
        """The same every time: what the policies are given does not change."""
        for repository in self.inventory.repositories():
            yield _decide(repository, self.registry, self.now, self.across)


def plan(inventory: Inventory, registry: RegistrySettings, now: datetime) -> Planned:
    """Have the policies decide on every image of an inventory. Pure but for the memory it takes."""
    surveys = (survey(repository, registry.policy, now) for repository in inventory.repositories())
    everywhere = across(surveys, registry.policy)
    plans_ = (_decide(repository, registry, now, everywhere) for repository in inventory.repositories())
    closing = close(one.columns for one in plans_)
    return Planned(inventory, registry, now, everywhere, closing, exceeded(closing.totals, registry.limits))


def _decide(repository: Repository, registry: RegistrySettings, now: datetime, everywhere: Across) -> RepositoryPlan:
    return decide(repository, registry.policy, now, everywhere, keep_per_repository=registry.keep_per_repository)


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

    Raises UnknownRegistryError, ClockError, RegistryError, StoreError.
    """
    registry = settings.registries.get(name)
    if registry is None:
        raise runs.UnknownRegistryError(f"no registry is named {name!r}")
    inventory = list_live(registry, limiter=limiter, progress=progress, store=store)
    return plan(inventory, registry, now or inventory.listed_at)


def list_live(
    registry: RegistrySettings,
    *,
    limiter: Limiter | None = None,
    progress: Progress = lambda _done, _all: None,
    store: Store | None = None,
) -> Inventory:
    """A registry's inventory, recording nothing. Raises ClockError, RegistryError, StoreError."""
    manifests = Manifests(store, registry.key, remember=False)
    with open_registry(registry, limiter) as opened:
        now = datetime.now(UTC)
        return take_inventory(opened, manifests, now=now, concurrency=registry.rate.concurrency, progress=progress)


def identity() -> str:
    """Who holds a lease, for people who read the store."""
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"


def carry_out_scan(
    store: Store, settings: Settings, run_id: str, *, limiter: Limiter | None = None
) -> tuple[Bell, ...]:
    """Plan a run: claim it, list, decide, store the whole plan in one transaction. Safe to run twice, late, or never.

    Raises StoreError. What is wrong with the registry ends the run as failed, with one line.
    """
    run = _claim(store, settings, run_id)
    if run is None:
        return ()
    reach("scan_claimed")
    registry = settings.registries[run.registry]
    lease = settings.timing.lease

    def renew() -> bool:
        with store.write() as connection:
            return run_rows.renew_scan(connection, run_id, run.fence, store.now(connection) + lease)

    try:
        with Heartbeat(lease, renew, forgiven=(StoreError,)) as heartbeat:
            planned = _plan_run(store, registry, run, limiter, _watching(heartbeat))
            reach("inventory_taken")
            if not _store_plan(store, run, planned, settings.retention):
                return ()
    except ScanStoppedError:
        _end_stopped(store, run)
        return ()
    except (RegistryError, ClockError) as error:
        runs.fail(store, run_id, str(error), datetime.now(UTC), fence=run.fence)
        return ()
    reach("plan_stored")
    bells = runs.advance(store, run_id, datetime.now(UTC))
    reach("run_advanced")
    return bells


def _claim(store: Store, settings: Settings, run_id: str) -> Run | None:
    with store.write() as connection:
        run = run_rows.get(connection, run_id)
        if run is None or run.registry not in settings.registries:
            return None  # reconcile ends a run whose registry left the file
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


def _plan_run(store: Store, registry: RegistrySettings, run: Run, limiter: Limiter | None, alive: Alive) -> Planned:
    manifests = Manifests(store, registry.key)
    with open_registry(registry, limiter) as opened:
        try:
            started = run.started_at or run.opened_at
            inventory = take_inventory(
                opened, manifests, now=started, concurrency=registry.rate.concurrency, alive=alive
            )
        except SignInError:
            note_usage(store, registry.name, opened, signed_in=False)
            raise
        note_usage(store, registry.name, opened, signed_in=True)
    return plan(inventory, registry, inventory.listed_at)


def note_usage(store: Store, name: str, registry: Registry, *, signed_in: bool | None) -> None:
    """Add what talking to a registry has cost to its tallies; `signed_in` None: nothing new is known of that."""
    usage = registry.usage()
    with store.write() as connection:
        for (method, code), count in sorted(usage.requests.items()):
            add_to_tally(connection, name, "api_requests", f"{method} {code}", count)
        if usage.rate_wait_seconds:
            add_to_tally(connection, name, "rate_wait_seconds", "", usage.rate_wait_seconds)
        if signed_in is not None:
            run_rows.note_sign_in(connection, name, works=signed_in)


def _store_plan(store: Store, run: Run, planned: Planned, kept: Retention) -> bool:
    """The whole plan in one transaction, or nothing of it. False: the lease was lost, and nothing was written."""
    totals = planned.closing.totals
    with store.write() as connection:
        now = store.now(connection)
        if not run_rows.renew_scan(connection, run.id, run.fence, now):
            return False
        writer = PlanWriter(connection, run.id, planned.closing)
        for segment, one in zip(planned.inventory.segments, planned.repository_plans(), strict=True):
            writer.add(segment, one)
        run_rows.change(
            connection,
            run.id,
            ["planning"],
            state="planned",
            planned_at=now,
            plan_sha256=writer.plan_sha256,
            policy_sha256=planned.registry.policy.sha256,
            complete=planned.complete,
            exceeded=msgspec.json.encode(planned.exceeded).decode(),
            unreadable=msgspec.json.encode(planned.inventory.unreadable).decode(),
            rule_selected=msgspec.json.encode(dict(planned.closing.rule_selected)).decode(),
            images=totals.images,
            planned=totals.delete,
            selected_bytes=totals.selected_bytes,
            reclaimable_bytes=totals.reclaimable_bytes,
            registry_bytes=totals.registry_bytes,
        )
        run_rows.supersede(connection, run.registry_key, run.id, now)
        retention.forget(connection, run.registry, plans=kept.plans, audit_before=now - kept.audit)
    return True
