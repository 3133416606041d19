"""The Celery side of commands: enqueue tasks, or run a Celery process."""

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
    """Publish task calls. False: Redis is unavailable or not configured; reconcile enqueues the tasks later. Configures
    the logs of this process, and sets its REGISTRY_GC_CONFIG to the file of `settings`.
    """
    os.environ["REGISTRY_GC_CONFIG"] = str(settings.path)  # the Celery application reads the same file
    logs.configure(verbose=verbose)
    return publish(task_calls)


def become(*words: str, verbose: bool) -> None:
    """Run a Celery subcommand and exit with its code; `app.start` would lose the code of a failed worker."""
    # Celery warns root about pickle. Our application does not accept pickle, and a container may have only root.
    warnings.simplefilter("ignore", SecurityWarning)
    celery.params[0].default = app
    sys.exit(celery.main(["--quiet", *words, "-l", "DEBUG" if verbose else "INFO"], "celery", standalone_mode=False))
