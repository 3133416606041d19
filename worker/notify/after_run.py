"""Executes `after_run` after a run that deleted images, for example the registry's own garbage collector.

At least once: an attempt is recorded before it starts and its success afterwards; a crash in between repeats it.
A failure is logged and does not change the run. `reconcile` publishes the tasks that are due.
"""

import logging
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from worker.config.files import PipeReader
from worker.logs import Log
from worker.registries.errors import BadResponseError, RegistryError
from worker.registries.http.client import Http
from worker.registries.http.messages import Request, Response, Retries
from worker.registries.http.rate_limit import LocalLimiter
from worker.registries.http.tokens import SecretBearer
from worker.runs.lifecycle import TaskCall
from worker.runs.outcome import run_json
from worker.store import Store, notices
from worker.store import runs as run_rows
from worker.text import one_line

if TYPE_CHECKING:
    from worker.config.settings import AfterRun, Settings

log = Log(__name__)

SECONDS = 60.0  # for one attempt
TRIES = 3
AGAIN = timedelta(minutes=2)  # between two attempts
OLD = timedelta(days=1)  # later it is not executed any more
TAIL = 300  # characters at the end of a command's output


class AfterRunError(Exception):
    """The command or request failed, with the reason."""


def task_calls(store: Store, settings: "Settings", now: datetime) -> tuple[TaskCall, ...]:
    """The runs whose `after_run` is due, once a minute. Raises StoreError. Closes the `after_run` of a run that deleted
    nothing, ended more than a day ago, or whose registry has none: one that is added later does not follow such a run.
    """
    registries = [registry.name for registry in settings.registries.values() if registry.after_run is not None]
    with store.write() as connection:
        notices.skip_after_runs(connection, registries, now - OLD)
        return tuple(TaskCall("gc.after_run", (run_id,)) for run_id in notices.due_after_runs(connection, now))


def start(store: Store, settings: "Settings", run_id: str, now: datetime, seconds: float = SECONDS) -> None:
    """Execute the `after_run` of a run. Safe to call twice, late, or never. Raises StoreError."""
    with store.write() as connection:
        tries = notices.claim_after_run(connection, run_id, now=now, again=now + AGAIN)
        run = run_rows.get(connection, run_id)
        registry = settings.registries.get(run.registry) if run is not None else None
        if tries is None or run is None or registry is None or registry.after_run is None:
            return
        if tries > TRIES:  # the last attempt did not end
            notices.finish_after_run(connection, run_id)
            return
    action = registry.after_run
    # Path, query and arguments may contain a secret.
    to = action.command[0] if action.command else urlsplit(action.url or "").netloc
    facts = {"run": run_id, "registry": run.registry, "try_": tries, "to": to}
    log.info("after_run_started", **facts)
    began = time.monotonic()
    try:
        content = msgspec.json.encode(run_json(run))
        _command(action.command, content, seconds) if action.command else _post(action, content, seconds)
    except AfterRunError as error:
        again = tries < TRIES
        level, what_next = (logging.WARNING, "will be tried again") if again else (logging.ERROR, "given up")
        log.log(level, "after_run_failed", **facts, reason=str(error), then=what_next)
        if again:
            return
    else:
        log.info("after_run_succeeded", **facts, seconds=round(time.monotonic() - began, 1))
    with store.write() as connection:
        notices.finish_after_run(connection, run_id)


def _command(command: Sequence[str], content: bytes, seconds: float) -> None:
    """Run a command with `content` as its standard input. Raises FollowingError."""
    with tempfile.TemporaryFile() as file:
        file.write(content + b"\n")
        file.seek(0)
        try:
            process = subprocess.Popen(
                command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise AfterRunError(f"the command cannot be started: {getattr(error, 'strerror', None) or error}") from None
    output = PipeReader(process.stdout, lambda read: read[-4096:])
    try:
        code = process.wait(seconds)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise  # the time limit of the task
        raise AfterRunError(f"the command did not end within {seconds:g} s") from None
    if code:
        lines = output.ended().decode(errors="replace").split("\n")
        last = one_line(next((line for line in reversed(lines) if line.strip()), ""))[-TAIL:]
        raise AfterRunError(f"the command ended with exit code {code}: {last or 'no output'}")


def _post(action: "AfterRun", content: bytes, seconds: float) -> None:
    """Send `content` to the URL. Raises FollowingError."""
    url = action.url or ""
    request = Request(
        method="POST",
        url=url,
        about=urlsplit(url).netloc,
        headers={"Content-Type": "application/json"},
        body=content,
        repeatable=False,
        paced=False,
        timeout=seconds,
    )
    with closing(Http("after_run", LocalLimiter(1.0), 1, Retries(attempts=1, total=seconds))) as client:
        try:
            client.call(request, _accepted, SecretBearer(action.token) if action.token else None)
        except RegistryError as error:
            raise AfterRunError(error.message) from None


def _accepted(response: Response) -> None:
    if not 200 <= response.status < 300:
        raise BadResponseError(f"answers {response.status}", status=response.status)
