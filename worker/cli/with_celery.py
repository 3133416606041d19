"""What a command does with Celery: enqueue tasks, or become one of its processes."""

import os
import sys
import warnings
from collections.abc import Iterable

from celery.bin.celery import celery
from celery.exceptions import SecurityWarning

from worker import logs
from worker.app import app
from worker.config.settings import Settings
from worker.runs.lifecycle import TaskCall
from worker.tasks import publish


def enqueue(settings: Settings, task_calls: Iterable[TaskCall], *, verbose: bool = False) -> bool:
    """False: Redis is away, or not configured; the tasks wait for reconcile."""
    os.environ["REGISTRY_GC_CONFIG"] = str(settings.path)  # the Celery application reads the file that we read
    logs.configure(verbose=verbose)
    return publish(task_calls)


def become(*words: str, verbose: bool) -> None:
    """Become this part of Celery, with its exit code: `app.start` would lose that of a worker that fell over."""
    # It warns root of pickle, which our application does not accept; in a container root may be all there is.
    warnings.simplefilter("ignore", SecurityWarning)
    celery.params[0].default = app
    sys.exit(celery.main(["--quiet", *words, "-l", "DEBUG" if verbose else "INFO"], "celery", standalone_mode=False))
