"""How a deletion is asked for, and each meaning of its refusal."""

import json

import pytest

from worker.registries.errors import (
    BadResponseError,
    MaybeProtectedError,
    NotFoundError,
    PermanentlyReadOnlyError,
    PermissionDeniedError,
    ProtectedError,
    RateLimitedError,
    ReadOnlyError,
    RegistryError,
    SignInError,
    UnavailableError,
    UsedByImageListsError,
)
from worker.registries.http.messages import Response
from worker.registries.oci import deletion

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


SYSTEMIC = (
    PermanentlyReadOnlyError,
    ReadOnlyError,
    PermissionDeniedError,
    MaybeProtectedError,
    SignInError,
    UnavailableError,
)


ROOT = "https://registry.example.com"


API = f"{ROOT}/v2"


def answered(status: int, code: str = "", message: str = "", **headers: str) -> Response:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode() if code else b""
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.mark.parametrize(
    ("response", "kind", "words"),
    [
        (
            answered(405, "UNSUPPORTED", "The operation is unsupported."),
            PermanentlyReadOnlyError,
            "REGISTRY_STORAGE_DELETE_ENABLED",
        ),
        (answered(400, "UNSUPPORTED", "unsupported"), PermanentlyReadOnlyError, "storage.delete.enabled: true"),
        (
            answered(405, "UNSUPPORTED", "no", x_github_request_id="1"),
            PermanentlyReadOnlyError,
            "GHCR deletes by GitHub's own API",
        ),
        (
            answered(405, "UNSUPPORTED", "no", docker_ratelimit_source="1"),
            PermanentlyReadOnlyError,
            "Docker Hub deletes by its own",
        ),
        (answered(405, "UNSUPPORTED", "no"), PermanentlyReadOnlyError, "a pull-through cache accepts no deletions"),
        (answered(405, allow="GET, HEAD"), PermanentlyReadOnlyError, "the registry is read-only"),
        (answered(405, "DENIED", "requested access to the resource is denied"), UsedByImageListsError, "DENIED"),
        (answered(405, "MANIFEST_INVALID", "manifest is referenced by an index image"), UsedByImageListsError, "index"),
        (answered(409, "MANIFEST_REFERENCED_IN_LIST", "a manifest list"), UsedByImageListsError, "MANIFEST_REFERENCED"),
        (answered(400, "MANIFEST_REFERENCED_IN_LIST", ""), UsedByImageListsError, "MANIFEST_REFERENCED"),
        (answered(412, "PRECONDITION", "due to 'v1' configured as immutable."), ProtectedError, "immutable"),
        (answered(412), ProtectedError, "HTTP 412"),
        (answered(403, "DENIED", "the tag v1 is protected from deletion"), MaybeProtectedError, "protected"),
        (answered(403, "PROTECTED_TAG", ""), MaybeProtectedError, "PROTECTED_TAG"),
        (answered(403, "DENIED", "the manifest is referenced by an index"), MaybeProtectedError, "index"),
        (answered(422, "TAG_LOCKED", "the tag is locked"), ProtectedError, "locked"),
        (answered(422, "INVALID", "the manifest is referenced by an index"), UsedByImageListsError, "index"),
        (answered(423), ProtectedError, "HTTP 423"),
        (answered(405, "DENIED", "disallowed on this registry, repository or image"), ProtectedError, "disallowed"),
        (answered(400, "FAILED_PRECONDITION", "the tag is immutable"), ProtectedError, "immutable"),
        (answered(409, "TAG_LOCKED", "the tag is locked"), ProtectedError, "locked"),
        (answered(412, "PRECONDITION", "the manifest is referenced by an index"), UsedByImageListsError, "index"),
        (answered(403, "DENIED", "you may not access this protected resource"), PermissionDeniedError, "resource"),
        (answered(500, "UNKNOWN", "the tag is immutable"), UnavailableError, "immutable"),
        (answered(405, "SOMETHING", "else"), ReadOnlyError, "SOMETHING"),
        (answered(405, allow="DELETE, GET"), ReadOnlyError, "HTTP 405"),
        (answered(409, "MANIFEST_INVALID", "multiple manifests found"), RegistryError, "MANIFEST_INVALID"),
        (answered(403, "DENIED", "no"), PermissionDeniedError, "DENIED"),
        (
            answered(401, "UNAUTHORIZED", "no", www_authenticate='Bearer realm="x"'),
            PermissionDeniedError,
            "UNAUTHORIZED",
        ),
        (answered(401, "UNAUTHORIZED", "no", www_authenticate='Basic realm="x"'), SignInError, "UNAUTHORIZED"),
        (answered(404, "MANIFEST_UNKNOWN", "manifest unknown"), NotFoundError, "MANIFEST_UNKNOWN"),
        (answered(400, "DIGEST_INVALID", "no"), RegistryError, "DIGEST_INVALID"),
        (answered(429, "TOOMANYREQUESTS", "slow"), RateLimitedError, "TOOMANYREQUESTS"),
        (answered(500, "UNKNOWN", "index of nothing"), UnavailableError, "UNKNOWN"),
        (answered(302, location="https://x"), BadResponseError, "302"),
    ],
)
def test_maps_a_refused_deletion_to_its_error(response: Response, kind: type[RegistryError], words: str) -> None:
    with pytest.raises(RegistryError, match=words) as failure:
        deletion.check_deletion(response)
    assert type(failure.value) is kind
    assert failure.value.systemic is (kind in SYSTEMIC)


@pytest.mark.parametrize(
    ("name", "tags", "message", "detail", "kind"),
    [
        ("infra/protected", (), "robot may not delete in infra/protected", None, PermissionDeniedError),
        ("infra/protected", (), "action delete on protected: no", None, PermissionDeniedError),
        ("Protected/api", (), "no right for project 'protected'", None, PermissionDeniedError),
        ("shop/index", (), "you may not delete in shop/index", None, PermissionDeniedError),
        ("shop/api", ("immutable",), "you may not delete the tag immutable", None, PermissionDeniedError),
        ("shop/api", (), "robot$protected may not delete", None, PermissionDeniedError),
        ("shop/api", (), "not for registry.protected.example.com/other/path", None, PermissionDeniedError),
        ("shop/api", (), "denied", [{"Name": "legacy/protected", "Action": "delete"}], PermissionDeniedError),
        ("protection/im", ("v1",), "denied", "tag v1 is immutable", MaybeProtectedError),
        ("shop/api", ("v1",), "denied", {"reason": "tag v1 is immutable"}, MaybeProtectedError),
        ("infra/protected", (), "this image is immutable in infra/protected", None, MaybeProtectedError),
    ],
)
def test_removes_names_from_the_text_of_a_refusal(
    name: str, tags: tuple[str, ...], message: str, detail: object, kind: type[RegistryError]
) -> None:
    error = {"code": "DENIED", "message": message} | ({} if detail is None else {"detail": detail})
    response = Response(403, {}, json.dumps({"errors": [error]}).encode())
    with pytest.raises(RegistryError) as failure:
        deletion.check_deletion(response, "https://registry.example.com", name, tags)
    assert type(failure.value) is kind


@pytest.mark.parametrize("status", [200, 202, 204])
def test_an_accepted_deletion_raises_nothing(status: int) -> None:
    deletion.check_deletion(Response(status, {}, b""))


@pytest.mark.parametrize("reference", ["v1", "latest", "sha256:abc", A[:-1], f"md5:{'a' * 32}", ""])
def test_only_digests_are_deleted(reference: str) -> None:
    with pytest.raises(BadResponseError, match="refused to delete by anything but a digest"):
        deletion.delete_manifest(API, "a", reference, 25.0, None)


def test_a_deletion_is_sent_once_with_its_deadline() -> None:
    request = deletion.delete_manifest(API, "shop/api", A, 25.0, 7.0)
    assert (request.method, request.url) == ("DELETE", f"{ROOT}/v2/shop/api/manifests/{A}")
    assert (request.repeatable, request.timeout, request.max_seconds, request.not_after) == (False, 25.0, 25.0, 7.0)
