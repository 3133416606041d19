"""The trigger API: opens a run, approves or stops one. Each route is one POST, behind the lock.

It can do what the command can, and nothing more: what is deleted is decided by the file, the plan and the sweep.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from msgspec import Struct
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from worker import runs
from worker.config import Settings
from worker.runs import (
    AlreadyRunningError,
    Bell,
    NotBlockedError,
    NothingToStopError,
    UnknownRegistryError,
    UnknownRunError,
)
from worker.store import Store, StoreError
from worker.store.migrate import SchemaError
from worker.web.body import body_of
from worker.web.door import Configuration
from worker.web.lock import RefusedError, let_in

log = structlog.get_logger(__name__)

Ring = Callable[[Iterable[Bell]], bool]
OpenStore = Callable[[], AbstractContextManager[Store]]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # of a registry, or a run's id
NOT_RUNG = "Redis takes no messages; what was asked for is recorded, and goes on as soon as beat and Redis are back"
MISTAKES = "the configuration file has mistakes; `registry-gc check` tells; nothing is started until it is mended"
STATUS: Mapping[type[Exception], int] = {
    UnknownRegistryError: 404,
    UnknownRunError: 404,
    AlreadyRunningError: 409,
    NotBlockedError: 409,
    NothingToStopError: 409,
    StoreError: 503,
    SchemaError: 503,
}


class Nothing(Struct, forbid_unknown_fields=True):
    """No field."""


class Sweep(Struct, forbid_unknown_fields=True):
    dry_run: bool = False  # true: end with the plan, whatever the file's mode says; false is only the default


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose caller is known and whose body is in order."""

    store: Store
    settings: Settings
    names: Mapping[str, str]  # of the path
    body: Any
    now: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """A route and what it does."""

    path: str
    body: type[Struct]
    do: Callable[[Asked], tuple[dict[str, Any], Iterable[Bell]]]
    # Only ever makes us delete less: done also while the file has mistakes, when workers delete nothing anyway.
    careful: bool = False


def start_run(asked: Asked) -> tuple[dict[str, Any], Iterable[Bell]]:
    """As `registry-gc sweep`."""
    name = asked.names["registry"]
    opened = runs.open_run(
        asked.store, asked.settings, name, trigger="web", now=asked.now, dry_run=bool(asked.body.dry_run)
    )
    return _run(asked.store, opened.run_id), opened.bells


def approve(asked: Asked) -> tuple[dict[str, Any], Iterable[Bell]]:
    """As `registry-gc approve`."""
    bells = runs.approve(asked.store, asked.settings, asked.names["run"], asked.now)
    return _run(asked.store, asked.names["run"]), bells


def abort(asked: Asked) -> tuple[dict[str, Any], Iterable[Bell]]:
    """As `registry-gc abort`."""
    bells = runs.abort(asked.store, asked.names["run"], asked.now)
    return _run(asked.store, asked.names["run"]), bells


def _run(store: Store, run_id: str) -> dict[str, Any]:
    run = runs.get(store, run_id)
    return {"run": run.id, "registry": run.registry, "mode": run.mode, "state": run.state, "outcome": run.outcome}


CHANGES = (
    Change("/api/registries/{registry}/runs", Sweep, start_run),
    Change("/api/runs/{run}/approve", Nothing, approve),
    Change("/api/runs/{run}/abort", Nothing, abort, careful=True),
)


def changing_routes(store: OpenStore, configuration: Callable[[], Configuration], ring: Ring) -> list[Route]:
    """Every route that changes anything. There is no other way to make one: the lock comes with it."""
    return [Route(change.path, _endpoint(change, store, configuration, ring), methods=["POST"]) for change in CHANGES]


def _endpoint(change: Change, store: OpenStore, configuration: Callable[[], Configuration], ring: Ring) -> Any:
    def carried_out(names: Mapping[str, str], body: Struct) -> dict[str, Any]:
        current = configuration()
        if current.mistakes and not change.careful:
            raise RefusedError(503, MISTAKES)
        try:
            with store() as opened:
                answer, bells = change.do(Asked(opened, current.settings, names, body, datetime.now(UTC)))
        except tuple(STATUS) as error:
            raise _refused(error) from error
        log.info("asked for by the web", action=change.do.__name__, **names)
        return answer if ring(bells) else answer | {"warning": NOT_RUNG}

    async def endpoint(request: Request) -> Response:
        authorizations = request.headers.getlist("authorization")
        try:
            await run_in_threadpool(lambda: let_in(configuration().settings.web, authorizations))
            _check_address(request)
            body = await body_of(request, change.body)
            return JSONResponse(await run_in_threadpool(carried_out, request.path_params, body), status_code=202)
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
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    refused = RefusedError(status, str(error))
    refused.run = getattr(error, "run_id", None)
    return refused


def ring_bells(bells: Iterable[Bell]) -> bool:
    """False: Redis is away or not configured, and the bells wait for reconcile."""
    from worker.app import UnusableError  # noqa: PLC0415 - Celery is loaded only where something is rung
    from worker.tasks import ring  # noqa: PLC0415 - as above

    try:
        return ring(bells)
    except UnusableError:
        return False
