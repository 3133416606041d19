"""The trigger API: opens a run, approves or stops one, pauses and resumes. Each route is one POST, behind the lock.

It can do what the command can, and nothing more: what is deleted is decided by the file, the plan and the sweep.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from worker.config.settings import Settings
from worker.logs import Log
from worker.runs import lifecycle
from worker.runs.lifecycle import TaskCall, UnknownRegistryError
from worker.runs.terms import changed_since_plan
from worker.store import Store, StoreError, holds
from worker.text import blanked, instant
from worker.web.body import body_of
from worker.web.door import Configuration, OpenStore
from worker.web.lock import RefusedError, let_in

log = Log(__name__)

Text = Annotated[str, Meta(max_length=500)]  # as long as the command takes one
Publish = Callable[[Iterable[TaskCall]], bool]
Done = tuple[dict[str, Any], Iterable[TaskCall]]  # the answer, and what is to be rung


class NotPausedError(Exception):
    """There is nothing to resume."""


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # of a registry, or a run's id
NOT_PUBLISHED = (
    "Redis takes no messages; what was asked for is recorded, and goes on as soon as beat and Redis are back"
)
MISTAKES = "the configuration file has mistakes; `registry-gc check` tells; nothing is started until it is mended"
STATUS: Mapping[type[Exception], int] = {
    UnknownRegistryError: 404,
    lifecycle.UnknownRunError: 404,
    lifecycle.AlreadyRunningError: 409,
    lifecycle.NotBlockedError: 409,
    lifecycle.NothingToStopError: 409,
    NotPausedError: 409,
    StoreError: 503,
}


class Person(Struct, forbid_unknown_fields=True):
    who: Text = ""  # for the record; whoever has the token may say anything


class Sweep(Person, forbid_unknown_fields=True):
    dry_run: bool = False  # true: end with the plan, whatever the file's mode says; false is only the default


class Pause(Person, forbid_unknown_fields=True):
    reason: Text = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose caller is known and whose body is in order."""

    store: Store
    settings: Settings
    names: Mapping[str, str]  # of the path
    body: Any
    client: str  # the address that the request came from
    now: datetime

    @property
    def who(self) -> str:
        """Who asks: by their own word, else by where the request came from."""
        return " ".join(blanked(self.body.who).split()) or f"web, from {self.client}"


@dataclass(frozen=True, slots=True)
class Change:
    """A route and what it does."""

    path: str
    body: type[Struct]
    do: Callable[[Asked], Done]
    # Only ever makes us delete less: done also while the file has mistakes, when workers delete nothing anyway.
    careful: bool = False
    status: int = 202  # taken; 200: done


def start_run(asked: Asked) -> Done:
    """As `registry-gc sweep`."""
    name, dry_run = asked.names["registry"], bool(asked.body.dry_run)
    opened = lifecycle.open_run(
        asked.store, asked.settings, name, trigger="web", now=asked.now, dry_run=dry_run, who=asked.who
    )
    return _run(asked.store, opened.run_id), opened.task_calls


def approve(asked: Asked) -> Done:
    """As `registry-gc approve`."""
    name = asked.names["run"]
    task_calls = lifecycle.approve(asked.store, asked.settings, name, asked.now, who=asked.who)
    changed = changed_since_plan(asked.settings, lifecycle.get(asked.store, name))
    return _run(asked.store, name) | ({} if changed is None else {"warning": changed}), task_calls


def abort(asked: Asked) -> Done:
    """As `registry-gc abort`."""
    task_calls = lifecycle.abort(asked.store, asked.names["run"], asked.now, who=asked.who)
    return _run(asked.store, asked.names["run"]), task_calls


def pause(asked: Asked) -> Done:
    """As `registry-gc pause`."""
    name = _paused_name(asked)
    with asked.store.write() as connection:
        reason = " ".join(blanked(asked.body.reason).split())
        holds.pause_registry(connection, name, asked.who, reason, asked.now)
        paused = next(one for one in holds.pauses(connection) if one.registry == name)
    told = {"since": instant(paused.at), "who": paused.who, "reason": paused.reason}
    return {"registry": None if name == holds.ALL else name, "paused": True, **told}, ()


def resume(asked: Asked) -> Done:
    """As `registry-gc resume`. What was paused for all is resumed for all only."""
    name = _paused_name(asked)
    with asked.store.write() as connection:
        resumed = holds.resume_registry(connection, name, asked.who, asked.now)
        key = "" if name == holds.ALL else asked.settings.registries[name].key
        left = holds.paused(connection, name, key)
    if resumed is None:
        raise NotPausedError(left.sentence() if left else f"{'all' if name == holds.ALL else name}: not paused")
    answer = {"registry": None if name == holds.ALL else name, "paused": left is not None}
    return answer | {"resumed_by": resumed.resumed_by}, ()


def _paused_name(asked: Asked) -> str:
    """The registry of the path, or all. Raises UnknownRegistryError."""
    name = asked.names.get("registry")
    return holds.ALL if name is None else lifecycle.registry_named(asked.settings, name).name


def _run(store: Store, run_id: str) -> dict[str, Any]:
    run = lifecycle.get(store, run_id)
    return {"run": run.id, "registry": run.registry, "mode": run.mode, "state": run.state, "outcome": run.outcome}


CHANGES = (
    Change("/api/registries/{registry}/runs", Sweep, start_run),
    Change("/api/runs/{run}/approve", Person, approve),
    Change("/api/runs/{run}/abort", Person, abort, careful=True),
    Change("/api/registries/{registry}/pause", Pause, pause, careful=True, status=200),
    Change("/api/registries/{registry}/resume", Person, resume, status=200),
    Change("/api/pause", Pause, pause, careful=True, status=200),
    Change("/api/resume", Person, resume, status=200),
)


def changing_routes(store: OpenStore, configuration: Callable[[], Configuration], publish: Publish) -> list[Route]:
    """Every route that changes anything. There is no other way to make one: the lock comes with it."""
    return [
        Route(change.path, _endpoint(change, store, configuration, publish), methods=["POST"]) for change in CHANGES
    ]


def _endpoint(change: Change, store: OpenStore, configuration: Callable[[], Configuration], publish: Publish) -> Any:
    def carried_out(names: Mapping[str, str], body: Struct, client: str) -> dict[str, Any]:
        current = configuration()
        if current.mistakes and not change.careful:
            raise RefusedError(503, MISTAKES)
        try:
            with store() as opened:
                answer, task_calls = change.do(Asked(opened, current.settings, names, body, client, datetime.now(UTC)))
        except tuple(STATUS) as error:
            raise _refused(error) from error
        log.info("change_requested", action=change.do.__name__, client=client, **names)
        warnings = [answer["warning"]] if "warning" in answer else []
        warnings += [] if publish(task_calls) else [NOT_PUBLISHED]
        return answer | ({"warning": "; ".join(warnings)} if warnings else {})

    async def endpoint(request: Request) -> Response:
        authorizations = request.headers.getlist("authorization")
        try:
            await run_in_threadpool(lambda: let_in(configuration().settings.web, authorizations))
            _check_address(request)
            body = await body_of(request, change.body)
            client = request.client.host if request.client else "nowhere"
            answer = await run_in_threadpool(carried_out, request.path_params, body, client)
            return JSONResponse(answer, status_code=change.status)
        except RefusedError as refused:
            run = {} if refused.run is None else {"run": refused.run}
            return JSONResponse({"error": refused.message, **run}, status_code=refused.status, headers=refused.headers)

    return endpoint


def _check_address(request: Request) -> None:
    if request.url.query:
        raise RefusedError(400, "this takes no query: what is wanted stands in the body")
    for kind, name in request.path_params.items():
        if not NAME.fullmatch(name):
            raise RefusedError(404, f"no {kind} can have such a name")


def _refused(error: Exception) -> RefusedError:
    if isinstance(error, StoreError):
        log.warning("store_unavailable", reason=str(error))
        return RefusedError(503, "the store cannot be used; the log says why")
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    if isinstance(error, UnknownRegistryError):  # without the file's path
        return RefusedError(status, f"no registry is named {error.name!r}; configured: {error.known}")
    return RefusedError(status, str(error), run=getattr(error, "run_id", None))


def publish_task_calls(task_calls: Iterable[TaskCall]) -> bool:
    """False: Redis is away or not configured, and the bells wait for reconcile."""
    from worker.tasks import publish  # noqa: PLC0415 - Celery is loaded only where something is enqueued

    return publish(task_calls)
