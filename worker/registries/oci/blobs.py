"""Requests and responses of the OCI protocol for blobs and pushed manifests. Sends no request."""

import hashlib
import re
from dataclasses import replace
from typing import Literal
from urllib.parse import quote, urlsplit

from worker.registries.docker import manifests
from worker.registries.errors import BlobsMissingError, ReadOnlyError
from worker.registries.http.messages import Request, Response
from worker.registries.http.responses import bad, succeeded
from worker.registries.oci.protocol import accepted, address, refusal

UPLOAD = re.compile(r"(?!.*(?:/\.{0,2}(?:/|$)|%2f|%2e))/.*/blobs/uploads/[^/]+", re.IGNORECASE)
EMPTY_DIGESTS = frozenset(f"{name}:{hashlib.new(name).hexdigest()}" for name in manifests.DIGESTS)  # of an empty blob


def read_blob(
    method: Literal["GET", "HEAD"], api: str, name: str, digest: str, first_bytes: int | None = None
) -> Request:
    """`first_bytes`: how many bytes to download; None: the whole blob."""
    range_header = {} if first_bytes is None else {"Range": f"bytes=0-{first_bytes - 1}"}
    return Request(
        method=method,
        url=f"{api}/{quote(name)}/blobs/{quote(digest, safe=':')}",
        about=f"blob {manifests.about(name, digest)}",
        headers={"Accept-Encoding": "identity"} | range_header,
        repeatable=True,
        first_bytes=first_bytes,
    )


def mount_blob(api: str, name: str, digest: str, source: str) -> Request:
    return Request(
        method="POST",
        url=f"{api}/{quote(name)}/blobs/uploads/",
        about=f"blob {manifests.about(name, digest)} from {source}",
        query={"mount": digest, "from": source},
        body=b"",
        repeatable=False,
    )


def put_manifest(api: str, name: str, reference: str, media_type: str, body: bytes) -> Request:
    # A push by tag is not repeated: another image may have been pushed to the tag meanwhile.
    options = {"headers": {"Content-Type": media_type}, "body": body, "repeatable": ":" in reference}
    return manifests.manifest_request("PUT", api, name, reference, **options)


def blob_or_redirect(response: Response) -> Response | str:
    """The response if it has a blob or a part of it; the URL if it is a redirect. Raises RegistryError. NotFoundError:
    no such blob. The URL may be relative and is not checked: `redirect_request` does that.
    """
    if response.status in (301, 302, 303, 307, 308) and (location := response.headers.get("location")):
        return location
    return accepted(response)


def redirect_request(request: Request, location: str) -> Request:
    """The same request to the URL of a redirect. Raises BadResponseError: the URL is invalid or not allowed."""
    parts, before = address(request.url, location), urlsplit(request.url)
    if parts is None:
        bad(f"the blob is redirected to an invalid address: {location[:200]!r}")
    if parts.scheme not in ("https", before.scheme) or not parts.hostname or "@" in parts.netloc:
        bad(f"the blob is redirected to an address that is not allowed: {parts.scheme}://{parts.netloc}")
    return replace(request, url=parts.geturl(), query={})


def check_pushed(response: Response, digest: str) -> None:
    """Check that the registry stored a pushed manifest. Raises BlobsMissingError, or another RegistryError."""
    if succeeded(response):
        stored = response.headers.get("docker-content-digest", digest)
        if stored != digest:
            bad(f"the manifest {digest} was pushed, but the registry stored {stored[:150]}")
        return
    error = refusal(response)
    if response.status in (400, 404) and any(
        code.endswith("BLOB_UNKNOWN") for code, _, _ in manifests.errors_of(response)
    ):
        missing_blobs = dict.fromkeys(re.findall("sha256:[0-9a-f]{64}", response.body.decode(errors="replace")))
        raise BlobsMissingError(
            f"{error.message}: {', '.join(missing_blobs)}" if missing_blobs else error.message, status=response.status
        )
    if response.status == 405:
        raise ReadOnlyError(f"{error.message}; the registry is read-only, or accepts no pushes", status=405)
    raise error


def was_mounted(response: Response) -> bool:
    """Whether a blob was mounted. 202: it was not, and the registry started an upload at the URL in Location. 404: it
    was not, without an upload. Raises RegistryError: any other status, also another 2xx. Source: OCI distribution
    specification, "Mounting a blob from another repository".
    """
    if response.status in (201, 202):
        return response.status == 201
    if response.status == 404:
        return False
    raise refusal(accepted(response))


def cancel_upload(mount: Request, response: Response) -> Request | None:
    """The request that cancels the upload started by a mount; None: no upload, or no URL of an upload there."""
    location = response.headers.get("location", "")
    target = address(mount.url, location)
    if response.status != 202 or not location or target is None:
        return None
    here = urlsplit(mount.url)
    # A server must not be able to direct this DELETE to anything but an upload.
    if (target.scheme, target.netloc) != (here.scheme, here.netloc) or not UPLOAD.fullmatch(target.path):
        return None
    stem, _, upload = target.path.rpartition("/")
    if f"{here.path}/".endswith(f"{stem.removeprefix('/v2')}//"):  # a proxy added a path that Location lacks
        target = target._replace(path=f"{here.path}{upload}")
    return Request(method="DELETE", url=target.geturl(), about=f"the upload of a {mount.about}", repeatable=False)
