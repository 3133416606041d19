"""Forged, replayed and malformed messages in Redis delete nothing outside a stored plan."""

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

from tests.support.celery_messages import QUEUES, in_base64, message, push, queued, unacknowledged
from tests.support.cluster import Cluster, cluster
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.app import KEY_PREFIX
from worker.store.tables import metadata

FAR = "9999-12-31T23:59:59+00:00"
HONEST = ("verified_at", "verifications", "notified", "after_run_done")
LIMITS = {"max_share": "100%", "max_images": 3}


@dataclass
class Target:
    """A registry and a store with a finished, a dry and a blocked run: no message may delete an image of them."""

    cluster: Cluster
    redis: "Redis[Any]"
    finished: str
    dry: str
    blocked: str

    def rows(self) -> dict[str, list[str]]:
        """Every value of the store by table, except heartbeats and the columns that a verification changes."""
        tables = {}
        with self.cluster.harness.store.read() as connection:
            for table in metadata.sorted_tables:
                if table.name not in ("heartbeat", "registry", "tally"):
                    columns = [column for column in table.columns if column.name not in HONEST]
                    rows = connection.execute(select(*columns).order_by(*table.primary_key.columns)).all()
                    tables[table.name] = [repr(value) for row in rows for value in row._mapping.items()]
        return tables

    def wait_for_log(self, text: str) -> None:
        """Wait until a worker has logged the text; workers that end are started again."""

        def is_logged() -> bool:
            self.cluster.restart_ended()
            return text in self.cluster.log()

        until(is_logged, timeout=60, what=f"{text!r} in the log of a worker")

    def wait_for_restart(self, restarts: int) -> None:
        """Wait until workers were started again more often than `restarts`."""

        def is_restarted() -> bool:
            self.cluster.restart_ended()
            return len(self.cluster.restarted) > restarts

        until(is_restarted, timeout=60, what="the end of a worker")

    def deletes(self) -> int:
        return len(self.cluster.harness.simulator.requests("DELETE"))

    def restart_without_messages(self) -> None:
        """Delete every message while no worker runs: a running worker may have just taken one from its queue."""
        self.cluster.kill("worker")
        self.redis.delete(*(f"{KEY_PREFIX}{name}" for name in (*QUEUES, "unacked", "unacked_index")))
        self.cluster.start_worker()

    def drained(self) -> None:
        """Wait until workers have acknowledged every message; workers that end are started again."""

        def is_drained() -> bool:
            self.cluster.restart_ended()
            return not queued(self.redis) and not unacknowledged(self.redis)

        try:
            until(is_drained, timeout=60, what="an acknowledgement of every message")
            until(is_drained, what="an acknowledgement of a message that a worker had just taken from its queue")
        except AssertionError as error:
            error.add_note(f"queued: {queued(self.redis)}; unacknowledged: {unacknowledged(self.redis)}")
            error.add_note(f"restarted: {self.cluster.restarted}; the log ends with: {self.cluster.log()[-3000:]}")
            raise


def changes(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, set[str]]:
    """By table, the values that only one of the two has."""
    return {table: changed for table, was in before.items() if (changed := set(was) ^ set(after[table]))}


@pytest.fixture(scope="module")
def target(running: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
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
        yield Target(made, Redis.from_url(made.redis.url), finished.id, dry.id, blocked)
        assert running.state()["refused"] == []


class Opener:
    """Its pickle creates a file when it is loaded."""

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


def malformed(run: str) -> list[str]:
    """Messages of known tasks with every other field of Celery's protocol, and with fields that it does not have."""
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
        # Celery's protocol 1: every field is in the body.
        message("", [], body=f'{{"task": "gc.delete_batch", "args": ["{run}", 1], "kwargs": {{}}, "id": "older"}}'),
        message("gc.sweep", ["production"], task_id="x" * 1000),
    ]


@pytest.mark.parametrize("which", ["finished", "dry", "blocked"])
def test_forged_messages_delete_nothing_and_change_no_row(target: Target, which: str) -> None:
    run = getattr(target, which)
    before, deletes = target.rows(), target.deletes()
    messages = [message(task, fill(args, run)) for task, args in PLAIN] + malformed(run)
    for number, text in enumerate(messages * 2):
        push(target.redis, named(text, f"{which}-{number}"), ("gc.control", "gc.delete")[number % 2])
    target.drained()
    assert changes(before, target.rows()) == {}
    assert target.deletes() == deletes
    assert target.cluster.restarted == []
    assert "a task's id that is too long" in target.cluster.log()


def named(text: str, name: str) -> str:
    """The message with its own delivery tag and task id, by which Celery and Redis identify messages."""
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
        return [fill(item, run) for item in args]
    return {key: fill(value, run) for key, value in args.items()} if isinstance(args, dict) else args


def test_a_replayed_message_opens_no_run(target: Target) -> None:
    before = target.rows()
    for _ in range(5):
        push(target.redis, message("gc.sweep", ["production"], task_id="by-hand"))
    target.drained()
    assert changes(before, target.rows()) == {}


def test_a_pickled_message_is_never_loaded(target: Target, tmp_path: Path) -> None:
    before = target.rows()
    content = pickle.dumps(Opener(tmp_path / "opened"))
    pickle.loads(content)  # noqa: S301 - shows that loading it would create the file
    (tmp_path / "opened").unlink()
    for kind in ("application/x-python-serialize", "application/pickle"):
        push(target.redis, message("gc.reconcile", [], content_type=kind, **in_base64(content)))
    target.drained()
    assert not (tmp_path / "opened").exists()
    assert changes(before, target.rows()) == {}


def test_messages_for_a_later_day_do_not_block_the_queue(target: Target) -> None:
    """Celery keeps messages with an ETA in the worker until their time."""
    before = target.rows()
    for number in range(30):
        push(
            target.redis,
            message("gc.delete_batch", [target.blocked, 1], task_id=f"late-{number}", eta=FAR),
            "gc.delete",
        )
    push(target.redis, message("gc.sweep", ["before that day"], task_id="before-that-day"))
    target.wait_for_log("there is no registry 'before that day'")
    target.restart_without_messages()  # else the worker keeps the messages, and Redis their copies, until then
    assert changes(before, target.rows()) == {}


def test_control_commands_delete_nothing_and_the_supervisor_restarts_the_worker(target: Target) -> None:
    """Anyone with write access to Redis can stop workers or slow them down; a supervisor starts them again."""
    caller = Celery("outside", broker=target.cluster.redis.url, set_as_current=False)
    caller.conf.broker_transport_options = {"global_keyprefix": KEY_PREFIX}
    control: Any = caller.control
    before, deletes, restarts = target.rows(), target.deletes(), len(target.cluster.restarted)
    push(target.redis, message("gc.sweep", ["before the commands"], task_id="before-the-commands"))
    target.wait_for_log("there is no registry 'before the commands'")  # from now on the worker receives commands
    for command, arguments in [
        ("pool_restart", {"modules": ["os"], "reload": True}),
        ("rate_limit", {"task_name": "gc.delete_batch", "rate_limit": "1/h"}),
        ("time_limit", {"task_name": "gc.delete_batch", "soft": 1, "hard": 1}),
        ("revoke", {"task_id": "by-hand", "terminate": True}),
        ("shutdown", {}),
    ]:
        control.broadcast(command, arguments=arguments)
    target.wait_for_restart(restarts)
    push(target.redis, message("gc.sweep", ["after all"], task_id="after-all"))
    target.wait_for_log("there is no registry 'after all'")
    assert changes(before, target.rows()) == {}
    assert target.deletes() == deletes


GARBAGE = ["not JSON", "{}", b"\xff\xfe\x00"]
ENDLESS = [
    message("gc.delete_batch", [], body="[1]"),
    message("gc.delete_batch", [], body=""),
    message("gc.delete_batch", ["a run", 1], content_type="application/data"),
    message("gc.delete_batch", ["a run", 1], eta=[]),
]


def test_a_message_that_is_not_json_ends_one_worker_at_most(target: Target) -> None:
    """By Celery's design a worker that takes such a message from the queue ends; the next worker continues."""
    target.drained()  # Redis returns unacknowledged messages of an ended worker only after the visibility timeout
    before, deletes, restarts = target.rows(), target.deletes(), len(target.cluster.restarted)
    for text in GARBAGE:  # one by one, for the same reason
        push(target.redis, text, "gc.delete")
        target.drained()
    push(target.redis, message("gc.sweep", ["still there"], task_id="still-there"))
    target.wait_for_log("there is no registry 'still there'")
    assert 0 < len(target.cluster.restarted) - restarts <= len(GARBAGE)
    assert changes(before, target.rows()) == {}
    assert target.deletes() == deletes


@pytest.mark.parametrize(
    "text", ENDLESS, ids=["arguments are no list", "empty body", "binary content type", "ETA is a list"]
)
def test_a_malformed_task_message_may_end_workers_until_the_queue_is_emptied(target: Target, text: str) -> None:
    """By Celery's design; docs/operations.md has the remedy. The messages of a queue can be deleted without a loss."""
    before, deletes, restarts = target.rows(), target.deletes(), len(target.cluster.restarted)
    push(target.redis, text, "gc.delete")
    target.wait_for_restart(restarts)
    target.restart_without_messages()
    push(target.redis, message("gc.sweep", [f"after {restarts}"], task_id=f"after-{restarts}"))
    target.wait_for_log(f"there is no registry 'after {restarts}'")
    assert changes(before, target.rows()) == {}
    assert target.deletes() == deletes
