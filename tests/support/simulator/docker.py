"""The Docker Registry API: the token challenge, manifests in all four types, tags."""

import re
from typing import Any
from urllib.parse import quote

import orjson

from tests.support.simulator.http import SimulatedRequest, SimulatedResponse
from tests.support.simulator.registry import OCI_INDEX, OCI_MANIFEST, Image
from tests.support.simulator.sign_in import basic, issue_docker_token
from tests.support.simulator.state import State
from tests.support.simulator.status import RefusedRequestError

MANIFEST = re.compile(r"/v2/(?P<name>[^/]+/.+)/manifests/(?P<reference>[^/]+)")
TAGS = re.compile(r"/v2/(?P<name>[^/]+/.+)/tags/list")
SCOPE = re.compile(r"repository:(?P<name>[^:]+):pull")
TOKEN_PATHS = {"/v2/token/", "/v2/token"}


def answer(state: State, request: SimulatedRequest) -> SimulatedResponse:
    if request.method not in {"GET", "HEAD"}:
        raise RefusedRequestError(f"{request.method} {request.path}: not a call of this client", 405)
    if request.path in TOKEN_PATHS:
        return token(state, request)
    if request.path == "/v2/":
        return SimulatedResponse(200, b"{}") if signed_in(state, request, "") else challenge(state, request, "")
    match = MANIFEST.fullmatch(request.path) or TAGS.fullmatch(request.path)
    if match is None or request.query:
        raise RefusedRequestError(f"{request.method} {request.path}: no such call", 404)
    if not signed_in(state, request, match["name"]):
        return challenge(state, request, match["name"])
    return in_repository(state, request, match["name"], match.groupdict().get("reference", ""))


def in_repository(state: State, request: SimulatedRequest, name: str, reference: str) -> SimulatedResponse:
    """A manifest, or the tags where no reference is given."""
    if state.switches.ip_rules == "refuse" or not state.switches.may_pull:
        return problem(403, "DENIED", "requested access to the resource is denied")
    registry_id, _, path = name.partition("/")
    if registry_id not in state.cloud.registries:
        return problem(404, "NAME_UNKNOWN", f"Registry {registry_id} not found")
    repository = state.cloud.registries[registry_id].repositories.get(path)
    if repository is None:
        return problem(404, "NAME_UNKNOWN", f"Repository {name} not found")
    if not reference:
        tags = sorted(tag for tag, image in repository.tags.items() if not image.softly_deleted_at)
        return SimulatedResponse(200, orjson.dumps({"name": name, "tags": tags or None}))
    image = repository.images.get(reference) or repository.tags.get(reference)
    return manifest(request, None if image is None or image.softly_deleted_at else image)


def problem(status: int, code: str, message: str, detail: Any = None) -> SimulatedResponse:
    return SimulatedResponse(status, orjson.dumps({"errors": [{"code": code, "message": message, "detail": detail}]}))


def manifest(request: SimulatedRequest, image: Image | None) -> SimulatedResponse:
    """A manifest byte for byte, if the Accept list names its type."""
    if image is None:
        return problem(404, "MANIFEST_UNKNOWN", "manifest unknown")
    accepted = {part.partition(";")[0].strip() for part in request.headers.get("accept", "").split(",")}
    if image.media_type not in accepted and image.media_type in {OCI_MANIFEST, OCI_INDEX}:
        what = "OCI index" if image.is_index else "OCI manifest"
        return problem(404, "MANIFEST_UNKNOWN", f"{what} found, but accept header does not support it")
    headers = {"Docker-Content-Digest": image.digest, "Docker-Distribution-Api-Version": "registry/2.0"}
    return SimulatedResponse(200, image.manifest, content_type=image.media_type, headers=headers)


def signed_in(state: State, request: SimulatedRequest, name: str) -> bool:
    header = request.headers.get("authorization", "")
    kind, _, value = header.partition(" ")
    if kind != "Bearer":
        return basic(state, header)
    expires, names = state.docker_tokens.get(value, (None, set()))
    return expires is not None and state.now() < expires and (not name or name in names)


def challenge(state: State, request: SimulatedRequest, name: str) -> SimulatedResponse:
    """401 with where to get a token. A realm on a foreign host must not be followed with credentials."""
    host = "registry.example.net" if state.switches.docker_realm == "foreign_host" else request.host
    value = f'Bearer realm="http://{host}/v2/token/",service="{request.host}"'
    if name:
        value += f',scope="repository:{quote(name)}:pull"'
    response = problem(401, "UNAUTHORIZED", "authentication required")
    response.headers["WWW-Authenticate"] = value
    return response


def token(state: State, request: SimulatedRequest) -> SimulatedResponse:
    """A Bearer token for the scopes asked for, against Basic credentials."""
    unknown = {name for name, _ in request.query} - {"account", "scope", "service", "client_id"}
    if unknown:
        raise RefusedRequestError(f"{request.path}: no parameter {sorted(unknown)}")
    if dict(request.query).get("service") not in {request.host, None}:
        raise RefusedRequestError("the service asked for is another host")
    if not basic(state, request.headers.get("authorization", "")):
        return problem(401, "UNAUTHORIZED", "authentication required")
    names: set[str] = set()
    for scope in (value for name, value in request.query if name == "scope"):
        match = SCOPE.fullmatch(scope)
        if match is None:
            raise RefusedRequestError(f"scope {scope!r} asks for more than this client needs")
        names.add(match["name"])
    return SimulatedResponse(200, orjson.dumps(issue_docker_token(state, names)))
