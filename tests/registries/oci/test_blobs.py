"""Restored manifests, mounted blobs, cancelled uploads: the requests, and the meaning of the responses."""

import json

import pytest

from worker.registries.errors import (
    BadResponseError,
    BlobsMissingError,
    PermissionDeniedError,
    RegistryError,
)
from worker.registries.http.messages import Response
from worker.registries.oci import blobs

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


ROOT = "https://registry.example.com"


API = f"{ROOT}/v2"


def answered(status: int, code: str = "", message: str = "", **headers: str) -> Response:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode() if code else b""
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (answered(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"), BlobsMissingError),
        (answered(404, "BLOB_UNKNOWN", "blob unknown"), BlobsMissingError),
        (answered(400, "MANIFEST_INVALID", "no"), RegistryError),
        (answered(403, "DENIED", "no"), PermissionDeniedError),
        (answered(201, docker_content_digest=B), BadResponseError),
    ],
)
def test_reports_why_a_manifest_was_refused(response: Response, kind: type[RegistryError]) -> None:
    with pytest.raises(RegistryError) as failure:
        blobs.check_pushed(response, A)
    assert type(failure.value) is kind


def test_accepts_the_response_to_a_pushed_manifest() -> None:
    blobs.check_pushed(answered(201, docker_content_digest=A), A)
    blobs.check_pushed(answered(201), A)


@pytest.mark.parametrize(("status", "done"), [(201, True), (202, False), (404, False)])
def test_cancels_the_upload_that_a_mount_started(status: int, done: bool) -> None:
    assert blobs.was_mounted(Response(status, {}, b"")) is done


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/v2/a/blobs/uploads/1?_state=x%2Fy", f"{ROOT}/v2/a/blobs/uploads/1?_state=x%2Fy"),
        (f"{ROOT}/prefix/v2/a/blobs/uploads/1", f"{ROOT}/prefix/v2/a/blobs/uploads/1"),
        ("", None),
        ("https://evil.example/v2/a/blobs/uploads/1", None),
        ("http://registry.example.com/v2/a/blobs/uploads/1", None),
        ("https://x@registry.example.com/v2/a/blobs/uploads/1", None),
        ("https://[x/v2/a/blobs/uploads/1", None),
        ("/v2/a/manifests/latest", None),
        ("/v2/a/blobs/uploads/", None),
        ("/v2/a/blobs/uploads/x/manifests/latest", None),
        ("/v2/a/manifests/latest?x=/blobs/uploads/1", None),
        ("/v2/a/blobs/uploads/%2e%2e", None),
        ("/v2/a/blobs/uploads/..%2fmanifests", None),
    ],
)
def test_cancels_an_upload_only_at_its_own_address(location: str, url: str | None) -> None:
    begun = blobs.mount_blob(API, "a", A, "b")
    request = blobs.cancel_upload(begun, Response(202, {"location": location}, b""))
    assert (request and (request.method, request.url)) == (url and ("DELETE", url))
    assert blobs.cancel_upload(begun, Response(201, {"location": "/v2/a/blobs/uploads/1"}, b"")) is None


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://storage.example/x?sig=a%2Fb", "https://storage.example/x?sig=a%2Fb"),
        ("/elsewhere", f"{ROOT}/elsewhere"),
        ("http://storage.example/x", None),
        ("http://127.0.0.1/x", None),
        ("ftp://storage.example/x", None),
        ("https://user@storage.example/x", None),
        ("file:///etc/passwd", None),
    ],
)
def test_rejects_a_redirect_of_a_blob_to_an_unsafe_address(location: str, target: str | None) -> None:
    request = blobs.read_blob("GET", API, "a", A, first_bytes=1)
    if target is None:
        with pytest.raises(BadResponseError, match="the blob is redirected to an"):
            blobs.redirect_request(request, location)
        return
    followed = blobs.redirect_request(request, location)
    assert followed.url == target
    assert followed.headers["Range"] == "bytes=0-0"
