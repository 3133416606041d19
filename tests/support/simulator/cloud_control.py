"""The control plane's commands that only Cloud Registry shows the effect of."""

from typing import TYPE_CHECKING, Any

from tests.support.simulator import cloud_messages
from tests.support.simulator.arguments import Command, ControlError, created_at, image_of, summary
from tests.support.simulator.cloud import status_of
from tests.support.simulator.cloud_artifacts import Artifact
from tests.support.simulator.cloud_filters import CHOICES, KINDS, TYPES
from tests.support.simulator.registry import DEFAULT_REGISTRY, id_from

if TYPE_CHECKING:
    from tests.support.simulator.server import Server


def artifacts(server: "Server", arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Every row of a registry that a call can see, derived folders apart."""
    state = server.state
    rows = state.artifact_store.artifacts(state.cloud.registries[arguments.get("registry", DEFAULT_REGISTRY)])
    return [shown(server, row) for row in rows if not row.derived]


def shown(server: "Server", row: Artifact) -> dict[str, Any]:
    return {
        "id": row.id,
        "path": cloud_messages.path_of(row, server.state.switches),
        "repository": row.folder,
        "name": row.name,
        "tag": row.tag,
        "kind": row.kind,
        "status": status_of(server.state, row),
        "image": row.image.id if row.image else "",
        "digest": row.image.digest if row.image else "",
    }


def push_other(server: "Server", arguments: dict[str, Any]) -> dict[str, Any]:
    """Something without Docker content at `path` ("docs/readme.txt"): `kind` FOLDER, PACKAGE or ARTIFACT."""
    kind, registry = arguments.get("kind", "ARTIFACT"), arguments.get("registry", DEFAULT_REGISTRY)
    if kind not in CHOICES["kind"] or registry not in server.state.cloud.registries:
        raise ControlError(f"no kind {kind!r} of artifacts, or no registry {registry!r}")
    folder, _, name = arguments["path"].strip("/").rpartition("/")
    at, others = created_at(server, arguments), server.state.artifact_store.others
    pushed = Artifact(
        id=id_from("other", registry, arguments["path"], str(len(others)), prefix="cn1"),
        registry=registry,
        folder=folder,
        name=name,
        created_at=at,
        modified_at=at,
        kind=kind,
        properties=arguments.get("properties", {}),
        labels=arguments.get("labels", {}),
    )
    others[pushed.id] = pushed
    return shown(server, pushed)


def set_artifact(server: "Server", arguments: dict[str, Any]) -> dict[str, Any]:
    """Gives the artifact `artifact` (an id) another `status`: CREATING, say, while it is being pushed."""
    row = server.state.artifact_store.get(arguments["artifact"])
    if row is None or arguments["status"] not in CHOICES["status"]:
        raise ControlError(f"no such artifact, or no such status: {arguments}")
    server.state.artifact_store.statuses[row.id] = arguments["status"]
    return shown(server, row)


def set_registry(server: "Server", arguments: dict[str, Any]) -> dict[str, Any]:
    """Makes a registry one of another `kind`, `type` or `status`."""
    registry = server.state.cloud.registries[arguments.get("registry", DEFAULT_REGISTRY)]
    known = {"kind": KINDS, "type": TYPES, "status": ("CREATING", "ACTIVE", "DELETING")}
    for name, choices in known.items():
        value = arguments.get(name, getattr(registry, name))
        if value not in choices:
            raise ControlError(f"{name}: one of {', '.join(choices)}, got {value!r}")
        setattr(registry, name, value)
    return {"id": registry.id, **{name: getattr(registry, name) for name in known}}


def soft_delete(server: "Server", arguments: dict[str, Any]) -> dict[str, Any]:
    """The registry's own policy deletes an image softly: nothing can be pulled, all bytes are still there."""
    image = image_of(server, arguments)
    image.softly_deleted_at = created_at(server, arguments)
    image.artifacts = None
    return summary(image)


COMMANDS: dict[str, Command] = {
    "artifacts": artifacts,
    "push_other": push_other,
    "set_artifact": set_artifact,
    "set_registry": set_registry,
    "soft_delete": soft_delete,
}
