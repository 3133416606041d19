"""The actions of a history, by name. Each action takes three small numbers and derives its arguments from them."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection

from policies.holds import Hold
from policies.limits import Limits
from tests.support.memory_faults import FATES, OWN, POSSIBLE, Fate, Fault, Lost
from tests.support.memory_registry import Content
from tests.system.histories.contents import attached, index, plain, signature
from tests.system.histories.history import History
from tests.system.histories.process import Process
from worker.runs import hold_requests, lifecycle
from worker.runs.lifecycle import TaskCall
from worker.store import holds

T = TypeVar("T")
Action = Callable[[History, int, int, int], None]

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


def pick(choices: Sequence[T], number: int) -> T:
    return choices[number % len(choices)]


def _path(history: History, a: int) -> str | None:
    """The path of an existing repository."""
    return pick(sorted(history.registry.repositories), a) if history.registry.repositories else None


def _digest(history: History, path: str | None, b: int) -> str | None:
    """The digest of an existing image, counted in push order."""
    images = history.registry.repositories.get(path or "")
    return pick(list(images), b) if images else None


def _age(a: int, b: int, c: int) -> timedelta:
    """An age that differs between images: a plan trusts a listing less if all images share one push time."""
    return pick(AGES, b + c) + timedelta(minutes=7 * a + 11 * b + 13 * c)


def push(history: History, a: int, b: int, c: int) -> None:
    history.registry.push(pick(PATHS, a), plain(b % 6), pick(TAGS, c), _age(a, b, c))


def push_index(history: History, a: int, b: int, c: int) -> None:
    """Push an index of one to three existing images or indexes; one index in five also lists a missing image."""
    path = _path(history, a)
    if path is None or not history.registry.repositories[path]:
        return
    digests = list(history.registry.repositories[path])
    children = tuple(dict.fromkeys(pick(digests, b + offset) for offset in range(1 + c % 3)))
    if b % 5 == 4:
        children += (plain(9).digest,)
    history.registry.push(path, index(children), pick(TAGS, c), _age(a, b, 0))


def push_referrer(history: History, a: int, b: int, c: int) -> None:
    """Push a signature, by cosign's tag or by `subject`, of an image of this repository or of another."""
    path = _path(history, a)
    of = _digest(history, path if c % 4 else _path(history, a + 1), b)  # one in four: an image of another repository
    if path is None or of is None:
        return
    content: Content = signature(of) if c % 2 else attached(of)
    tags = (f"sha256-{of.removeprefix('sha256:')}.sig",) if c % 2 else pick(TAGS, c // 2)
    history.registry.push(path, content, tags, _age(a, b, 0))


def push_dependent(history: History, a: int, b: int, c: int) -> None:
    """Push an owner of an image that a run is about to delete: an index of it, a signature of it, or its subject."""
    rows = history.invariants.rows(
        "select repository, digest from item where state in ('planned', 'intent') order by repository, number"
    )
    if not rows:
        return
    path, of = pick(rows, a)
    instance = history.registry.repositories.get(path, {}).get(of)
    if c % 4 == 0:
        history.registry.push(path, signature(of), (f"sha256-{of.removeprefix('sha256:')}.sig",), pick(AGES, b))
    elif c % 4 == 1:
        history.registry.push(path, attached(of), pick(TAGS, b), pick(AGES, b))
    elif c % 4 == 2 or instance is None or instance.content.subject is None:
        history.registry.push(path, index((of,)), pick(TAGS, b), pick(AGES, b))
    elif (subject := history.registry.known.get(instance.content.subject)) is not None:
        history.registry.push(path, subject, pick(TAGS, b), pick(AGES, b))


def push_again(history: History, a: int, b: int, c: int) -> None:
    """Push the same content again under another tag; half the pushes also set a new push time."""
    path = _path(history, a)
    of = _digest(history, path, b)
    if path is not None and of is not None:
        content = history.registry.repositories[path][of].content
        history.registry.push(path, content, pick(TAGS, c), _age(a, 0, c), new_time=bool(c % 2))


def push_deleted_again(history: History, a: int, b: int, c: int) -> None:
    """Push the content of a deleted image again, as a new instance."""
    effects = history.registry.effects
    if effects:
        effect = pick(effects, a)
        history.registry.push(effect.repository, effect.instance.content, tuple(effect.instance.tags), _age(a, b, c))


def retag(history: History, a: int, b: int, c: int) -> None:
    path = _path(history, a)
    of = _digest(history, path, b)
    if path is not None and of is not None:
        history.registry.tag(path, of, pick(("v1", "pr-1", "latest", "pr-2"), c))


def untag(history: History, a: int, b: int, c: int) -> None:
    path = _path(history, a)
    of = _digest(history, path, b)
    if path is not None and of is not None and (tags := sorted(history.registry.repositories[path][of].tags)):
        history.registry.untag(path, pick(tags, c))


def remove(history: History, a: int, b: int, c: int) -> None:
    path = _path(history, a)
    of = _digest(history, path, b)
    if path is not None and of is not None:
        history.registry.remove(path, of)


def remove_repository(history: History, a: int, b: int, c: int) -> None:
    if c % 3 == 0 and (path := _path(history, a)) is not None:
        history.registry.remove_repository(path)


def pass_time(history: History, a: int, b: int, c: int) -> None:
    history.pass_time(pick(SPANS, a))
    history.registry.settle()


def grow_stale(history: History, a: int, b: int, c: int) -> None:
    """Pass time until the last recheck is valid for half a minute more, or has just expired."""
    rows = history.invariants.rows("select max(rechecked_at) as at from repository")
    if rows[0]["at"] is not None:
        left = datetime.fromtimestamp(rows[0]["at"] / 1e6, UTC) + lifecycle.RECHECK_VALID_FOR - history.now()
        history.pass_time(max(timedelta(), left + timedelta(seconds=pick((-30, 1), a))))


def grow_late(history: History, a: int, b: int, c: int) -> None:
    """Pass time until the plan of a deleting run is valid for half a minute more, or has just expired."""
    rows = history.invariants.rows("select min(started_at) as at from run where state = 'deleting'")
    if rows[0]["at"] is not None:
        left = datetime.fromtimestamp(rows[0]["at"] / 1e6, UTC) + history.plan_max_age - history.now()
        history.pass_time(max(timedelta(), left + timedelta(seconds=pick((-30, 1), a))))


def step_our_clock(history: History, a: int, b: int, c: int) -> None:
    history.step_clock(pick(STEPS, a))


def step_their_clock(history: History, a: int, b: int, c: int) -> None:
    history.registry.changes += 1
    history.theirs += pick(STEPS, a)


def fault(history: History, a: int, b: int, c: int) -> None:
    call, error = pick(FAULTS, 12 * a + b)
    lost = pick(LOST, c) if call == "delete" else "clean"
    if error == "bad_answer" and lost == "clean":
        lost = "lost"  # the registry received the request before it sent a bad response
    if error in ("too_late", "limiter"):
        lost = "clean"
    path = None if c < 6 else pick(PATHS, c)
    history.registry.faults.append(Fault(call, error, skip=c % 3, times=pick((1, 2, 12), c // 2), path=path, lost=lost))


def persistent_fault(history: History, a: int, b: int, c: int) -> None:
    """Let 40 calls fail in the same way."""
    fault(history, a, b, c)
    history.registry.faults[-1].times = 40


def lose_answers(history: History, a: int, b: int, c: int) -> None:
    """Lose the responses of the next deletions, some of which the registry carries out."""
    history.registry.faults.append(Fault("delete", "unavailable", skip=b % 2, times=1 + c % 3, lost=pick(LOST[1:], a)))


def fate(history: History, a: int, b: int, c: int) -> None:
    history.registry.fates += [Fate(pick(FATES, a), after=b % 4, error=pick(OWN, c))] * (1 + c % 2)


def store_trouble(history: History, a: int, b: int, c: int) -> None:
    history.store_troubles[pick(("write", "commit", "written", "read"), a)] = [b, 1 + 3 * (c % 2)]


def break_file(history: History, a: int, b: int, c: int) -> None:
    if a % 2:
        history.valid = not history.valid
    else:
        history.configured = not history.configured


def clear_faults(history: History, a: int, b: int, c: int) -> None:
    history.clear_faults()


def set_mode(history: History, a: int, b: int, c: int) -> None:
    history.mode = "dry-run" if history.mode == "delete" else "delete"


def set_limits(history: History, a: int, b: int, c: int) -> None:
    history.limits = pick((Limits(max_share=1.0), Limits(max_images=0), Limits(max_share=1.0, max_bytes=300)), a)


def set_times(history: History, a: int, b: int, c: int) -> None:
    history.plan_max_age = pick((timedelta(hours=24), timedelta(minutes=5)), a)
    history.deadline = pick((None, timedelta(minutes=3)), b)


def set_schedule(history: History, a: int, b: int, c: int) -> None:
    history.schedule = pick((None, "0 3 * * *", "*/5 * * * *"), a)


def _target(history: History, a: int) -> tuple[str, str] | None:
    """Path and digest of an image that a run is about to delete, or else of any image."""
    rows = history.invariants.rows("select repository, digest from item where state in ('planned', 'intent')")
    targets = sorted((row["repository"], row["digest"]) for row in rows)
    return pick(
        targets or sorted((path, instance.digest) for path, instance in history.registry.instances()) or [None], a
    )


def hold(history: History, a: int, b: int, c: int) -> None:
    """Place a hold on a digest, a tag, an image or repositories, without an end or for an hour."""
    settings = history.settings()
    target = _target(history, a)
    if target is None or settings is None or not settings.registries:
        return
    path, digest = target
    instance = history.registry.repositories.get(path, {}).get(digest)
    until = history.now() + timedelta(hours=1) if b % 3 == 0 else None
    tags = sorted(instance.tags) if instance else []
    words: dict[str, Any] = {"kind": "digest", "repository": path, "value": digest}
    if c % 4 == 1:
        words = {"kind": "tag", "repository": path, "value": pick(tags or ["pr-1"], b)}
    elif c % 4 == 2 and instance is not None:
        words = {"kind": "image", "value": instance.id}
    elif c % 4 == 3:
        glob = pick(("shop/*", "ml", "**", path), b)
        words = {"kind": "repository", "repository": glob, "value": glob}

    def body(process: Process) -> tuple[TaskCall, ...]:
        hold_requests.place(
            process.store(), settings.registries["production"], Hold(**words, until=until), history.now()
        )
        return ()

    history.context_changed_at = history.true_time
    history.work(body)
    history.context_changed_at = history.true_time


def release(history: History, a: int, b: int, c: int) -> None:
    rows = history.invariants.rows("select id from hold where released_at is null order by id")
    if rows:
        _change_context(
            history, lambda connection: holds.release(connection, pick(rows, a)["id"], "anna", history.now())
        )


def pause(history: History, a: int, b: int, c: int) -> None:
    name = pick(("production", "*"), a)
    _change_context(history, lambda connection: holds.pause_registry(connection, name, "anna", "", history.now()))


def resume(history: History, a: int, b: int, c: int) -> None:
    for name in ("production", "*"):
        _change_context(history, lambda connection, name=name: holds.resume_registry(connection, name))


def _change_context(history: History, change: Callable[[Connection], object]) -> None:
    def body(process: Process) -> tuple[TaskCall, ...]:
        with process.store().write() as connection:
            change(connection)
        return ()

    history.context_changed_at = history.true_time
    history.work(body)
    history.context_changed_at = history.true_time


def begin_use(history: History, a: int, b: int, c: int) -> None:
    """Report an image as in use by its digest, its config's digest or its tag."""
    target = _target(history, a)
    if history.in_use is None or target is None:
        return
    path, digest = target
    instance = history.registry.repositories.get(path, {}).get(digest)
    name = digest
    if c % 3 == 1 and instance is not None and instance.content.config is not None:
        name = instance.content.config.digest
    elif c % 3 == 2 and instance is not None and instance.tags:
        name = f"{path}:{pick(sorted(instance.tags), b)}"
    history.in_use.since.setdefault(name, history.true_time)
    history.write_evidence()


def begin_use_early(history: History, a: int, b: int, c: int) -> None:
    """Report an image as in use, and pass the eleven minutes within which evidence is read again."""
    begin_use(history, a, b, c)
    history.pass_time(timedelta(seconds=661))


def end_use(history: History, a: int, b: int, c: int) -> None:
    if history.in_use is not None and history.in_use.since:
        del history.in_use.since[pick(sorted(history.in_use.since), a)]
        history.write_evidence()


def break_evidence(history: History, a: int, b: int, c: int) -> None:
    """Truncate the evidence file, or write it whole again."""
    if history.in_use is not None:
        history.in_use.trusted = not history.in_use.trusted
        history.in_use.broken_since = None if history.in_use.trusted else history.true_time
        history.write_evidence()


def renew_evidence(history: History, a: int, b: int, c: int) -> None:
    history.write_evidence()


def set_settle(history: History, a: int, b: int, c: int) -> None:
    history.settle_for = pick((timedelta(), timedelta(minutes=10), timedelta(hours=5)), a)


def open_run(history: History, a: int, b: int, c: int) -> None:
    history.open_run(dry_run=a == 11, task_id=f"task {b}" if a % 3 == 2 else None)


def run_task_call(history: History, a: int, b: int, c: int) -> None:
    """Carry out any waiting task call, not the first."""
    if history.task_calls:
        history.carry_out(history.task_calls.pop(a % len(history.task_calls)))


def repeat_task_call(history: History, a: int, b: int, c: int) -> None:
    if history.task_calls:
        history.carry_out(pick(history.task_calls, a))


def lose_task_call(history: History, a: int, b: int, c: int) -> None:
    if history.task_calls:
        history.task_calls.pop(a % len(history.task_calls))


def forge_task_call(history: History, a: int, b: int, c: int) -> None:
    """Carry out a task call for any batch or repository of any run: repeated, early, or without work to do."""
    run_ids = [row["id"] for row in history.invariants.rows("select id from run order by opened_at")]
    run_id = pick(run_ids, a) if run_ids else "20261124T000000Z-00000000"
    task_calls = (
        TaskCall("gc.scan", (run_id,)),
        TaskCall("gc.recheck", (run_id, pick(PATHS, b))),
        TaskCall("gc.delete_batch", (run_id, b)),
        TaskCall("gc.verify", (run_id,)),
        TaskCall("gc.refresh_evidence", (run_id,)),
    )
    exists = history.invariants.rows("select 1 from repository where run_id = ? and path = ?", run_id, pick(PATHS, b))
    if c % 5 != 1 or exists:
        history.carry_out(task_calls[c % 5])


def recheck(history: History, a: int, b: int, c: int) -> None:
    """Recheck a repository of a deleting run."""
    rows = history.invariants.rows(
        "select r.run_id, r.path from repository r join run on run.id = r.run_id where run.state = 'deleting'"
        " order by run.opened_at, r.path"
    )
    if rows:
        history.carry_out(TaskCall("gc.recheck", tuple(pick(rows, a))))


def lease_runs_out(history: History, a: int, b: int, c: int) -> None:
    """Pass two minutes, so that leases expire, then reconcile and carry out the published task calls."""
    history.pass_time(timedelta(seconds=121))
    history.reconcile()
    history.drain()


def reconcile(history: History, a: int, b: int, c: int) -> None:
    history.reconcile()


def drain(history: History, a: int, b: int, c: int) -> None:
    history.drain()


def whole_run(history: History, a: int, b: int, c: int) -> None:
    """Open a run, and carry out its task calls until none waits."""
    history.open_run()
    history.drain()


def abort(history: History, a: int, b: int, c: int) -> None:
    rows = history.invariants.rows("select id from run where state != 'finished' order by opened_at")
    if rows:
        history.work(lambda process: lifecycle.abort(process.store(), pick(rows, a)["id"], history.now()))


def approve(history: History, a: int, b: int, c: int) -> None:
    rows = history.invariants.rows("select id from run where state = 'blocked' order by opened_at")
    settings = history.settings()
    if rows and settings is not None:
        history.work(lambda process: lifecycle.approve(process.store(), settings, pick(rows, a)["id"], history.now()))


CHANGES: dict[str, Action] = {
    action.__name__: action
    for action in (
        push,
        push_index,
        push_referrer,
        push_dependent,
        push_again,
        push_deleted_again,
        retag,
        untag,
        remove,
        remove_repository,
    )
}
TROUBLES: dict[str, Action] = {
    action.__name__: action
    for action in (
        *(pass_time, grow_stale, grow_late, step_our_clock, step_their_clock, fault, lose_answers, fate, store_trouble),
        *(break_file, clear_faults, set_mode, set_limits, set_times, set_schedule, set_settle),
        *(persistent_fault, begin_use, begin_use_early, end_use, break_evidence, renew_evidence),
    )
}
TASKS: dict[str, Action] = {
    action.__name__: action
    for action in (
        *(
            open_run,
            run_task_call,
            repeat_task_call,
            lose_task_call,
            forge_task_call,
            recheck,
            hold,
            release,
            pause,
            resume,
        ),
        *(lease_runs_out, reconcile, drain, whole_run, abort, approve),
    )
}
ACTIONS: dict[str, Action] = CHANGES | TROUBLES | TASKS
