"""Cloud Registry: its paths, parameters and answers.

The images are those of the other service. A listing has rows of the kind FOLDER, too, for each level above an image;
they and whatever is no Docker artifact are never to be deleted by this client: that is refused and recorded.
"""

from collections.abc import Iterable
from typing import Any

from tests.support.simulator import cloud_messages, messages
from tests.support.simulator.cloud_artifacts import Artifact, ArtifactDeletion
from tests.support.simulator.cloud_filters import CHOICES, KINDS, TYPES, Query
from tests.support.simulator.http import SimulatedRequest, SimulatedResponse
from tests.support.simulator.pages import PagedList, by_id, newest_first, page
from tests.support.simulator.registry import DEFAULT_FOLDER, Registry
from tests.support.simulator.services import fate_of, key_of, registry_of
from tests.support.simulator.state import State
from tests.support.simulator.status import (
    INVALID_ARGUMENT,
    NOT_FOUND,
    PERMISSION_DENIED,
    RESOURCE_EXHAUSTED,
    RefusedRequestError,
    StatusError,
    status_response,
)

ROOT = "/cloud-registry/v1/"
ARTIFACTS = ROOT + "artifacts/"
PAGING = {"pageSize", "pageToken"}
Kinds = dict[str, dict[str, Any]]


def answer(state: State, request: SimulatedRequest, kinds: Kinds) -> SimulatedResponse:
    """The answer to a signed-in call; `kinds` are the faults that struck it, with their arguments."""
    resource, _, rest = request.path.removeprefix(ROOT).partition("/")
    if request.method == "DELETE" and resource == "artifacts" and rest:
        return delete_artifact(state, request, plain(request, rest), kinds)
    if request.method != "GET":
        raise RefusedRequestError(f"{request.method} {request.path}: not a method for this client", 405)
    if not state.switches.may_view:
        raise lacking(state, request.path)
    if resource == "artifacts":
        return get_artifact(state, request, rest) if rest else list_of_artifacts(state, request, kinds)
    if resource == "registries":
        return in_registries(state, request, rest, kinds)
    raise RefusedRequestError(f"{request.path}: no such resource", 404)


def plain(request: SimulatedRequest, text: str) -> str:
    """An id: one segment without a verb."""
    if "/" in text or ":" in text or len(text) > 50:
        raise RefusedRequestError(f"{request.path}: not a call of this client", 404)
    return text


def lacking(state: State, what: str) -> StatusError:
    if state.switches.lacking_role == "not_found":
        return StatusError(NOT_FOUND, f"{what} not found")
    return StatusError(PERMISSION_DENIED, "Permission denied")


# Registries


def in_registries(state: State, request: SimulatedRequest, rest: str, kinds: Kinds) -> SimulatedResponse:
    """`…/registries`, and one of them: itself, one level of its tree, or the artifact at a path."""
    if not rest:
        return list_of_registries(state, request, kinds)
    if rest.endswith(":listArtifacts"):
        return list_of_level(state, request, plain(request, rest.removesuffix(":listArtifacts")), kinds)
    if rest.endswith("/artifacts:getByPath"):
        return get_by_path(state, request, plain(request, rest.removesuffix("/artifacts:getByPath")))
    Query(request, set())
    return SimulatedResponse(200, cloud_messages.registry(registry_of(state, plain(request, rest)), state.switches))


def list_of_registries(state: State, request: SimulatedRequest, kinds: Kinds) -> SimulatedResponse:
    choices = {"kind": KINDS, "type": TYPES, "status": ("CREATING", "ACTIVE", "DELETING")}
    query = Query(request, {"folderId", "nameFilter", *PAGING}, choices)
    if not query.single("folderId"):
        raise RefusedRequestError(f"{request.path}: folderId is required")
    named = query.equation("nameFilter", "name")
    rows = [
        row
        for row in in_folder(state, query.single("folderId"))
        if named(row.name)
        and all(getattr(row, name) in (query.several(name) or [getattr(row, name)]) for name in choices)
    ]
    listing = PagedList(
        "registries",
        rows,
        by_id,
        lambda row: cloud_messages.registry(row, state.switches),
        state.switches.default_page_size,
    )
    return page(state, listing, query.paging(), kinds)


def in_folder(state: State, folder_id: str) -> Iterable[Registry]:
    if folder_id != DEFAULT_FOLDER:
        raise StatusError(PERMISSION_DENIED, "Permission denied")
    return state.cloud.registries.values()


# Artifacts


def status_of(state: State, artifact: Artifact) -> str:
    """DELETING while its operation runs, where deleted ones stay to be seen."""
    if artifact.id in state.artifact_store.statuses:
        return state.artifact_store.statuses[artifact.id]
    is_going = artifact.id in state.operations.deleting and artifact.status != "DELETED"
    return "DELETING" if is_going and state.switches.after_deletion == "status" else artifact.status


def rendered(state: State, artifact: Artifact) -> bytes:
    return cloud_messages.artifact(artifact, status_of(state, artifact), state.switches)


def page_of(state: State, rows: list[Artifact], query: Query, kinds: Kinds) -> SimulatedResponse:
    usual = newest_first if state.switches.list_order == "created_at" else by_id
    listing = PagedList(
        "artifacts",
        rows,
        query.order() or usual,
        lambda row: rendered(state, row),
        state.switches.default_page_size,
    )
    return page(state, listing, query.paging(), kinds)


def list_of_artifacts(state: State, request: SimulatedRequest, kinds: Kinds) -> SimulatedResponse:
    """The flat list of a registry or a folder: folders, deleted ones and all, unless the filters say otherwise."""
    single = {"folderId", "registryId", "nameFilter", "pathFilter", "createdAfter", "createdBefore", "orderBy"}
    query = Query(request, single | PAGING, CHOICES | {"labels": ()})
    rows = [
        row
        for registry in in_scope(state, query)
        if registry.kind in (query.several("registryKind") or KINDS)
        and registry.type in (query.several("registryType") or TYPES)
        for row in state.artifact_store.artifacts(registry)
    ]
    return page_of(state, narrowed(state, rows, query), query, kinds)


def in_scope(state: State, query: Query) -> Iterable[Registry]:
    registry_id, folder_id = query.single("registryId"), query.single("folderId")
    if registry_id and folder_id and state.switches.both_scopes == "refused":
        raise StatusError(INVALID_ARGUMENT, "Only one of registryId, folderId may be given")
    if folder_id and not (registry_id and state.switches.both_scopes == "registry_wins"):
        return in_folder(state, folder_id)
    if registry_id:
        return [registry_of(state, registry_id)]
    raise StatusError(INVALID_ARGUMENT, "One of registryId, folderId is required")


def narrowed(state: State, rows: list[Artifact], query: Query) -> list[Artifact]:
    named, at_path = query.equation("nameFilter", "name"), query.equation("pathFilter", "path")
    inside, labels = query.window(), query.labels().items()
    kinds, statuses = query.several("kind") or CHOICES["kind"], query.several("status") or CHOICES["status"]
    return [
        row
        for row in rows
        if row.kind in kinds
        and inside(row.created_at)
        and status_of(state, row) in statuses
        and named(row.name)
        and at_path(cloud_messages.path_of(row, state.switches))
        and labels <= row.labels.items()
    ]


def list_of_level(state: State, request: SimulatedRequest, registry_id: str, kinds: Kinds) -> SimulatedResponse:
    query = Query(request, {"path", *PAGING})
    registry = registry_of(state, registry_id)
    folder = query.single("path").strip("/")
    below = state.artifact_store.in_folder(registry, folder)
    is_known = not folder or below or state.artifact_store.at(registry, folder)
    if not is_known and state.switches.missing_repository == "not_found":
        raise StatusError(NOT_FOUND, f"Path {folder} not found")
    return page_of(state, below, query, kinds)


def get_artifact(state: State, request: SimulatedRequest, artifact_id: str) -> SimulatedResponse:
    Query(request, set())
    artifact = state.artifact_store.get(plain(request, artifact_id))
    if artifact is None:
        raise StatusError(NOT_FOUND, f"Artifact {artifact_id} not found")
    return SimulatedResponse(200, rendered(state, artifact))


def get_by_path(state: State, request: SimulatedRequest, registry_id: str) -> SimulatedResponse:
    """By the full path, whatever `path` shows; of several the one that is still there."""
    query = Query(request, {"path"})
    place = query.single("path").strip("/")
    if not place:
        raise RefusedRequestError(f"{request.path}: path is required")
    artifacts = state.artifact_store.at(registry_of(state, registry_id), place)
    if not artifacts:
        raise StatusError(NOT_FOUND, f"Artifact {place} not found")
    return SimulatedResponse(200, rendered(state, min(artifacts, key=lambda row: status_of(state, row) == "DELETED")))


def delete_artifact(state: State, request: SimulatedRequest, artifact_id: str, kinds: Kinds) -> SimulatedResponse:
    query = Query(request, set(), {"withHistory": ("true", "false")})
    key = key_of(request)
    if not state.switches.may_delete:
        raise lacking(state, f"Artifact {artifact_id}")
    if state.switches.migration == "unfinished":
        response = status_response(RESOURCE_EXHAUSTED, "The registry is being migrated")
        response.headers["Retry-After"] = str(state.switches.retry_after or 1)
        return response
    artifact = state.artifact_store.get(artifact_id)
    if artifact is not None:
        deletable(state, artifact)
    deletion = ArtifactDeletion(state.artifact_store, artifact_id, query.single("withHistory") == "true")
    accepted = state.operations.delete(deletion, key, state.switches, state.now(), fate_of(kinds))
    state.settle()  # of no duration at all: done at once
    return SimulatedResponse(200, messages.operation(accepted, state.switches))


def deletable(state: State, artifact: Artifact) -> None:
    """Raises RefusedError for an artifact that the client must not delete."""
    registry = state.cloud.registries[artifact.registry]
    if artifact.image is None or artifact.kind != "ARTIFACT":
        raise RefusedRequestError(f"DELETE {artifact.place}: not a Docker artifact")
    if registry.kind != "DOCKER" or registry.type in {"REMOTE", "VIRTUAL"}:
        raise RefusedRequestError(
            f"DELETE {artifact.place}: in a registry of the kind {registry.kind}, type {registry.type}"
        )
    if artifact.image.softly_deleted_at is not None:
        raise RefusedRequestError(f"DELETE {artifact.place}: the registry's policy has deleted it softly")
