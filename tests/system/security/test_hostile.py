"""Redis in somebody else's hands: forged, replayed and spoilt messages delete nothing that no stored plan lets go."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis
from sqlalchemy import select

from tests.support.celery_messages import QUEUES, in_base64, left, message, push, under_way
from tests.support.cluster import Cluster, cluster
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.app import KEY_PREFIX
from worker.store.tables import metadata

FAR = "9999-12-31T23:59:59+00:00"
HONEST = ("verified_at", "verifications", "notified", "after_run_done")
LIMITS = {"max_share": "100%", "max_images": 3}


@dataclass
class Stage:
    """A store with a run of each kind whose images nobody may delete (any more), and the registry as it was left."""

    cluster: Cluster
    redis: "Redis[Any]"
    finished: str
    dry: str
    blocked: str

    def rows(self) -> dict[str, list[str]]:
        """Everything in the store but signs of life, and what an honest look at the registry may add."""
        found = {}
        with self.cluster.harness.store.read() as connection:
            for table in metadata.sorted_tables:
                if table.name not in ("heartbeat", "registry", "tally"):
                    columns = [column for column in table.columns if column.name not in HONEST]
                    rows = connection.execute(select(*columns).order_by(*table.primary_key.columns)).all()
                    found[table.name] = [repr(value) for row in rows for value in row._mapping.items()]
        return found

    def answered(self, words: str) -> None:
        """Wait until the log of a worker, which somebody looks after, has these words."""

        def done() -> bool:
            self.cluster.restart_ended()
            return words in self.cluster.log()

        until(done, timeout=60, what=f"a worker that says {words!r}")

    def deletes(self) -> int:
        return len(self.cluster.harness.simulator.requests("DELETE"))

    def forget_messages(self) -> None:
        """As whoever runs it would: `celery -A worker.app purge`, and what a worker held."""
        self.redis.delete(*(f"{KEY_PREFIX}{name}" for name in (*QUEUES, "unacked", "unacked_index")))

    def drained(self) -> None:
        """Wait until every message was answered for, by workers that somebody looks after."""

        def done() -> bool:
            self.cluster.restart_ended()
            return not left(self.redis) and not under_way(self.redis)

        until(done, timeout=60, what="an answer to every message")
        until(done, what="the same again: between queue and worker a message is nowhere for a moment")


def changes(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, set[str]]:
    """By table, the values that are not there in both."""
    return {table: found for table, was in before.items() if (found := set(was) ^ set(after[table]))}


@pytest.fixture(scope="module")
def stage(running: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    running.reset()
    with cluster(running, tmp_path_factory.mktemp("hostile"), limits=LIMITS) as made:
        harness = made.harness
        for number in range(3):
            running.push("shop/api", tags=[f"pr-{number}"], age=30 * 86_400)
        finished = harness.sweep(task_id="by-hand")
        assert (finished.outcome, finished.deleted) == ("succeeded", 3)
        for number in range(4):
            running.push("shop/api", tags=[f"pr-{number}"], age=30 * 86_400)
        dry = harness.sweep(dry_run=True)
        assert (dry.state, dry.planned) == ("finished", 4)
        blocked, _ = harness.plan()
        assert harness.run(blocked).state == "blocked"
        made.start_worker()
        yield Stage(made, Redis.from_url(made.redis.url), finished.id, dry.id, blocked)
        assert running.state()["refused"] == []


class Opener:
    """What a pickle would run here."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


PLAIN: list[tuple[str, Any]] = [
    ("gc.delete_batch", ["{run}", 1]),
    ("gc.delete_batch", ["{run}", 0]),
    ("gc.delete_batch", ["{run}", 2**31 - 1]),
    ("gc.delete_batch", ["{run}", 2**31]),
    ("gc.delete_batch", ["{run}", [1]]),
    ("gc.delete_batch", [["{run}"], 1]),
    ("gc.delete_batch", [{"run": "{run}"}, 1]),
    ("gc.delete_batch", ["{run}", 1, "force"]),
    ("gc.delete_batch", {"run_id": "{run}", "number": 1}),
    ("gc.delete_batch", "{run}"),
    ("gc.delete_batch", None),
    ("gc.recheck", ["{run}", "shop/api"]),
    ("gc.recheck", ["{run}", "../../etc/passwd"]),
    ("gc.recheck", ["{run}", "shop/api\u0000"]),
    ("gc.recheck", ["{run}", "%2e%2e/"]),
    ("gc.recheck", ["{run}", "'; DROP TABLE run; --"]),
    ("gc.scan", ["{run}"]),
    ("gc.verify", ["{run}"]),
    ("gc.verify", [5]),
    ("gc.scan", ["{run}' OR '1'='1"]),
    ("gc.scan", ["../{run}"]),
    ("gc.sweep", ["{run}"]),
    ("gc.sweep", ["../production"]),
    ("gc.sweep", ["production\u202e"]),
    ("gc.due", ["{run}"]),
    ("gc.reconcile", []),
    ("gc.reconcile", ["{run}"]),
    ("gc.delete_image", ["{run}", "shop/api"]),
    ("worker.tasks.delete_batch", ["{run}", 1]),
    ("worker.sweep.batches.delete_batch", ["{run}", 1]),
    ("os.system", ["true"]),
    ("celery.backend_cleanup", []),
    ("celery.accumulate", [1, 2]),
    ("celery.map", [{"task": "gc.delete_batch", "args": [], "kwargs": {}}, [["{run}", 1]]]),
    ("celery.starmap", [{"task": "gc.delete_batch", "args": [], "kwargs": {}}, [["{run}", 1], ["{run}", 2]]]),
    ("celery.chord_unlock", ["{run}", {"task": "gc.delete_batch", "args": ["{run}", 1], "kwargs": {}}]),
]


def signature(run: str) -> dict[str, Any]:
    return {"task": "gc.delete_batch", "args": [run, 1], "kwargs": {}, "options": {"queue": "gc.delete"}}


def spoilt(run: str) -> list[str]:
    """Messages of known tasks with everything else in them that Celery knows, and some that it does not."""
    batch = ("gc.delete_batch", [run, 1])
    linked = {"callbacks": [signature(run)], "errbacks": [signature(run)], "chain": [signature(run)] * 3}
    return [
        message(*batch, kwargs={"run_id": run, "number": 1}),
        message(*batch, kwargs={"self": 1, "__class__": 2}),
        message(*batch, embed=linked),
        message("gc.reconcile", [], embed=linked),
        message("gc.reconcile", [], embed={"chord": signature(run), "callbacks": {"a": 1}}),
        message("gc.sweep", ["nowhere"], embed={"errbacks": [signature(run)]}, retries=2**40),
        message(*batch, replaced_task_nesting=2**31, group="g", group_index="x", parent_id=[1], ignore_result="no"),
        message(*batch, stamped_headers=["a"], stamps={"a": [run] * 1000}, shadow="gc.reconcile", meth="run"),
        message(*batch, expires="2001-01-01T00:00:00+00:00"),
        message(*batch, timelimit=[None, 10**6], origin="\u001b[2J", argsrepr="\u001b[2J" * 1000),
        message(*batch, body="not JSON"),
        message(*batch, body=("[" * 100_000)),
        message(*batch, **in_base64(b"\xff\xfe")),
        message(*batch, content_type="application/x-yaml", body="!!python/object/apply:os.system [true]"),
        message(*batch, properties={"priority": 9, "reply_to": "/etc/passwd", "correlation_id": "\u0000"}),
        message("gc.delete_batch", [run, 1] + ["x" * 1000] * 1000),
        *(message(*batch, eta=eta) for eta in ("2001-01-01T00:00:00+00:00", "tomorrow")),
        message(*batch, task_id="x" * 1000),
        # The older protocol, in which the body has everything.
        message("", [], body=f'{{"task": "gc.delete_batch", "args": ["{run}", 1], "kwargs": {{}}, "id": "older"}}'),
        message("gc.sweep", ["production"], task_id="x" * 1000),
    ]


@pytest.mark.parametrize("which", ["finished", "dry", "blocked"])
def test_forged_messages_delete_nothing_and_change_no_row(stage: Stage, which: str) -> None:
    run = getattr(stage, which)
    before, deletes = stage.rows(), stage.deletes()
    made = [message(task, fill(args, run)) for task, args in PLAIN] + spoilt(run)
    for number, text in enumerate(made * 2):
        push(stage.redis, named(text, f"{which}-{number}"), ("gc.control", "gc.delete")[number % 2])
    stage.drained()
    assert changes(before, stage.rows()) == {}
    assert stage.deletes() == deletes
    assert stage.cluster.restarted == []
    assert "a task's id that is too long" in stage.cluster.log()


def named(text: str, name: str) -> str:
    """The message under a name of its own: Celery and Redis tell them apart by it."""
    envelope = json.loads(text)
    envelope["properties"]["delivery_tag"] = name
    if envelope["headers"].get("id") == "4f1c":
        envelope["headers"]["id"] = name
    return json.dumps(envelope)


def fill(args: Any, run: str) -> Any:
    """The arguments, with `{run}` replaced by a run's id."""
    if isinstance(args, str):
        return args.replace("{run}", run)
    if isinstance(args, list):
        return [fill(one, run) for one in args]
    return {key: fill(value, run) for key, value in args.items()} if isinstance(args, dict) else args


def test_a_replayed_message_opens_nothing(stage: Stage) -> None:
    before = stage.rows()
    for _ in range(5):
        push(stage.redis, message("gc.sweep", ["production"], task_id="by-hand"))
    stage.drained()
    assert changes(before, stage.rows()) == {}


def test_a_pickle_is_never_opened(stage: Stage, tmp_path: Path) -> None:
    before = stage.rows()
    content = pickle.dumps(Opener(tmp_path / "opened"))
    pickle.loads(content)  # noqa: S301 - that it would do something is what makes the test one
    (tmp_path / "opened").unlink()
    for kind in ("application/x-python-serialize", "application/pickle"):
        push(stage.redis, message("gc.reconcile", [], content_type=kind, **in_base64(content)))
    stage.drained()
    assert not (tmp_path / "opened").exists()
    assert changes(before, stage.rows()) == {}


def test_what_is_for_another_day_holds_nobody_up(stage: Stage) -> None:
    """Celery keeps it until then, as long as the worker lives."""
    before = stage.rows()
    for number in range(30):
        push(
            stage.redis, message("gc.delete_batch", [stage.blocked, 1], task_id=f"late-{number}", eta=FAR), "gc.delete"
        )
    push(stage.redis, message("gc.sweep", ["before that day"], task_id="before-that-day"))
    stage.answered("there is no registry 'before that day'")
    stage.forget_messages()
    assert changes(before, stage.rows()) == {}


def test_a_broadcast_deletes_nothing(stage: Stage) -> None:
    """Who can write to Redis can tell workers to stop, or to be slow. Whoever supervises them starts them again."""
    caller = Celery("outside", broker=stage.cluster.redis.url, set_as_current=False)
    caller.conf.broker_transport_options = {"global_keyprefix": KEY_PREFIX}
    control: Any = caller.control
    before, deletes = stage.rows(), stage.deletes()
    for command, arguments in [
        ("pool_restart", {"modules": ["os"], "reload": True}),
        ("rate_limit", {"task_name": "gc.delete_batch", "rate_limit": "1/h"}),
        ("time_limit", {"task_name": "gc.delete_batch", "soft": 1, "hard": 1}),
        ("revoke", {"task_id": "by-hand", "terminate": True}),
        ("shutdown", {}),
    ]:
        control.broadcast(command, arguments=arguments)
    push(stage.redis, message("gc.sweep", ["after all"], task_id="after-all"))
    stage.answered("there is no registry 'after all'")
    assert changes(before, stage.rows()) == {}
    assert stage.deletes() == deletes


GARBAGE = ["not JSON", "{}", b"\xff\xfe\x00"]
ENDLESS = [
    message("gc.delete_batch", [], body="[1]"),
    message("gc.delete_batch", [], body=""),
    message("gc.delete_batch", ["a run", 1], content_type="application/data"),
    message("gc.delete_batch", ["a run", 1], eta=[]),
]


def test_garbage_may_end_a_worker_and_never_more(stage: Stage) -> None:
    """By Celery's design: what is no message at all ends a worker. It is gone then, and the next worker goes on."""
    stage.drained()  # a worker that ends keeps the message that it has not answered for until Redis's time-out
    before, deletes, ends = stage.rows(), stage.deletes(), len(stage.cluster.restarted)
    for text in GARBAGE:  # one by one: what a worker had fetched beside it comes back only after Redis's own time-out
        push(stage.redis, text, "gc.delete")
        stage.drained()
    push(stage.redis, message("gc.sweep", ["still there"], task_id="still-there"))
    stage.answered("there is no registry 'still there'")
    assert 0 < len(stage.cluster.restarted) - ends <= len(GARBAGE)
    assert changes(before, stage.rows()) == {}
    assert stage.deletes() == deletes


@pytest.mark.parametrize("text", ENDLESS)
def test_a_spoilt_message_of_a_task_may_end_workers_until_the_queue_is_emptied(stage: Stage, text: str) -> None:
    """By Celery's design, too; docs/operations.md says what to do. Nothing is lost with the queue's messages."""
    before, deletes, ends = stage.rows(), stage.deletes(), len(stage.cluster.restarted)
    push(stage.redis, text, "gc.delete")

    def ended() -> bool:
        stage.cluster.restart_ended()
        return len(stage.cluster.restarted) > ends

    until(ended, timeout=60, what="the end of a worker")
    stage.cluster.kill("worker")
    stage.forget_messages()
    stage.cluster.start_worker()
    push(stage.redis, message("gc.sweep", [f"after {ends}"], task_id=f"after-{ends}"))
    stage.answered(f"there is no registry 'after {ends}'")
    assert changes(before, stage.rows()) == {}
    assert stage.deletes() == deletes
