"""Container Registry and Operations: their paths, parameters and answers."""

import re
import secrets
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from tests.simulator import messages
from tests.simulator.http import Reply, Request
from tests.simulator.operations import Fate
from tests.simulator.registry import DEFAULT_FOLDER, Image, Registry, Repository
from tests.simulator.state import Bookmark, State
from tests.simulator.status import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    NOT_FOUND,
    PERMISSION_DENIED,
    RefusedError,
    StatusError,
)

ROOT = "/container-registry/v1/"
NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*(/([a-z0-9]+(?:[._-][a-z0-9]+)*))*")
PAGE_LIFE = timedelta(seconds=60)  # of a token, where tokens expire
PAGING = {"pageSize", "pageToken", "filter", "orderBy"}
READ_ONLY = "The registry is in read-only mode: the service is being shut down"

Row = Image | Repository | Registry


def answer(state: State, request: Request, kinds: dict[str, dict[str, Any]]) -> Reply:
    """The answer to a signed-in call; `kinds` are the faults that struck it, with their arguments."""
    if request.path.startswith("/operations/"):
        return operation(state, request)
    if state.switches.phase == "gone":
        return Reply(404, b"404 page not found", content_type="text/plain")
    resource, _, rest = request.path.removeprefix(ROOT).partition("/")
    if request.method == "DELETE" and resource == "images" and rest:
        return delete_image(state, request, rest, kinds)
    if request.method != "GET":
        raise RefusedError(f"{request.method} {request.path}: not a method of the service", 405)
    if not state.switches.may_view:
        raise StatusError(PERMISSION_DENIED, "Permission denied")
    return get(state, request, resource, rest) if rest else list_of(state, request, resource, kinds)


def parameters(request: Request, known: set[str]) -> dict[str, str]:
    """The query's parameters, each once and each known; raises RefusedError."""
    found: dict[str, str] = {}
    for name, value in request.query:
        if name not in known:
            raise RefusedError(f"{request.path}: no parameter {name!r}")
        if name in found:
            raise RefusedError(f"{request.path}: parameter {name!r} twice")
        found[name] = value
    limits = {"pageToken": 100, "filter": 1000, "orderBy": 100}
    for name, value in found.items():
        if len(value) > limits.get(name, 50) and name != "repositoryName":
            raise RefusedError(f"{request.path}: {name} is longer than the service takes")
    return found


def delete_image(state: State, request: Request, image_id: str, kinds: dict[str, dict[str, Any]]) -> Reply:
    parameters(request, set())
    key = request.headers.get("idempotency-key", "")
    if key:
        try:
            uuid.UUID(key)
        except ValueError as error:
            raise RefusedError("Idempotency-Key is no UUID") from error
    if request.body:
        raise RefusedError("DELETE with a body")
    if state.switches.phase == "read_only":
        raise StatusError(FAILED_PRECONDITION, READ_ONLY)
    if not state.switches.may_delete:
        raise StatusError(PERMISSION_DENIED, "Permission denied")
    failure = kinds.get("fail_operation")
    fate = Fate(
        hang="hang_operation" in kinds,
        error=None
        if failure is None
        else (int(failure.get("code", 13)), str(failure.get("message", "Internal error"))),
    )
    accepted = state.operations.delete(image_id, key, state.switches, state.now(), fate)
    state.settle()  # of no duration at all: done at once
    return Reply(200, messages.operation(accepted, state.switches))


def operation(state: State, request: Request) -> Reply:
    operation_id = request.path.removeprefix("/operations/")
    if request.method != "GET" or "/" in operation_id or ":" in operation_id:
        raise RefusedError(f"{request.method} {request.path}: not a call of this client")
    parameters(request, set())
    held = state.operations.by_id.get(operation_id)
    if held is None:
        raise StatusError(NOT_FOUND, f"Operation {operation_id} not found")
    return Reply(200, messages.operation(held, state.switches))


def get(state: State, request: Request, resource: str, resource_id: str) -> Reply:
    parameters(request, set())
    if "/" in resource_id or ":" in resource_id or len(resource_id) > 50:
        raise RefusedError(f"{request.path}: not a call of this client", 404)
    if resource == "images":
        image = state.cloud.by_id.get(resource_id)
        if image is None:
            raise StatusError(NOT_FOUND, f"Image {resource_id} not found")
        home = state.cloud.registries[image.registry].repositories[image.repository]
        return Reply(200, messages.image(image, home, state.switches))
    if resource == "registries":
        return Reply(200, messages.registry(registry_of(state, resource_id), state.switches))
    if resource == "repositories":
        for registry in state.cloud.registries.values():
            for repository in registry.repositories.values():
                if repository.id == resource_id:
                    return Reply(200, messages.repository(repository, state.switches))
        raise StatusError(NOT_FOUND, f"Repository {resource_id} not found")
    raise RefusedError(f"{request.path}: no such resource", 404)


def registry_of(state: State, registry_id: str) -> Registry:
    registry = state.cloud.registries.get(registry_id)
    if registry is None:
        if state.switches.foreign_registry == 404:
            raise StatusError(NOT_FOUND, f"Registry {registry_id} not found")
        raise StatusError(PERMISSION_DENIED, "Permission denied")
    return registry


def list_of(state: State, request: Request, resource: str, kinds: dict[str, dict[str, Any]]) -> Reply:
    switches = state.switches
    if resource == "images":
        query = parameters(request, {"registryId", "repositoryName", "folderId", *PAGING})
        rows: list[Image] = images_in_scope(state, query)
        homes = {image.name: state.cloud.registries[image.registry].repositories[image.repository] for image in rows}
        newest = switches.list_order == "created_at"
        return page(
            state,
            request,
            resource,
            rows,
            image_key(newest),
            lambda row: messages.image(row, homes[row.name], switches),
            kinds,
        )
    if resource == "repositories":
        query = parameters(request, {"registryId", "folderId", *PAGING})
        found = list(registry_of(state, query.get("registryId", "")).repositories.values())
        return page(
            state,
            request,
            resource,
            found,
            lambda row: (row.id,),
            lambda row: messages.repository(row, switches),
            kinds,
        )
    if resource == "registries":
        query = parameters(request, {"folderId", *PAGING - {"orderBy"}})
        if query.get("folderId") != DEFAULT_FOLDER:
            raise StatusError(PERMISSION_DENIED, "Permission denied")
        registries = list(state.cloud.registries.values())
        return page(
            state,
            request,
            resource,
            registries,
            lambda row: (row.id,),
            lambda row: messages.registry(row, switches),
            kinds,
        )
    raise RefusedError(f"{request.path}: no such resource", 404)


def image_key(newest_first: bool) -> Callable[[Image], tuple[str, ...]]:
    """What images are sorted by: their ids, or their push times, newest first (as text that sorts backwards)."""
    if not newest_first:
        return lambda image: (image.id,)
    return lambda image: (f"{4_102_444_800 - image.created_at.timestamp():017.6f}", image.id)


def images_in_scope(state: State, query: dict[str, str]) -> list[Image]:
    if query.get("filter") or query.get("orderBy"):
        raise RefusedError("filter and orderBy of images are not simulated: sort and choose on the client")
    if name := query.get("repositoryName"):
        if not NAME.fullmatch(name):
            raise RefusedError(f"repositoryName {name!r} is outside the grammar")
        registry_id, _, path = name.partition("/")
        repository = registry_of(state, registry_id).repositories.get(path)
        if repository is None:
            if state.switches.missing_repository == "empty":
                return []
            raise StatusError(NOT_FOUND, f"Repository {name} not found")
        return list(repository.images.values())
    if registry_id := query.get("registryId", ""):
        return list(registry_of(state, registry_id).images())
    raise StatusError(INVALID_ARGUMENT, "One of registryId, repositoryName, folderId is required")


def page(
    state: State,
    request: Request,
    resource: str,
    rows: Sequence[Any],
    key: Callable[[Any], tuple[str, ...]],
    render: Callable[[Any], bytes],
    kinds: dict[str, dict[str, Any]],
) -> Reply:
    """One page of rows sorted by `key`; what is asked for and where a token goes on must belong together."""
    query = dict(request.query)
    size = page_size(query.get("pageSize", ""))
    scope = tuple(sorted((name, value) for name, value in query.items() if name not in {"pageToken", "pageSize"}))
    after = bookmark(state, query.get("pageToken", ""), (("resource", resource), *scope))
    if "repeated_page" in kinds:
        after = None
    ordered = sorted(rows, key=key)
    start = after if isinstance(after, int) else 0 if after is None else sum(1 for row in ordered if key(row) <= after)
    chosen = ordered[start : start + size]
    token = ""
    if start + size < len(ordered) or "endless_token" in kinds or "same_token" in kinds:
        shifting = state.switches.deletes_during_paging == "rows_shift"
        last = start + len(chosen) if shifting else key(chosen[-1]) if chosen else after
        token = "AAAAc2FtZQ" if "same_token" in kinds else secrets.token_urlsafe(18)
        state.bookmarks[token] = Bookmark((("resource", resource), *scope), last, state.now())
    return Reply(200, messages.listing(resource, [render(row) for row in chosen], token, state.switches))


def page_size(text: str) -> int:
    if not text:
        return 100
    if not text.isdigit() or int(text) > 1_000:
        raise RefusedError(f"pageSize {text!r} is not 0 to 1000")
    return int(text) or 100


def bookmark(state: State, token: str, query: tuple[tuple[str, str], ...]) -> tuple[str, ...] | int | None:
    if not token:
        return None
    found = state.bookmarks.get(token)
    if found is None or found.query != query:
        raise RefusedError("pageToken was not made for this query")
    if state.switches.page_token == "expires" and state.now() - found.issued_at > PAGE_LIFE:
        raise StatusError(INVALID_ARGUMENT, "Page token has expired")
    return found.after
