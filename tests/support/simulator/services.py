"""Container Registry and Operations: their paths, parameters and answers."""

import re
import uuid
from typing import Any

from tests.support.simulator import messages
from tests.support.simulator.http import SimulatedRequest, SimulatedResponse
from tests.support.simulator.operations import ImageDeletion, OperationFault
from tests.support.simulator.pages import PagedList, by_id, newest_first, page
from tests.support.simulator.registry import DEFAULT_FOLDER, Image, Registry
from tests.support.simulator.state import State
from tests.support.simulator.status import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    NOT_FOUND,
    PERMISSION_DENIED,
    RefusedRequestError,
    StatusError,
)

ROOT = "/container-registry/v1/"
NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*(/([a-z0-9]+(?:[._-][a-z0-9]+)*))*")
PAGING = {"pageSize", "pageToken", "filter", "orderBy"}
LISTINGS = {
    "images": {"registryId", "repositoryName", "folderId", *PAGING},
    "repositories": {"registryId", "folderId", *PAGING},
    "registries": {"folderId", *PAGING - {"orderBy"}},
}
READ_ONLY = "The registry is in read-only mode: the service is being shut down"


def answer(state: State, request: SimulatedRequest, kinds: dict[str, dict[str, Any]]) -> SimulatedResponse:
    """The answer to a signed-in call; `kinds` are the faults that struck it, with their arguments."""
    if request.path.startswith("/operations/"):
        return operation(state, request)
    if state.switches.phase == "gone":
        return SimulatedResponse(404, b"404 page not found", content_type="text/plain")
    resource, _, rest = request.path.removeprefix(ROOT).partition("/")
    if request.method == "DELETE" and resource == "images" and rest:
        return delete_image(state, request, rest, kinds)
    if request.method != "GET":
        raise RefusedRequestError(f"{request.method} {request.path}: not a method of the service", 405)
    if not state.switches.may_view:
        raise StatusError(PERMISSION_DENIED, "Permission denied")
    return get(state, request, resource, rest) if rest else list_of(state, request, resource, kinds)


def parameters(request: SimulatedRequest, known: set[str]) -> dict[str, str]:
    """The query's parameters, each once and each known; raises RefusedError."""
    values: dict[str, str] = {}
    for name, value in request.query:
        if name not in known:
            raise RefusedRequestError(f"{request.path}: no parameter {name!r}")
        if name in values:
            raise RefusedRequestError(f"{request.path}: parameter {name!r} twice")
        values[name] = value
    limits = {"pageToken": 100, "filter": 1000, "orderBy": 100}
    for name, value in values.items():
        if len(value) > limits.get(name, 50) and name != "repositoryName":
            raise RefusedRequestError(f"{request.path}: {name} is longer than the service takes")
    return values


def key_of(request: SimulatedRequest) -> str:
    """The idempotency key of a deletion; raises RefusedError if the request is no deletion."""
    key = request.headers.get("idempotency-key", "")
    if key:
        try:
            uuid.UUID(key)
        except ValueError as error:
            raise RefusedRequestError("Idempotency-Key is no UUID") from error
    if request.body:
        raise RefusedRequestError("DELETE with a body")
    return key


def fate_of(kinds: dict[str, dict[str, Any]]) -> OperationFault:
    """The effect of a deletion's faults on its operation."""
    failure = kinds.get("fail_operation")
    if failure is None:
        return OperationFault(hang="hang_operation" in kinds)
    error = (int(failure.get("code", 13)), str(failure.get("message", "Internal error")))
    return OperationFault(hang="hang_operation" in kinds, error=error)


def delete_image(
    state: State, request: SimulatedRequest, image_id: str, kinds: dict[str, dict[str, Any]]
) -> SimulatedResponse:
    parameters(request, set())
    key = key_of(request)
    if state.switches.phase == "read_only":
        raise StatusError(FAILED_PRECONDITION, READ_ONLY)
    if not state.switches.may_delete:
        raise StatusError(PERMISSION_DENIED, "Permission denied")
    deletion = ImageDeletion(state.cloud, image_id)
    accepted = state.operations.delete(deletion, key, state.switches, state.now(), fate_of(kinds))
    state.settle()  # of no duration at all: done at once
    return SimulatedResponse(200, messages.operation(accepted, state.switches))


def operation(state: State, request: SimulatedRequest) -> SimulatedResponse:
    operation_id = request.path.removeprefix("/operations/")
    if request.method != "GET" or "/" in operation_id or ":" in operation_id:
        raise RefusedRequestError(f"{request.method} {request.path}: not a call of this client")
    parameters(request, set())
    held = state.operations.by_id.get(operation_id)
    if held is None:
        raise StatusError(NOT_FOUND, f"Operation {operation_id} not found")
    return SimulatedResponse(200, messages.operation(held, state.switches))


def get(state: State, request: SimulatedRequest, resource: str, resource_id: str) -> SimulatedResponse:
    parameters(request, set())
    if "/" in resource_id or ":" in resource_id or len(resource_id) > 50:
        raise RefusedRequestError(f"{request.path}: not a call of this client", 404)
    if resource == "images":
        image = state.cloud.by_id.get(resource_id)
        if image is None:
            raise StatusError(NOT_FOUND, f"Image {resource_id} not found")
        home = state.cloud.registries[image.registry].repositories[image.repository]
        return SimulatedResponse(200, messages.image(image, home, state.switches))
    if resource == "registries":
        return SimulatedResponse(200, messages.registry(registry_of(state, resource_id), state.switches))
    if resource == "repositories":
        for registry in state.cloud.registries.values():
            for repository in registry.repositories.values():
                if repository.id == resource_id:
                    return SimulatedResponse(200, messages.repository(repository, state.switches))
        raise StatusError(NOT_FOUND, f"Repository {resource_id} not found")
    raise RefusedRequestError(f"{request.path}: no such resource", 404)


def registry_of(state: State, registry_id: str) -> Registry:
    registry = state.cloud.registries.get(registry_id)
    if registry is None:
        if state.switches.foreign_registry == 404:
            raise StatusError(NOT_FOUND, f"Registry {registry_id} not found")
        raise StatusError(PERMISSION_DENIED, "Permission denied")
    return registry


def list_of(
    state: State, request: SimulatedRequest, resource: str, kinds: dict[str, dict[str, Any]]
) -> SimulatedResponse:
    if resource not in LISTINGS:
        raise RefusedRequestError(f"{request.path}: no such resource", 404)
    query = parameters(request, LISTINGS[resource])
    if resource == "images":
        listing = list_of_images(state, query)
    elif resource == "repositories":
        repositories = list(registry_of(state, query.get("registryId", "")).repositories.values())
        listing = PagedList(resource, repositories, by_id, lambda row: messages.repository(row, state.switches))
    else:
        if query.get("folderId") != DEFAULT_FOLDER:
            raise StatusError(PERMISSION_DENIED, "Permission denied")
        registries = list(state.cloud.registries.values())
        listing = PagedList(resource, registries, by_id, lambda row: messages.registry(row, state.switches))
    return page(state, listing, query, kinds)


def list_of_images(state: State, query: dict[str, str]) -> PagedList:
    rows = images_in_scope(state, query)
    homes = {image.name: state.cloud.registries[image.registry].repositories[image.repository] for image in rows}
    key = newest_first if state.switches.list_order == "created_at" else by_id
    return PagedList("images", rows, key, lambda row: messages.image(row, homes[row.name], state.switches))


def images_in_scope(state: State, query: dict[str, str]) -> list[Image]:
    if query.get("filter") or query.get("orderBy"):
        raise RefusedRequestError("filter and orderBy of images are not to be used: sort and choose on the client")
    if name := query.get("repositoryName"):
        if not NAME.fullmatch(name):
            raise RefusedRequestError(f"repositoryName {name!r} is outside the grammar")
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
