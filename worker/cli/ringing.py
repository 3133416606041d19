"""Rings Celery's bells from the command. What is not rung is found by the next reconcile."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from worker.cli.errors import say

if TYPE_CHECKING:
    from worker.config.settings import Settings
    from worker.runs.lifecycle import Bell


def ring(settings: "Settings", bells: Iterable["Bell"], *, verbose: bool = False) -> bool:
    """False: Redis is away, not configured, or serves another store, which is said; the bells wait for reconcile."""
    os.environ["REGISTRY_GC_CONFIG"] = str(settings.path)  # the Celery application reads the file that we read
    from worker import logs  # noqa: PLC0415 - as below
    from worker.app import UnusableError  # noqa: PLC0415 - Celery is loaded only where something is rung
    from worker.processes.one_store import OtherStoreError, refuse_another  # noqa: PLC0415 - as above
    from worker.tasks import ring as ring_all  # noqa: PLC0415 - as above

    logs.configure(verbose=verbose)
    try:
        refuse_another(settings)
        return ring_all(bells)
    except OtherStoreError as error:
        say(f"warning: {error}")
        return False
    except UnusableError:
        return False
