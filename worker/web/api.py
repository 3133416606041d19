"""The trigger API opens, approves and aborts runs, pauses and resumes registries. Each route is an authenticated POST.

The API can do what the command can, and nothing more: the file, the plan and the sweep decide what is deleted.
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

from worker.config.settings import Settings
from worker.logs import Log
from worker.runs import lifecycle
from worker.runs.lifecycle import TaskCall, UnknownRegistryError
from worker.runs.terms import changed_since_plan
from worker.store import Store, StoreError, holds
from worker.text import blanked, instant
from worker.web.authentication import RefusedError, authenticate
from worker.web.body import body_of
from worker.web.current import Configuration, OpenStore

log = Log(__name__)

Text = Annotated[str, Meta(max_length=500)]  # the command has the same limit
Publish = Callable[[Iterable[TaskCall]], bool]
Result = tuple[dict[str, Any], Iterable[TaskCall]]  # the response's JSON, and the tasks to publish


class NotPausedError(Exception):
    """The registry is not paused."""


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # a registry's name or a run's id
NOT_PUBLISHED = (
    "Redis accepts no messages; the change is recorded and is carried out as soon as beat and Redis are back"
)
MISTAKES = "the configuration file has mistakes, which `registry-gc check` lists; no run starts until they are fixed"
STATUS: Mapping[type[Exception], int] = {
    UnknownRegistryError: 404,
    lifecycle.UnknownRunError: 404,
    lifecycle.AlreadyRunningError: 409,
    lifecycle.NotBlockedError: 409,
    lifecycle.NothingToStopError: 409,
    NotPausedError: 409,
    StoreError: 503,
}


class ChangeBody(Struct, forbid_unknown_fields=True):
    who: Text = ""  # recorded as given: nothing verifies it


class RunBody(ChangeBody, forbid_unknown_fields=True):
    dry_run: bool = False  # true: the run ends with its plan; false: the file's mode decides


class PauseBody(ChangeBody, forbid_unknown_fields=True):
    reason: Text = ""


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """An authenticated request with a valid body."""

    store: Store
    settings: Settings
    names: Mapping[str, str]  # the path's parameters
    body: Any
    client: str  # the address that the request came from
    now: datetime

    @property
    def requested_by(self) -> str:
        """The `who` of the body, else the client's address."""
        return " ".join(blanked(self.body.who).split()) or f"web, from {self.client}"


@dataclass(frozen=True, slots=True)
class ChangeRoute:
    """A route and its function."""

    path: str
    body: type[Struct]
    do: Callable[[ChangeRequest], Result]
    only_restricts: bool = False  # it can only reduce deletions, so a file with mistakes does not block it
    status: int = 202  # accepted: a worker carries it out; 200: done


def start_run(request: ChangeRequest) -> Result:
    """As `registry-gc sweep`. Raises UnknownRegistryError, AlreadyRunningError, StoreError. The caller publishes the
    task calls.
    """
    name, dry_run = request.names["registry"], bool(request.body.dry_run)
    opened = lifecycle.open_run(
        request.store, request.settings, name, trigger="web", now=request.now, dry_run=dry_run, who=request.requested_by
    )
    return _run(request.store, opened.run_id), opened.task_calls


def approve(request: ChangeRequest) -> Result:
    """As `registry-gc approve`. Raises UnknownRunError, NotBlockedError, AlreadyRunningError, StoreError. The JSON has
    `warning` if the policy or the file has changed since the plan, which is carried out as it was made. The caller
    publishes the task calls.
    """
    name = request.names["run"]
    task_calls = lifecycle.approve(request.store, request.settings, name, request.now, who=request.requested_by)
    changed = changed_since_plan(request.settings, lifecycle.get(request.store, name))
    return _run(request.store, name) | ({} if changed is None else {"warning": changed}), task_calls


def abort(request: ChangeRequest) -> Result:
    """As `registry-gc abort`. Raises UnknownRunError, NothingToStopError, StoreError. The caller publishes the task
    calls.
    """
    task_calls = lifecycle.abort(request.store, request.names["run"], request.now, who=request.requested_by)
    return _run(request.store, request.names["run"]), task_calls


def pause(request: ChangeRequest) -> Result:
    """As `registry-gc pause`."""
    name = _paused_name(request)
    with request.store.write() as connection:
        reason = " ".join(blanked(request.body.reason).split())
        holds.pause_registry(connection, name, request.requested_by, reason, request.now)
        current = next(row for row in holds.pauses(connection) if row.registry == name)
    answer = {"registry": None if name == holds.ALL else name, "paused": True}
    return answer | {"since": instant(current.at), "who": current.who, "reason": current.reason}, ()


def resume(request: ChangeRequest) -> Result:
    """As `registry-gc resume`. Only resuming all registries ends a pause of all registries."""
    name = _paused_name(request)
    with request.store.write() as connection:
        resumed = holds.resume_registry(connection, name, request.requested_by, request.now)
        key = "" if name == holds.ALL else request.settings.registries[name].key
        remaining = holds.paused(connection, name, key)
    if resumed is None:
        subject = "all registries" if name == holds.ALL else name
        raise NotPausedError(remaining.sentence() if remaining else f"{subject}: not paused")
    answer = {"registry": None if name == holds.ALL else name, "paused": remaining is not None}
    return answer | {"resumed_by": resumed.resumed_by}, ()


def _paused_name(request: ChangeRequest) -> str:
    """The registry of the path, or all. Raises UnknownRegistryError."""
    name = request.names.get("registry")
    return holds.ALL if name is None else lifecycle.registry_named(request.settings, name).name


def _run(store: Store, run_id: str) -> dict[str, Any]:
    run = lifecycle.get(store, run_id)
    return {"run": run.id, "registry": run.registry, "mode": run.mode, "state": run.state, "outcome": run.outcome}


CHANGES = (
    ChangeRoute("/api/registries/{registry}/runs", RunBody, start_run),
    ChangeRoute("/api/runs/{run}/approve", ChangeBody, approve),
    ChangeRoute("/api/runs/{run}/abort", ChangeBody, abort, only_restricts=True),
    ChangeRoute("/api/registries/{registry}/pause", PauseBody, pause, only_restricts=True, status=200),
    ChangeRoute("/api/registries/{registry}/resume", ChangeBody, resume, status=200),
    ChangeRoute("/api/pause", PauseBody, pause, only_restricts=True, status=200),
    ChangeRoute("/api/resume", ChangeBody, resume, status=200),
)


def endpoint_of(
    route: ChangeRoute, store: OpenStore, configuration: Callable[[], Configuration], publish: Publish
) -> Any:
    """The endpoint of a route that changes something; it authenticates its caller first."""

    def carry_out(names: Mapping[str, str], body: Struct, client: str) -> dict[str, Any]:
        current = configuration()
        if current.mistakes and not route.only_restricts:
            raise RefusedError(503, MISTAKES)
        try:
            with store() as opened:
                request = ChangeRequest(opened, current.settings, names, body, client, datetime.now(UTC))
                answer, task_calls = route.do(request)
        except tuple(STATUS) as error:
            raise _refused(error) from error
        log.info("change_requested", action=route.do.__name__, client=client, **names)
        warnings = [answer["warning"]] if "warning" in answer else []
        warnings += [] if publish(task_calls) else [NOT_PUBLISHED]
        return answer | ({"warning": "; ".join(warnings)} if warnings else {})

    async def endpoint(request: Request) -> Response:
        authorizations = request.headers.getlist("authorization")
        try:
            await run_in_threadpool(lambda: authenticate(configuration().settings.web, authorizations))
            _check_address(request)
            body = await body_of(request, route.body)
            client = request.client.host if request.client else "an unknown address"
            answer = await run_in_threadpool(carry_out, request.path_params, body, client)
            return JSONResponse(answer, status_code=route.status)
        except RefusedError as refused:
            run = {} if refused.run is None else {"run": refused.run}
            return JSONResponse({"error": refused.message, **run}, status_code=refused.status, headers=refused.headers)

    return endpoint


def _check_address(request: Request) -> None:
    if request.url.query:
        raise RefusedError(400, "this address takes no query; send the fields in a JSON body")
    for kind, name in request.path_params.items():
        if not NAME.fullmatch(name):
            raise RefusedError(404, f"the {kind} in the address is not a valid name")


def _refused(error: Exception) -> RefusedError:
    if isinstance(error, StoreError):
        log.warning("store_unavailable", reason=str(error))
        return RefusedError(503, "the store cannot be used; the log says why")
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    if isinstance(error, UnknownRegistryError):  # its own text contains the file's path
        return RefusedError(status, f"no registry is named {error.name!r}; configured: {error.known}")
    return RefusedError(status, str(error), run=getattr(error, "run_id", None))


def publish_task_calls(task_calls: Iterable[TaskCall]) -> bool:
    """Publish task calls. False: Redis is unavailable or not configured; reconcile publishes the tasks later.

    The store already has what the calls are about: False is a warning, not an error.
    """
    from worker.tasks import publish  # noqa: PLC0415 - Celery is loaded only where something is enqueued

    return publish(task_calls)
