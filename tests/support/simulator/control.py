"""The control plane, for tests and the demo: look into the registry, push, turn switches. No sign-in, loopback only."""

from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tests.support.simulator import cloud_control, fill
from tests.support.simulator.arguments import Command, ControlError, blob_from, created_at, image_of, summary
from tests.support.simulator.faults import InjectedFault
from tests.support.simulator.http import SimulatedRequest, SimulatedResponse
from tests.support.simulator.registry import (
    DEFAULT_FOLDER,
    DEFAULT_REGISTRY,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
)
from tests.support.simulator.switches import turned

if TYPE_CHECKING:
    from tests.support.simulator.server import Server

TYPES = {"oci": (OCI_MANIFEST, OCI_INDEX), "docker": (DOCKER_MANIFEST, DOCKER_INDEX)}


def answer(server: "Server", request: SimulatedRequest) -> SimulatedResponse:
    """POST /_control/NAME with a JSON object; GET where it takes nothing."""
    try:
        arguments = orjson.loads(request.body) if request.body else {}
        server.state.settle()
        result = run(server, request.path.removeprefix("/_control/"), arguments)
    except (ValueError, KeyError, TypeError) as error:
        return SimulatedResponse(400, orjson.dumps({"error": f"{type(error).__name__}: {error}"}))
    return SimulatedResponse(200, orjson.dumps(result))


def run(server: "Server", name: str, arguments: dict[str, Any]) -> Any:
    if name not in COMMANDS:
        raise ControlError(f"no command {name!r}; there are {', '.join(COMMANDS)}")
    return COMMANDS[name](server, arguments)


def filled_in(command: dict[str, Any], image: str = "", artifact: str = "") -> dict[str, Any]:
    """The command's arguments, with `{image}` and `{artifact}` replaced by those of the request."""
    named = {"{image}": image, "{artifact}": artifact}
    filled = {key: named.get(value, value) if isinstance(value, str) else value for key, value in command.items()}
    return {key: value for key, value in filled.items() if key != "command"}


def push(server: "Server", arguments: dict[str, Any]) -> dict[str, Any]:
    cloud = server.state.cloud
    registry = arguments.get("registry", DEFAULT_REGISTRY)
    path = arguments["repository"]
    unique = f"{registry} {path} {arguments.get('content') or cloud.registries[registry].pushes}"
    image = cloud.push(
        path,
        registry=registry,
        tags=arguments.get("tags", []),
        created_at=created_at(server, arguments),
        config=blob_from(arguments.get("config", 500), f"{unique} config"),
        media_type=TYPES[arguments.get("type", "oci")][0],
        layers=[blob_from(layer, f"{unique} {place}") for place, layer in enumerate(arguments.get("layers", [1_000]))],
        subject=arguments.get("subject"),
    )
    return summary(image)


def push_index(server: "Server", arguments: dict[str, Any]) -> dict[str, Any]:
    """An index over `children`: ids, tags of the repository, or digests, which need not be there."""
    cloud = server.state.cloud
    path, registry = arguments["repository"], arguments.get("registry", DEFAULT_REGISTRY)
    images = [cloud.by_id.get(child) or cloud.find(path, child, registry) for child in arguments["children"]]
    image = cloud.push_index(
        path,
        registry=registry,
        children=[image.digest if image else child for image, child in zip(images, arguments["children"], strict=True)],
        tags=arguments.get("tags", []),
        created_at=created_at(server, arguments),
        media_type=TYPES[arguments.get("type", "oci")][1],
        note=arguments.get("note", ""),
    )
    return summary(image)


def adopt(server: "Server", arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Pushes an index, in the same repository, that lists an image which is already there (by id)."""
    image = server.state.cloud.by_id.get(arguments["image"])
    if image is None:
        return None
    index = {"repository": image.repository, "registry": image.registry, "children": [image.digest], **arguments}
    return push_index(server, index)


def sign(server: "Server", arguments: dict[str, Any]) -> dict[str, Any]:
    """Cosign's signature of a digest: an image of its own with the tag `sha256-<hex>.sig` (or .att, .sbom)."""
    hexadecimal = arguments["digest"].removeprefix("sha256:")
    tag = f"sha256-{hexadecimal}.{arguments.get('suffix', 'sig')}"
    return push(server, {"layers": [250], "config": 230, **arguments, "tags": [tag]})


def tag(server: "Server", arguments: dict[str, Any]) -> dict[str, Any]:
    image = image_of(server, arguments)
    server.state.cloud.tag(image, arguments["tag"], created_at(server, arguments))
    return summary(image)


def untag(server: "Server", arguments: dict[str, Any]) -> None:
    image = image_of(server, {**arguments, "reference": arguments["tag"]})
    server.state.artifact_store.untag(image, arguments["tag"], server.state.now(), by_request=False)


def remove(server: "Server", arguments: dict[str, Any]) -> dict[str, Any]:
    """Somebody else deletes an image: not by a request, so not among `deleted`."""
    image = image_of(server, arguments)
    server.state.artifact_store.remove(image, server.state.now(), by_request=False)
    return summary(image)


def add_registry(server: "Server", arguments: dict[str, Any]) -> dict[str, Any]:
    registry = server.state.cloud.add_registry(
        arguments["id"], arguments.get("name", "other"), server.state.now().replace(microsecond=0)
    )
    return {"id": registry.id}


def switch(server: "Server", arguments: dict[str, Any]) -> dict[str, Any]:
    server.state.turn(turned(server.state.switches, arguments))
    return asdict(server.state.switches)


def fault(server: "Server", arguments: dict[str, Any]) -> dict[str, Any]:
    """`kind`, `method`, `path`, `times`, `after`, `probability`; the rest goes to the kind."""
    named = {"kind", "method", "path", "times", "after", "probability"}
    own = {key: value for key, value in arguments.items() if key in named}
    made = InjectedFault(**own, args={key: value for key, value in arguments.items() if key not in named})
    server.state.faults.append(made)
    return {"place": len(server.state.faults) - 1}


def no_faults(server: "Server", arguments: dict[str, Any]) -> None:
    server.state.faults.clear()


def clock(server: "Server", arguments: dict[str, Any]) -> dict[str, str]:
    """Moves the registry's clock `forward` by seconds; operations that are due by then finish."""
    server.state.offset += timedelta(seconds=float(arguments.get("forward", 0)))
    server.state.settle()
    return {"now": server.state.now().isoformat()}


def key(server: "Server", arguments: dict[str, Any]) -> None:
    """Registers the public half of a service account's key, or forgets it (`public_key` empty)."""
    if arguments.get("public_key"):
        server.state.keys[arguments["id"]] = (arguments["service_account_id"], arguments["public_key"])
    else:
        server.state.keys.pop(arguments["id"], None)


def subject(server: "Server", arguments: dict[str, Any]) -> None:
    """Links a pod's token to a service account, or unlinks it (`service_account_id` empty)."""
    if arguments.get("service_account_id"):
        server.state.subjects[arguments["token"]] = arguments["service_account_id"]
    else:
        server.state.subjects.pop(arguments["token"], None)


def token(server: "Server", arguments: dict[str, Any]) -> dict[str, str]:
    return {"token": server.state.issue_token()}


def tokens(server: "Server", arguments: dict[str, Any]) -> dict[str, list[str]]:
    """Every token that was issued, for tests that search for leaked tokens."""
    return {"iam": list(server.state.tokens), "docker": list(server.state.docker_tokens)}


def expire_tokens(server: "Server", arguments: dict[str, Any]) -> None:
    server.state.expire_tokens()


def reset(server: "Server", arguments: dict[str, Any]) -> None:
    server.reset()


def fill_up(server: "Server", arguments: dict[str, Any]) -> dict[str, int]:
    """`what`: demo, empty, a number, or a file: a JSON list of commands (`command` absent: push)."""
    what = str(arguments.get("what", "demo"))
    if what.endswith(".json"):
        for command in orjson.loads(Path(what).read_bytes()):
            run(server, command.get("command", "push"), filled_in(command))
        return {"images": len(server.state.cloud.by_id)}
    now = datetime.fromisoformat(arguments["now"]) if arguments.get("now") else server.state.now()
    return fill.fill(server.state.cloud, what, now, int(arguments.get("seed", 1)))


def push_more(server: "Server", arguments: dict[str, Any]) -> dict[str, int]:
    return fill.push_more(
        server.state.cloud, int(arguments.get("count", 100)), server.state.now(), int(arguments.get("seed", 2))
    )


def about(server: "Server", arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "registry_id": DEFAULT_REGISTRY,
        "folder_id": DEFAULT_FOLDER,
        "token": server.state.token,
        "switches": asdict(server.state.switches),
    }


def images(server: "Server", arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Every image there is, or of one `repository` or `registry`."""
    wanted = arguments.get("repository")
    registry = server.state.cloud.registries[arguments.get("registry", DEFAULT_REGISTRY)]
    return [summary(image) for image in registry.images() if wanted is None or image.repository == wanted]


def requests(server: "Server", arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """The log of requests, filtered by `method` and the start of the `path`; `since` skips the first requests."""
    method, path = arguments.get("method", ""), arguments.get("path", "")
    chosen = server.state.log[int(arguments.get("since", 0)) :]
    return [asdict(asked) for asked in chosen if asked.path.startswith(path) and method in {"", asked.method}]


def state(server: "Server", arguments: dict[str, Any]) -> dict[str, Any]:
    """The state that a test asserts on at its end. Bytes are of the registry `registry`."""
    held = server.state
    registry = held.cloud.registries[arguments.get("registry", DEFAULT_REGISTRY)]
    operations = list(held.operations.by_id.values())
    return {
        "images": len(held.cloud.by_id),
        "images_by_repository": {path: len(repository.images) for path, repository in registry.repositories.items()},
        "registry_bytes": registry.bytes,
        "lost_bytes": registry.lost_bytes,
        "lost_bytes_by_request": registry.lost_bytes_by_request,
        "size_metric": held.size_metric(registry),
        "deleted": [summary(image) | {"tags": image.deleted_tags + image.tags} for image in held.cloud.deleted],
        "deletes": held.deletes,
        "operations": {
            "all": len(operations),
            "done": sum(1 for operation in operations if operation.done),
            "failed": sum(1 for operation in operations if operation.error),
        },
        "requests": len(held.log),
        "refused": held.refused,
        "faults": [{"kind": fault.kind, "struck": fault.struck} for fault in held.faults],
        "now": held.now().isoformat(),
    }


COMMANDS: dict[str, Command] = {
    "about": about,
    "state": state,
    "images": images,
    "requests": requests,
    "push": push,
    "push_index": push_index,
    "adopt": adopt,
    "sign": sign,
    "tag": tag,
    "untag": untag,
    "remove": remove,
    "add_registry": add_registry,
    "fill": fill_up,
    "push_more": push_more,
    "switch": switch,
    "fault": fault,
    "no_faults": no_faults,
    "clock": clock,
    "key": key,
    "subject": subject,
    "token": token,
    "tokens": tokens,
    "expire_tokens": expire_tokens,
    "reset": reset,
    **cloud_control.COMMANDS,
}
