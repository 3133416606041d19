"""The Celery tasks: each checks its arguments, calls the function that does the work, and publishes what comes next.

A message may be lost, repeated, late or forged: it can only make a worker read the store again.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from celery import signals
from celery.exceptions import SoftTimeLimitExceeded
from celery.worker.control import inspect_command
from celery.worker.request import Request
from kombu.exceptions import OperationalError
from kombu.transport import virtual
from redis.exceptions import RedisError

from worker import reconcile as reconciling
from worker.app import OTHER_STORES, SCAN_SECONDS, STORE_COMMAND, UnusableError, app, other_stores
from worker.config.broker import NoRedisError, describe_redis_error, redis_url
from worker.config.connection_urls import SQLITE_WITH_REMOTE_REDIS, is_sqlite_with_remote_redis
from worker.config.settings import ConfigError, SecretError
from worker.config.watch import SettingsWatch
from worker.logs import Log
from worker.notify import after_run, notification
from worker.planning import scan
from worker.registries.errors import LimiterUnavailableError, RegistryError
from worker.registries.http.redis_limit import RedisLimiter
from worker.runs import evidence_refresh, lifecycle
from worker.runs.lifecycle import AlreadyRunningError, TaskCall, UnknownRegistryError, UnknownRunError
from worker.runs.terms import registry_of
from worker.store import Store, StoreError, open_store
from worker.store.store_info import store_id
from worker.sweep import batches
from worker.sweep import verify as verifying
from worker.sweep.recheck import recheck_repository, skip_slow_repository

log = Log(__name__)

RECHECK_SECONDS = 900  # to list one repository again
MAX_LENGTH = 300  # characters of a registry's name, a run's id or a repository's path
MAX_TASK_ID_LENGTH = 64  # characters of a task id that the store accepts

# Errors that end a task with one line of the log: the row is unchanged, and reconcile publishes the task again.
EXPECTED_ERRORS = (
    StoreError,
    RegistryError,
    LimiterUnavailableError,
    ConfigError,
    SecretError,
    NoRedisError,
    UnknownRegistryError,
    UnknownRunError,
    AlreadyRunningError,
)


@functools.cache
def watch() -> SettingsWatch:
    """This process's view of the configuration file."""
    return SettingsWatch()


@functools.cache
def store() -> Store:
    """This process's store, opened at first use: connections do not survive a fork."""
    return open_store(watch().current().store)


os.register_at_fork(after_in_child=store.cache_clear)


def publish(task_calls: Iterable[TaskCall]) -> bool:
    """Publish task calls. False: Redis did not take them all, or is not configured; reconcile publishes them again."""
    for task_call in task_calls:
        try:
            app.send_task(task_call.task, args=task_call.args)
        except UnusableError:  # Redis is not configured, or does not run
            return False
        except (OperationalError, RedisError, OSError) as error:
            log.warning(
                "task_not_published", task=task_call.task, ids=task_call.args, reason=describe_redis_error(error)
            )
            return False
        log.debug("task_published", task=task_call.task, ids=task_call.args)
    return True


def log_error(event: str, error: Exception, **facts: str) -> None:
    """Log an expected error as one line, without a traceback."""
    log.error(event, **facts, reason=str(error))


class TaskRequest(Request):
    """A message that stops counting against the worker's prefetch limit even if Redis did not get its acknowledgement.

    Celery only logs the error and goes on counting the message: after one for each of its processes the worker takes no
    more. Redis delivers the message again after the visibility timeout; a repeated task does nothing twice.
    """

    def acknowledge(self) -> None:
        super().acknowledge()
        self._stop_counting()

    def reject(self, requeue: bool = False) -> None:
        super().reject(requeue)
        self._stop_counting()

    def _stop_counting(self) -> None:
        if not self.message.acknowledged:
            virtual.QoS.ack(self.message.channel.qos, self.message.delivery_tag)


def task(
    name: str, *kinds: type, seconds: int | None = None, grace: int = 30, old_name: str | None = None
) -> Callable[[Callable[..., Iterable[TaskCall]]], Callable[..., None]]:
    """Register a task that refuses arguments of other types, and logs an expected error as one line.

    It is killed after `seconds` (default: the application's limit) and gets SoftTimeLimitExceeded `grace` seconds
    before. It also runs for messages that a worker of the version before published under `old_name`.
    """
    options: dict[str, Any] = {} if seconds is None else {"time_limit": seconds, "soft_time_limit": seconds - grace}
    options |= {"typing": False, "Request": TaskRequest}

    def decorate(function: Callable[..., Iterable[TaskCall]]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapper(*args: object, **kwargs: object) -> None:
            if kwargs or tuple(map(type, args)) != kinds or not all(map(_is_valid, args)):
                got = ", ".join(type(argument).__name__ for argument in (*args, *kwargs.values()))
                log.warning("arguments_refused", task=function.__name__, got=got or "none")
                return
            try:
                publish(function(*args))
            except EXPECTED_ERRORS as error:
                log_error("task_ended_early", error, task=function.__name__)

        register: Any = app.task  # its overloads know no options in a dict
        if old_name is not None:
            register(name=old_name, **options)(wrapper)
        registered: Callable[..., None] = register(name=name, **options)(wrapper)
        return registered

    return decorate


def _is_valid(argument: object) -> bool:
    """Whether a message's argument can be a name, an id or a number of the store."""
    if isinstance(argument, str):
        return 0 < len(argument) <= MAX_LENGTH and argument.isprintable()
    return isinstance(argument, int) and 0 <= argument < 2**31


@contextmanager
def limiter_of(run_id: str) -> Iterator[RedisLimiter | None]:
    """The rate limit of a run's registry, shared by all processes; None if the registry is no longer configured.

    Raises UnknownRunError, StoreError, SecretError, NoRedisError.
    """
    run, settings = lifecycle.get(store(), run_id), None
    with suppress(ConfigError):  # the sweep reads the file again, and skips the rest of the run
        settings = watch().current()
    registry = registry_of(settings, run) if settings is not None else None
    if settings is None or registry is None:
        yield None
        return
    limiter = RedisLimiter(redis_url(settings), registry.key, registry.rate.requests_per_second)
    with closing(limiter):
        yield limiter


@functools.cache
def own_store_id() -> str:
    """The id of this worker's store.

    Creates the store if it does not exist. Raises ConfigError, StoreError; only an id is cached, not an error.
    """
    opened = open_store(watch().current().store)  # not `store()`: the pool's children fork from this process
    with opened, opened.read() as connection:
        return store_id(connection)


@inspect_command(name=STORE_COMMAND, help="The id of this worker's store.")
def reply_store_id(_state: object) -> dict[str, str]:
    """Answer `other_stores`."""
    return {"store": own_store_id()}


@signals.worker_ready.connect(weak=False)
def check_redis_in_thread(**_kwargs: object) -> None:
    """Check in a thread: the other workers have a second to answer."""
    threading.Thread(target=warn_about_shared_redis, daemon=True).start()


def warn_about_shared_redis() -> None:
    """Warn of workers with another store on the same Redis, and of a SQLite file with a distant Redis.

    The worker goes on: the rows of its store decide what is deleted.
    """
    try:
        settings = watch().current()
        if is_sqlite_with_remote_redis(settings.store, settings.redis_url()):
            log.warning("store_file_beside_far_redis", reason=SQLITE_WITH_REMOTE_REDIS)
        if other_stores(settings, own_store_id()):
            log.warning("other_store_on_redis", reason=OTHER_STORES)
    except (*EXPECTED_ERRORS, OperationalError, RedisError, OSError) as error:
        log.warning("other_stores_unknown", reason=describe_redis_error(error))


@signals.beat_init.connect(weak=False)
@signals.worker_ready.connect(weak=False)
def record_registries(**_kwargs: object) -> None:
    """Record the configured registries at the start: a schedule counts from when its line was first seen."""
    try:
        settings = watch().current()
        with open_store(settings.store) as opened:  # not `store()`: the pool's children fork from this process
            lifecycle.note_registries(opened, settings, datetime.now(UTC))
    except EXPECTED_ERRORS as error:
        log_error("registries_not_recorded", error)


@task("gc.sweep", str)
def start_sweep(registry: str) -> Iterable[TaskCall]:
    """Open a run by hand. A repeated message is the same run."""
    task_id: str | None = app.current_task.request.id if app.current_task else None
    if task_id is not None and len(task_id) > MAX_TASK_ID_LENGTH:
        log.warning("arguments_refused", task="start_sweep", got="a task's id that is too long")
        return ()
    settings, now = watch().current(), datetime.now(UTC)
    return lifecycle.open_run(store(), settings, registry, trigger="task", now=now, task_id=task_id).task_calls


@task("gc.due", str)
def start_if_due(registry: str) -> Iterable[TaskCall]:
    """Open a run if the schedule, not the message, says that it is due."""
    return lifecycle.open_if_due(store(), watch().current(), registry, datetime.now(UTC))


@task("gc.reconcile")
def reconcile() -> Iterable[TaskCall]:
    """Publish the task calls of every unfinished run, and open runs that were due and did not start."""
    settings = None
    try:
        settings = watch().current()
    except ConfigError as error:
        log_error("configuration_unusable", error)
    return reconciling.reconcile(store(), settings, datetime.now(UTC))


@task("gc.scan", str, seconds=SCAN_SECONDS, grace=60)
def scan_registry(run_id: str) -> Iterable[TaskCall]:
    """Plan a run. Safe to run twice, late, or never: one worker claims the run. An error of the registry fails the
    run.
    """
    with limiter_of(run_id) as limiter:
        return scan.carry_out_scan(store(), watch().current(), run_id, limiter=limiter)


@task("gc.recheck", str, str, seconds=RECHECK_SECONDS, old_name="gc.look")
def recheck(run_id: str, repository: str) -> Iterable[TaskCall]:
    """List a repository again, before anything in it is deleted. A repository that takes longer than RECHECK_SECONDS,
    less 30 s, is skipped. Safe to run twice, late, or never.
    """
    with limiter_of(run_id) as limiter:
        try:
            return recheck_repository(store(), watch(), run_id, repository, limiter=limiter)
        except SoftTimeLimitExceeded:
            return skip_slow_repository(store(), run_id, repository)


@task("gc.delete_batch", str, int)
def delete_batch(run_id: str, number: int) -> Iterable[TaskCall]:
    """Carry out one batch of a run. Safe to run twice, late, or never."""
    with limiter_of(run_id) as limiter:
        return batches.delete_batch(store(), watch(), run_id, number, limiter=limiter)


@task("gc.refresh_evidence", str, seconds=RECHECK_SECONDS, old_name="gc.evidence")
def refresh_evidence(run_id: str) -> Iterable[TaskCall]:
    """Ask the sources of evidence again while a run is deleting."""
    try:
        return evidence_refresh.refresh_evidence(store(), watch(), run_id)
    except SoftTimeLimitExceeded:
        evidence_refresh.stop_without_evidence(
            store(), run_id, f"the sources of in_use gave no answer within {RECHECK_SECONDS} s"
        )
        raise


@task("gc.verify", str, seconds=SCAN_SECONDS, grace=60)
def verify(run_id: str) -> Iterable[TaskCall]:
    """Verify what a sweep has left, and finish its run.

    Deletes nothing. Safe to run twice, late, or never. If the registry cannot be read, reconcile publishes the task
    again, until it has begun three times; then the run ends without a verification.
    """
    with limiter_of(run_id) as limiter:
        return verifying.verify(store(), watch(), run_id, limiter=limiter)


@task("gc.notify", str, seconds=60, grace=15)
def notify(run_id: str) -> Iterable[TaskCall]:
    """Send the notifications of a run. Sends nothing that is sent already or not due yet. A failure is logged and tried
    again, and does not change the run.
    """
    notification.send_messages(store(), watch().current(), run_id, datetime.now(UTC))
    return ()


@task("gc.after_run", str, seconds=90, grace=15)  # the configured command or request has 60
def start_after_run(run_id: str) -> Iterable[TaskCall]:
    """Start what is configured to follow a run. Does nothing if it is done or not due yet. A crash repeats it. A
    failure is logged and does not change the run.
    """
    after_run.start(store(), watch().current(), run_id, datetime.now(UTC))
    return ()
