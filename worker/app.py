"""The Celery application: its settings, its queues, beat's entries. SQL is the truth, Celery only wakes workers up.

The configuration file is read when the application is first used, not when this module is imported.
"""

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
from celery import Celery, signals
from celery.loaders.app import AppLoader
from celery.schedules import BaseSchedule, crontab, schedstate, schedule

from worker import logs
from worker.config.broker import NoRedisError, celery_url, redis_url
from worker.config.files import state_folder
from worker.config.settings import ConfigError, SecretError, load
from worker.runs.schedule import due

if TYPE_CHECKING:
    from worker.config.settings import Settings

BATCH_SECONDS = 180  # the hard limit of gc.delete_batch, and of every task without its own
SCAN_SECONDS = 2 * 3600
# Redis delivers a message again only after its task cannot run any more: longer than a scan, and many times a batch.
# Recovery does not wait for it: reconcile publishes again as soon as a lease has expired.
VISIBILITY_SECONDS = 3 * 3600
KEY_PREFIX = "registry-gc:"

QUEUES = {
    "gc.control": ("gc.sweep", "gc.due", "gc.reconcile", "gc.notify"),
    "gc.scan": ("gc.scan", "gc.verify"),
    "gc.delete": ("gc.recheck", "gc.delete_batch", "gc.refresh_evidence", "gc.after_run", "gc.look", "gc.evidence"),
}  # the last two: the names of gc.recheck and gc.refresh_evidence in the version before
ROUTES = {task: {"queue": queue} for queue, tasks in QUEUES.items() for task in tasks}

# Each value was measured or looked up; a comment says what fails without it where that is not obvious.
SETTINGS: dict[str, Any] = {
    "broker_connection_retry_on_startup": True,
    "broker_transport_options": {
        "visibility_timeout": VISIBILITY_SECONDS,
        "socket_timeout": 10,  # without it a half-open connection blocks for minutes
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 3,
        "global_keyprefix": KEY_PREFIX,
        "client_name": "registry-gc",
    },
    "visibility_timeout": VISIBILITY_SECONDS,
    # No results: outcomes are rows, and a result that cannot be written calls finished work a failure.
    "result_backend": None,
    "result_expires": None,  # else beat adds an entry of its own to clear them
    "redis_socket_timeout": 10,
    "redis_socket_connect_timeout": 5,
    "task_ignore_result": True,
    "task_serializer": "json",
    "event_serializer": "json",
    "accept_content": ["json"],  # never pickle: anyone with write access to Redis could run code here
    "result_accept_content": ["json"],
    # The message of a killed pool child or worker is delivered again; the store counts the takeovers of a batch.
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_acks_on_failure": True,
    "task_acks_on_timeout": True,  # False would loop for ever: Redis does not limit deliveries
    "task_time_limit": BATCH_SECONDS,
    "task_soft_time_limit": BATCH_SECONDS - 30,
    "task_default_queue": "gc.control",
    "task_routes": ROUTES,
    "task_publish_retry_policy": {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5},
    "worker_prefetch_multiplier": 1,
    "worker_cancel_long_running_tasks_on_connection_loss": False,  # True loses them; Celery 6 will turn it on
    "worker_max_tasks_per_child": 200,
    "worker_max_memory_per_child": 300_000,  # KiB
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_send_task_events": True,
    "task_send_sent_event": True,
    "timezone": "UTC",
    "enable_utc": True,
    "beat_sync_every": 1,  # else a killed beat repeats its last three minutes
    "beat_max_loop_interval": 30,
    "beat_enable_remote_control": True,
    "include": ["worker.tasks"],
}


STORE_COMMAND = "store"  # of `celery inspect`; see worker.tasks
OTHER_STORES = (
    "workers of another store answer on this Redis: each takes messages about rows that only the other has, so both are"
    " slow, and two runs may sweep one registry at once; give each store a Redis of its own (another number at the end"
    " of its URL is enough)"
)


class UnusableError(click.ClickException):
    """The application cannot be used as configured: one line and exit code 2 under celery's own command."""

    exit_code = 2


class Loader(AppLoader):
    """Reads the settings when Celery first asks for one. `celery -A worker.app call …` needs only the file."""

    def read_configuration(self, _env: str = "") -> dict[str, Any]:
        try:
            settings = load(look_for_secrets=False)  # but Redis's own
            broker = celery_url(redis_url(settings))
        except (ConfigError, SecretError, NoRedisError) as error:
            raise UnusableError(str(error)) from error
        file = str(state_folder() / "beat" / "schedule")
        return SETTINGS | {
            "broker_url": broker,
            "beat_schedule": beat_entries(settings),
            "beat_schedule_filename": file,
        }


def beat_entries(settings: "Settings") -> dict[str, dict[str, Any]]:
    """A gc.due entry for each registry with a schedule, and gc.reconcile for missed task calls and runs.

    The name has line and zone: a changed line under the same name would keep its last run time and fire at once.
    """
    entries: dict[str, dict[str, Any]] = {
        f"gc.due {registry.name} {registry.schedule} {registry.timezone}": {
            "task": "gc.due",
            "schedule": ZonedCron(registry.schedule, registry.timezone),
            "args": (registry.name,),
        }
        for registry in settings.registries.values()
        if registry.schedule is not None
    }
    every = settings.timing.reconcile
    entries["gc.reconcile"] = {
        "task": "gc.reconcile",
        # An interval of 60 s would drift through the minute.
        "schedule": crontab() if every == timedelta(minutes=1) else schedule(every),
        "options": {"expires": max(1.0, min(50.0, every.total_seconds() * 5 / 6))},  # no flood after an outage
    }
    return entries


class ZonedCron(BaseSchedule):
    """A cron line in its own time zone. Beat's file names this class: if it were renamed beat would not start."""

    def __init__(self, cron: str, zone: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cron = cron
        self.zone = zone

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return self._after(last_run_at) - self.now()

    def is_due(self, last_run_at: datetime) -> Any:
        """Whether the line has been due since `last_run_at`, and the seconds until beat asks again. Several missed
        times are due once. Raises ScheduleError, a ValueError: beat survives no other error here.
        """
        now = self.now()
        first = self._after(last_run_at)
        target = self._after(now) if first <= now else first
        return schedstate(first <= now, (target - now).total_seconds())

    def _after(self, moment: datetime) -> datetime:
        return due(self.cron, self.zone, moment, moment)[1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ZonedCron) and (other.cron, other.zone) == (self.cron, self.zone)

    def __hash__(self) -> int:
        return hash((self.cron, self.zone))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.cron, self.zone)  # without the application, which the base class would include

    def __repr__(self) -> str:
        return f"<{self.cron} {self.zone}>"


# Without Celery's fixups: they would load the DJANGO_SETTINGS_MODULE of another program from the environment.
app = Celery("registry-gc", loader=Loader, set_as_current=True, fixups=[])


def other_stores(settings: "Settings", own: str) -> bool:
    """Whether a running worker has another store than `own`. Raises NoRedisError, SecretError, and Redis's errors."""
    client = Celery(broker=celery_url(redis_url(settings)), set_as_current=False, fixups=[])
    options = SETTINGS["broker_transport_options"] | {"max_retries": 1}
    client.conf.update(SETTINGS | {"broker_transport_options": options})
    with client.connection_for_write() as connection:
        answers = client.control.broadcast(STORE_COMMAND, reply=True, timeout=1.0, connection=connection) or ()
    replies = [reply for answer in answers for reply in answer.values() if isinstance(reply, dict)]
    return any(reply.get("store", own) != own for reply in replies)


@signals.setup_logging.connect(weak=False)
def _configure_logs(loglevel: int = logging.INFO, **_kwargs: object) -> None:
    """Set up our logs instead of Celery's."""
    verbose = loglevel <= logging.DEBUG
    logs.configure(verbose=verbose)
    for name in ("celery.worker.strategy", "celery.app.trace", "celery.beat"):  # they log every task at INFO
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)
