"""Blobs of the OCI protocol, and manifests that are put back: requests built, answers read. Nothing is sent here."""

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
NOTHING = frozenset(f"{one}:{hashlib.new(one).hexdigest()}" for one in manifests.DIGESTS)  # digests of no bytes at all


def read_blob(
    method: Literal["GET", "HEAD"], api: str, name: str, digest: str, first_bytes: int | None = None
) -> Request:
    """`first_bytes`: only so many of them."""
    some = {} if first_bytes is None else {"Range": f"bytes=0-{first_bytes - 1}"}
    return Request(
        method=method,
        url=f"{api}/{quote(name)}/blobs/{quote(digest, safe=':')}",
        about=f"blob {manifests.about(name, digest)}",
        headers={"Accept-Encoding": "identity"} | some,
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
    # By a tag it is not repeated: somebody may have pushed another image there meanwhile.
    more = {"headers": {"Content-Type": media_type}, "body": body, "repeatable": ":" in reference}
    return manifests.manifest_request("PUT", api, name, reference, **more)


def blob(response: Response) -> Response | str:
    """A blob, or a part of it, or where it is served instead. Raises RegistryError."""
    if response.status in (301, 302, 303, 307, 308) and (location := response.headers.get("location")):
        return location
    return accepted(response)


def redirected(request: Request, location: str) -> Request:
    """The same question asked at another address. Raises BadResponseError."""
    parts, before = address(request.url, location), urlsplit(request.url)
    if parts is None:
        bad(f"a blob that is to be fetched from {location[:200]!r}")
    if parts.scheme not in ("https", before.scheme) or not parts.hostname or "@" in parts.netloc:
        bad(f"a blob that is to be fetched from {parts.scheme}://{parts.netloc}")
    return replace(request, url=parts.geturl(), query={})


def restore(response: Response, digest: str) -> None:
    """Raises BlobsMissingError, and what any other refusal of a manifest means."""
    if succeeded(response):
        told = response.headers.get("docker-content-digest", digest)
        if told != digest:
            bad(f"a manifest that was put as {digest} and taken as {told[:150]}")
        return
    error = refusal(response)
    if response.status in (400, 404) and any(
        code.endswith("BLOB_UNKNOWN") for code, _, _ in manifests.errors_of(response)
    ):
        named = dict.fromkeys(re.findall("sha256:[0-9a-f]{64}", response.body.decode(errors="replace")))
        raise BlobsMissingError(
            f"{error.message}: {', '.join(named)}" if named else error.message, status=response.status
        )
    if response.status == 405:
        raise ReadOnlyError(f"{error.message}; the registry is read-only, or takes nothing by pushing", status=405)
    raise error


def mounted(response: Response) -> bool:
    """Whether a blob was taken over; 202: an upload was begun instead, at the answer's Location."""
    if response.status in (201, 202):
        return response.status == 201
    if response.status == 404:
        return False
    raise refusal(accepted(response))


def end_upload(begun: Request, response: Response) -> Request | None:
    """Ends the upload that an answer to a mount says was begun; None: there is none, or it is not of that registry."""
    location = response.headers.get("location", "")
    target = address(begun.url, location)
    if response.status != 202 or not location or target is None:
        return None
    here = urlsplit(begun.url)
    # No other DELETE may come of what a server writes there.
    if (target.scheme, target.netloc) != (here.scheme, here.netloc) or not UPLOAD.fullmatch(target.path):
        return None
    stem, _, upload = target.path.rpartition("/")
    if f"{here.path}/".endswith(f"{stem.removeprefix('/v2')}//"):  # a server behind a proxy that adds a path
        target = target._replace(path=f"{here.path}{upload}")
    return Request(method="DELETE", url=target.geturl(), about=f"the upload of a {begun.about}", repeatable=False)
