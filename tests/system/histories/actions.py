"""Everything that can happen in a history, by name: each takes three small numbers and makes of them what it can."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection

from policies.holds import Hold
from policies.limits import Limits
from tests.support.memory_faults import FATES, OWN, POSSIBLE, Fate, Fault, Lost
from tests.support.memory_registry import Content
from tests.system.histories.contents import attached, index, plain, signature
from tests.system.histories.process import Process
from tests.system.histories.world import World
from worker.runs import hold_requests, lifecycle
from worker.runs.lifecycle import TaskCall
from worker.store import holds

T = TypeVar("T")
Action = Callable[[World, int, int, int], None]

PATHS = ("shop/api", "shop/web", "ml")
TAGS: tuple[tuple[str, ...], ...] = (
    (),
    ("pr-1",),
    (),
    ("pr-2",),
    ("v1",),
    ("latest",),
    ("pr-1", "pr-3"),
    ("pr-1", "v2"),
)
AGES = tuple(timedelta(days=days) for days in (40, 20, 10, 0))
SPANS = tuple(timedelta(seconds=seconds) for seconds in (1, 30, 121, 300, 601, 3600, 7 * 3600, 25 * 3600))
STEPS = tuple(timedelta(seconds=seconds) for seconds in (-1, 2, -60, 240, -240, 600))
FAULTS = tuple((call, error) for call, errors in POSSIBLE.items() for error in errors)
LOST: tuple[Lost, ...] = ("clean", "lost", "lost and done")


def pick(some: Sequence[T], number: int) -> T:
    return some[number % len(some)]


def _path(world: World, a: int) -> str | None:
    """A repository that is there."""
    return pick(sorted(world.registry.repositories), a) if world.registry.repositories else None


def _digest(world: World, path: str | None, b: int) -> str | None:
    """An image that is there, in the order in which they came."""
    images = world.registry.repositories.get(path or "")
    return pick(list(images), b) if images else None


def _age(a: int, b: int, c: int) -> timedelta:
    """Of many kinds: images that all share one push time are a matter of their own."""
    return pick(AGES, b + c) + timedelta(minutes=7 * a + 11 * b + 13 * c)


def push(world: World, a: int, b: int, c: int) -> None:
    world.registry.push(pick(PATHS, a), plain(b % 6), pick(TAGS, c), _age(a, b, c))


def push_index(world: World, a: int, b: int, c: int) -> None:
    """An index of one to three images that are there, indexes among them; sometimes of one that is not."""
    path = _path(world, a)
    if path is None or not world.registry.repositories[path]:
        return
    there = list(world.registry.repositories[path])
    children = tuple(dict.fromkeys(pick(there, b + at) for at in range(1 + c % 3)))
    if b % 5 == 4:
        children += (plain(9).digest,)
    world.registry.push(path, index(children), pick(TAGS, c), _age(a, b, 0))


def push_referrer(world: World, a: int, b: int, c: int) -> None:
    """A signature by cosign's tag, or by a subject; of an image here or elsewhere."""
    path = _path(world, a)
    of = _digest(world, path if c % 4 else _path(world, a + 1), b)  # sometimes of an image elsewhere
    if path is None or of is None:
        return
    content: Content = signature(of) if c % 2 else attached(of)
    tags = (f"sha256-{of.removeprefix('sha256:')}.sig",) if c % 2 else pick(TAGS, c // 2)
    world.registry.push(path, content, tags, _age(a, b, 0))


def need(world: World, a: int, b: int, c: int) -> None:
    """Something comes that needs an image which a run is to delete: an index of it, a signature, its subject again."""
    found = world.ledger.rows(
        "select repository, digest from item where state in ('planned', 'intent') order by repository, number"
    )
    if not found:
        return
    path, of = pick(found, a)
    held = world.registry.repositories.get(path, {}).get(of)
    if c % 4 == 0:
        world.registry.push(path, signature(of), (f"sha256-{of.removeprefix('sha256:')}.sig",), pick(AGES, b))
    elif c % 4 == 1:
        world.registry.push(path, attached(of), pick(TAGS, b), pick(AGES, b))
    elif c % 4 == 2 or held is None or held.content.subject is None:
        world.registry.push(path, index((of,)), pick(TAGS, b), pick(AGES, b))
    elif (subject := world.registry.known.get(held.content.subject)) is not None:
        world.registry.push(path, subject, pick(TAGS, b), pick(AGES, b))


def push_again(world: World, a: int, b: int, c: int) -> None:
    """The same content, pushed once more: under another tag, maybe at another time."""
    path = _path(world, a)
    of = _digest(world, path, b)
    if path is not None and of is not None:
        content = world.registry.repositories[path][of].content
        world.registry.push(path, content, pick(TAGS, c), _age(a, 0, c), new_time=bool(c % 2))


def push_back(world: World, a: int, b: int, c: int) -> None:
    """What was deleted comes back: a new instance."""
    effects = world.registry.effects
    if effects:
        back = pick(effects, a)
        world.registry.push(back.repository, back.instance.content, tuple(back.instance.tags), _age(a, b, c))


def retag(world: World, a: int, b: int, c: int) -> None:
    path = _path(world, a)
    of = _digest(world, path, b)
    if path is not None and of is not None:
        world.registry.tag(path, of, pick(("v1", "pr-1", "latest", "pr-2"), c))


def untag(world: World, a: int, b: int, c: int) -> None:
    path = _path(world, a)
    of = _digest(world, path, b)
    if path is not None and of is not None and (tags := sorted(world.registry.repositories[path][of].tags)):
        world.registry.untag(path, pick(tags, c))


def remove(world: World, a: int, b: int, c: int) -> None:
    path = _path(world, a)
    of = _digest(world, path, b)
    if path is not None and of is not None:
        world.registry.remove(path, of)


def remove_repository(world: World, a: int, b: int, c: int) -> None:
    if c % 3 == 0 and (path := _path(world, a)) is not None:
        world.registry.remove_repository(path)


def pass_time(world: World, a: int, b: int, c: int) -> None:
    world.pass_time(pick(SPANS, a))
    world.registry.settle()


def grow_stale(world: World, a: int, b: int, c: int) -> None:
    """So much time passes that what was listed last is good for half a minute more, or for nothing any more."""
    found = world.ledger.rows("select max(rechecked_at) as at from repository")
    if found[0]["at"] is not None:
        left = datetime.fromtimestamp(found[0]["at"] / 1e6, UTC) + lifecycle.RECHECK_VALID_FOR - world.now()
        world.pass_time(max(timedelta(), left + timedelta(seconds=pick((-30, 1), a))))


def grow_late(world: World, a: int, b: int, c: int) -> None:
    """So much time passes that the plan of a deleting run is good for half a minute more, or for nothing any more."""
    found = world.ledger.rows("select min(started_at) as at from run where state = 'deleting'")
    if found[0]["at"] is not None:
        left = datetime.fromtimestamp(found[0]["at"] / 1e6, UTC) + world.plan_max_age - world.now()
        world.pass_time(max(timedelta(), left + timedelta(seconds=pick((-30, 1), a))))


def step_our_clock(world: World, a: int, b: int, c: int) -> None:
    world.step_clock(pick(STEPS, a))


def step_their_clock(world: World, a: int, b: int, c: int) -> None:
    world.registry.changes += 1
    world.theirs += pick(STEPS, a)


def fault(world: World, a: int, b: int, c: int) -> None:
    call, error = pick(FAULTS, 12 * a + b)
    lost = pick(LOST, c) if call == "delete" else "clean"
    if error == "bad_answer" and lost == "clean":
        lost = "lost"  # whatever was answered, something was received
    if error in ("too_late", "limiter"):
        lost = "clean"
    path = None if c < 6 else pick(PATHS, c)
    world.registry.faults.append(Fault(call, error, skip=c % 3, times=pick((1, 2, 12), c // 2), path=path, lost=lost))


def sickness(world: World, a: int, b: int, c: int) -> None:
    """The same failure again and again."""
    fault(world, a, b, c)
    world.registry.faults[-1].times = 40


def lose_answers(world: World, a: int, b: int, c: int) -> None:
    """Of the next deletions nobody hears whether they were carried out; some were."""
    world.registry.faults.append(Fault("delete", "unavailable", skip=b % 2, times=1 + c % 3, lost=pick(LOST[1:], a)))


def fate(world: World, a: int, b: int, c: int) -> None:
    world.registry.fates += [Fate(pick(FATES, a), after=b % 4, error=pick(OWN, c))] * (1 + c % 2)


def store_trouble(world: World, a: int, b: int, c: int) -> None:
    world.store_troubles[pick(("write", "commit", "written", "read"), a)] = [b, 1 + 3 * (c % 2)]


def break_file(world: World, a: int, b: int, c: int) -> None:
    if a % 2:
        world.valid = not world.valid
    else:
        world.configured = not world.configured


def heal(world: World, a: int, b: int, c: int) -> None:
    world.heal()


def set_mode(world: World, a: int, b: int, c: int) -> None:
    world.mode = "dry-run" if world.mode == "delete" else "delete"


def set_limits(world: World, a: int, b: int, c: int) -> None:
    world.limits = pick((Limits(max_share=1.0), Limits(max_images=0), Limits(max_share=1.0, max_bytes=300)), a)


def set_times(world: World, a: int, b: int, c: int) -> None:
    world.plan_max_age = pick((timedelta(hours=24), timedelta(minutes=5)), a)
    world.deadline = pick((None, timedelta(minutes=3)), b)


def set_schedule(world: World, a: int, b: int, c: int) -> None:
    world.schedule = pick((None, "0 3 * * *", "*/5 * * * *"), a)


def _target(world: World, a: int) -> tuple[str, str] | None:
    """Path and digest of what a run is to delete, or else of anything that is there."""
    found = world.ledger.rows("select repository, digest from item where state in ('planned', 'intent')")
    targets = sorted((row["repository"], row["digest"]) for row in found)
    return pick(targets or sorted((path, held.digest) for path, held in world.registry.instances()) or [None], a)


def hold(world: World, a: int, b: int, c: int) -> None:
    """Of a digest, a tag, an image or repositories; for ever or for an hour."""
    settings = world.settings()
    target = _target(world, a)
    if target is None or settings is None or not settings.registries:
        return
    path, digest = target
    held = world.registry.repositories.get(path, {}).get(digest)
    until = world.now() + timedelta(hours=1) if b % 3 == 0 else None
    tags = sorted(held.tags) if held else []
    words: dict[str, Any] = {"kind": "digest", "repository": path, "value": digest}
    if c % 4 == 1:
        words = {"kind": "tag", "repository": path, "value": pick(tags or ["pr-1"], b)}
    elif c % 4 == 2 and held is not None:
        words = {"kind": "image", "value": held.id}
    elif c % 4 == 3:
        glob = pick(("shop/*", "ml", "**", path), b)
        words = {"kind": "repository", "repository": glob, "value": glob}

    def body(process: Process) -> tuple[TaskCall, ...]:
        hold_requests.place(process.store(), settings.registries["production"], Hold(**words, until=until), world.now())
        return ()

    world.standing_changed_at = world.true_time
    world.work(body)
    world.standing_changed_at = world.true_time


def release(world: World, a: int, b: int, c: int) -> None:
    found = world.ledger.rows("select id from hold where released_at is null order by id")
    if found:
        _standing(world, lambda one: holds.release(one, pick(found, a)["id"], "anna", world.now()))


def pause(world: World, a: int, b: int, c: int) -> None:
    name = pick(("production", "*"), a)
    _standing(world, lambda one: holds.pause_registry(one, name, "anna", "", world.now()))


def resume(world: World, a: int, b: int, c: int) -> None:
    for name in ("production", "*"):
        _standing(world, lambda one, name=name: holds.resume_registry(one, name))


def _standing(world: World, change: Callable[[Connection], object]) -> None:
    def body(process: Process) -> tuple[TaskCall, ...]:
        with process.store().write() as connection:
            change(connection)
        return ()

    world.standing_changed_at = world.true_time
    world.work(body)
    world.standing_changed_at = world.true_time


def use(world: World, a: int, b: int, c: int) -> None:
    """Something is used: by its digest, its config's or its tag."""
    target = _target(world, a)
    if world.in_use is None or target is None:
        return
    path, digest = target
    held = world.registry.repositories.get(path, {}).get(digest)
    name = digest
    if c % 3 == 1 and held is not None and held.content.config is not None:
        name = held.content.config.digest
    elif c % 3 == 2 and held is not None and held.tags:
        name = f"{path}:{pick(sorted(held.tags), b)}"
    world.in_use.since.setdefault(name, world.true_time)
    world.say_in_use()


def use_early(world: World, a: int, b: int, c: int) -> None:
    """In use long enough for everybody to know."""
    use(world, a, b, c)
    world.pass_time(timedelta(seconds=661))


def use_no_more(world: World, a: int, b: int, c: int) -> None:
    if world.in_use is not None and world.in_use.since:
        del world.in_use.since[pick(sorted(world.in_use.since), a)]
        world.say_in_use()


def break_evidence(world: World, a: int, b: int, c: int) -> None:
    """The file is cut short, until it is written anew."""
    if world.in_use is not None:
        world.in_use.believed = not world.in_use.believed
        world.in_use.broken_since = None if world.in_use.believed else world.true_time
        world.say_in_use()


def renew_evidence(world: World, a: int, b: int, c: int) -> None:
    world.say_in_use()


def set_settle(world: World, a: int, b: int, c: int) -> None:
    world.settle_for = pick((timedelta(), timedelta(minutes=10), timedelta(hours=5)), a)


def open_run(world: World, a: int, b: int, c: int) -> None:
    world.open_run(dry_run=a == 11, task_id=f"task {b}" if a % 3 == 2 else None)


def ring(world: World, a: int, b: int, c: int) -> None:
    """Any bell, not the first one."""
    if world.task_calls:
        world.carry_out(world.task_calls.pop(a % len(world.task_calls)))


def ring_twice(world: World, a: int, b: int, c: int) -> None:
    if world.task_calls:
        world.carry_out(pick(world.task_calls, a))


def lose_bell(world: World, a: int, b: int, c: int) -> None:
    if world.task_calls:
        world.task_calls.pop(a % len(world.task_calls))


def forge_bell(world: World, a: int, b: int, c: int) -> None:
    """A bell for any batch or repository of any run: repeated, too early, or for nothing."""
    found = [row["id"] for row in world.ledger.rows("select id from run order by opened_at")]
    run_id = pick(found, a) if found else "20261124T000000Z-00000000"
    task_call = (
        TaskCall("gc.scan", (run_id,)),
        TaskCall("gc.recheck", (run_id, pick(PATHS, b))),
        TaskCall("gc.delete_batch", (run_id, b)),
        TaskCall("gc.verify", (run_id,)),
        TaskCall("gc.refresh_evidence", (run_id,)),
    )
    known = world.ledger.rows("select 1 from repository where run_id = ? and path = ?", run_id, pick(PATHS, b))
    if c % 5 != 1 or known:
        world.carry_out(task_call[c % 5])


def look(world: World, a: int, b: int, c: int) -> None:
    """A repository of a run is listed again, if it is time."""
    found = world.ledger.rows(
        "select r.run_id, r.path from repository r join run on run.id = r.run_id where run.state = 'deleting'"
        " order by run.opened_at, r.path"
    )
    if found:
        world.carry_out(TaskCall("gc.recheck", tuple(pick(found, a))))


def minute(world: World, a: int, b: int, c: int) -> None:
    """Leases run out, and others go on with what was left."""
    world.pass_time(timedelta(seconds=121))
    world.reconcile()
    world.drain()


def reconcile(world: World, a: int, b: int, c: int) -> None:
    world.reconcile()


def drain(world: World, a: int, b: int, c: int) -> None:
    world.drain()


def night(world: World, a: int, b: int, c: int) -> None:
    """A run by hand, from its opening on, as far as it gets without help."""
    world.open_run()
    world.drain()


def abort(world: World, a: int, b: int, c: int) -> None:
    found = world.ledger.rows("select id from run where state != 'finished' order by opened_at")
    if found:
        world.work(lambda process: lifecycle.abort(process.store(), pick(found, a)["id"], world.now()))


def approve(world: World, a: int, b: int, c: int) -> None:
    found = world.ledger.rows("select id from run where state = 'blocked' order by opened_at")
    settings = world.settings()
    if found and settings is not None:
        world.work(lambda process: lifecycle.approve(process.store(), settings, pick(found, a)["id"], world.now()))


CHANGES: dict[str, Action] = {
    one.__name__: one
    for one in (push, push_index, push_referrer, need, push_again, push_back, retag, untag, remove, remove_repository)
}
TROUBLES: dict[str, Action] = {
    one.__name__: one
    for one in (
        *(pass_time, grow_stale, grow_late, step_our_clock, step_their_clock, fault, lose_answers, fate, store_trouble),
        *(break_file, heal, set_mode, set_limits, set_times, set_schedule, set_settle),
        *(sickness, use, use_early, use_no_more, break_evidence, renew_evidence),
    )
}
WORKS: dict[str, Action] = {
    one.__name__: one
    for one in (
        *(open_run, ring, ring_twice, lose_bell, forge_bell, look, hold, release, pause, resume),
        *(minute, reconcile, drain, night, abort, approve),
    )
}
ACTIONS: dict[str, Action] = CHANGES | TROUBLES | WORKS
