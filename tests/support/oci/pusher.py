"""A small pusher and puller of OCI and Docker images, signatures, referrers and artifacts."""

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Literal

from tests.support.oci import manifests as m
from tests.support.oci.manifests import Descriptor, Pushed
from tests.support.oci.wire import UnexpectedStatusError, Wire, WireResponse

LINUX = ("linux", "amd64")
BLOB_TYPE = "application/octet-stream"


def basic(user: str, password: str) -> str:
    """The header `Authorization` of basic sign-in."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class IncompleteImageError(AssertionError):
    """An image cannot be pulled whole; `missing` names every manifest and blob that is not there as it should be."""

    def __init__(self, repository: str, reference: str, missing: Sequence[str]) -> None:
        self.missing = tuple(missing)
        super().__init__(f"{repository}:{reference} cannot be pulled whole; missing or wrong: {', '.join(missing)}")


class Pusher:
    """Pushes to one registry. It pushes each blob once: use a new pusher after a collector ran."""

    def __init__(self, url: str, *, authorization: str | None = None) -> None:
        self.wire = Wire(url, authorization=authorization)
        self._there: set[tuple[str, str]] = set()  # repository, blob

    def close(self) -> None:
        self.wire.close()

    # Pushing

    def blob(self, repository: str, data: bytes, media_type: str = BLOB_TYPE) -> Descriptor:
        """POST, then one PUT with everything."""
        digest = m.digest_of(data)
        if (repository, digest) not in self._there:
            place = self._upload(repository)
            query = f"{'&' if '?' in place else '?'}digest={digest}"
            self.wire.expect(201, "PUT", place + query, body=data, headers={"Content-Type": BLOB_TYPE})
            self._there.add((repository, digest))
        return Descriptor(digest, len(data), media_type)

    def blob_in_parts(self, repository: str, *parts: bytes) -> Descriptor:
        """POST, a PATCH for each part, and a closing PUT."""
        place = self._upload(repository)
        for part in parts:
            place = self.wire.expect(202, "PATCH", place, body=part, headers={"Content-Type": BLOB_TYPE}).header(
                "Location"
            )
        whole = b"".join(parts)
        query = f"{'&' if '?' in place else '?'}digest={m.digest_of(whole)}"
        self.wire.expect(201, "PUT", place + query, body=b"")
        return Descriptor(m.digest_of(whole), len(whole), BLOB_TYPE)

    def _upload(self, repository: str) -> str:
        return self.wire.expect(202, "POST", f"/v2/{repository}/blobs/uploads/", body=b"").header("Location")

    def manifest(self, repository: str, body: bytes, media_type: str, *tags: str) -> Pushed:
        """Any bytes, once for each tag; without tags by digest, so that it is untagged."""
        for reference in tags or (m.digest_of(body),):
            path = f"/v2/{repository}/manifests/{reference}"
            self.wire.expect(201, "PUT", path, body=body, headers={"Content-Type": media_type})
        return m.parsed(repository, body, media_type, tags)

    def tag(self, pushed: Pushed, *tags: str) -> Pushed:
        """The same manifest with more tags, taken from whatever carried them."""
        self.manifest(pushed.repository, pushed.body, pushed.media_type, *tags)
        return dataclasses.replace(pushed, tags=tuple(dict.fromkeys(pushed.tags + tags)))

    def image(
        self,
        repository: str,
        *tags: str,
        layers: Sequence[bytes],
        created: str | None = None,
        labels: Mapping[str, str] | None = None,
        platform: tuple[str, str] = LINUX,
        docker: bool = False,
        subject: Pushed | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Pushed:
        """An image of OCI or Docker type; `created`: the config's, RFC 3339."""
        config = m.config_body(layers, created=created, labels=labels, platform=platform)
        body = m.image_body(
            self.blob(repository, config, m.DOCKER_CONFIG if docker else m.CONFIG),
            [self.blob(repository, layer, m.DOCKER_LAYER if docker else m.LAYER) for layer in layers],
            docker=docker,
            subject=subject.descriptor if subject else None,
            annotations=annotations,
        )
        return self.manifest(repository, body, m.DOCKER_IMAGE if docker else m.IMAGE, *tags)

    def index(
        self,
        repository: str,
        *tags: str,
        children: Sequence[Pushed],
        platforms: Sequence[tuple[str, str]] = (),
        docker: bool = False,
        subject: Pushed | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Pushed:
        """An index, or a Docker list; children may be indexes. They have to be in this repository already."""
        documents = [child.descriptor.document() for child in children]
        for document, (system, architecture) in zip(documents, platforms, strict=False):
            document["platform"] = {"os": system, "architecture": architecture}
        body = m.index_body(
            documents, docker=docker, subject=subject.descriptor if subject else None, annotations=annotations
        )
        return self.manifest(repository, body, m.DOCKER_INDEX if docker else m.INDEX, *tags)

    def artifact(
        self,
        repository: str,
        *tags: str,
        artifact_type: str,
        blobs: Sequence[bytes] = (b"{}",),
        subject: Pushed | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Pushed:
        """An OCI manifest with an `artifactType` and an empty config."""
        body = m.image_body(
            self.blob(repository, b"{}", m.EMPTY_CONFIG),
            [self.blob(repository, blob) for blob in blobs],
            subject=subject.descriptor if subject else None,
            artifact_type=artifact_type,
            annotations=annotations,
        )
        return self.manifest(repository, body, m.IMAGE, *tags)

    def refer(self, subject: Pushed, *, artifact_type: str, payload: bytes, listed: bool = True) -> Pushed:
        """An untagged referrer; `listed`: in the fallback tag, kept by clients where a server says no OCI-Subject."""
        pushed = self.artifact(subject.repository, artifact_type=artifact_type, blobs=[payload], subject=subject)
        if listed:
            self.list_referrers(subject, pushed)
        return pushed

    def list_referrers(self, subject: Pushed, *referrers: Pushed) -> Pushed:
        """Add referrers to the fallback tag of their subject; the fallback index. The one before loses its tag."""
        tag = fallback_tag(subject.digest)
        answer = self.get(subject.repository, tag)
        listed = json.loads(answer.body)["manifests"] if answer.status == 200 else []
        new = {
            referrer.digest: {**referrer.descriptor.document(), "artifactType": referrer.artifact_type}
            for referrer in referrers
        }
        others = [entry for entry in listed if entry["digest"] not in new]
        return self.manifest(subject.repository, m.index_body([*others, *new.values()]), m.INDEX, tag)

    def sign(self, subject: Pushed, *, payload: bytes, kind: Literal["sig", "att", "sbom"] = "sig") -> Pushed:
        """A signature of cosign: an ordinary image manifest under a tag of the subject's digest, without `subject`."""
        repository = subject.repository
        config = m.config_body([payload], created=None, labels=None, platform=("", ""))
        layer = self.blob(repository, payload, m.COSIGN_LAYER)
        body = m.image_body(self.blob(repository, config, m.CONFIG), [layer])
        return self.manifest(repository, body, m.IMAGE, f"{fallback_tag(subject.digest)}.{kind}")

    def delete(self, repository: str, digest: str) -> WireResponse:
        return self.wire.ask("DELETE", f"/v2/{repository}/manifests/{digest}")

    # Pulling

    def get(self, repository: str, reference: str) -> WireResponse:
        """GET of a manifest with all types accepted."""
        return self.wire.ask("GET", f"/v2/{repository}/manifests/{reference}", headers={"Accept": m.ACCEPT})

    def read(self, repository: str, reference: str, *tags: str) -> Pushed:
        """The record of a manifest that somebody else pushed."""
        answer = self.get(repository, reference)
        if answer.status != 200:
            raise UnexpectedStatusError(f"GET {repository}:{reference}", answer)
        return m.parsed(repository, answer.body, answer.header("Content-Type"), tags)

    def exists(self, repository: str, reference: str) -> bool:
        """Whether a GET of the manifest answers 200. (No HEAD: it has no body to hash.)"""
        return self.get(repository, reference).status == 200

    def tags(self, repository: str) -> dict[str, str]:
        """Tag -> digest, as the registry has them now."""
        answer = self.wire.ask("GET", f"/v2/{repository}/tags/list")
        names = (json.loads(answer.body)["tags"] or []) if answer.status == 200 else []
        return {name: self.read(repository, name).digest for name in names}

    def pull_whole(self, repository: str, *references: str) -> frozenset[str]:
        """Fetch and hash manifests, their children to the last, and every blob, each once; all digests.

        Raises NotWholeError.
        """
        seen: dict[str, None] = {}
        missing: list[str] = []
        for reference in references:
            if reference not in seen:
                self._pull(repository, reference, seen, missing)
        if missing:
            raise IncompleteImageError(repository, ", ".join(references), missing)
        return frozenset(seen)

    def _pull(self, repository: str, reference: str, seen: dict[str, None], missing: list[str]) -> None:
        answer = self.get(repository, reference)
        digest = m.digest_of(answer.body)
        if answer.status != 200 or digest != (
            reference if ":" in reference else answer.header("Docker-Content-Digest")
        ):
            missing.append(f"manifest {reference} ({answer.status})")
            return
        seen[digest] = None
        pushed = m.parsed(repository, answer.body, answer.header("Content-Type"))
        for blob in pushed.blobs:
            self._pull_blob(repository, blob, seen, missing)
        for child in pushed.children:
            if child.digest not in seen:
                self._pull(repository, child.digest, seen, missing)

    def _pull_blob(self, repository: str, blob: Descriptor, seen: dict[str, None], missing: list[str]) -> None:
        if blob.digest in seen:
            return
        answer = self.wire.ask("GET", f"/v2/{repository}/blobs/{blob.digest}")
        if answer.status == 200 and m.digest_of(answer.body) == blob.digest:
            seen[blob.digest] = None
        else:
            missing.append(f"blob {blob.digest} ({answer.status}, {len(answer.body)} of {blob.size} bytes)")


def fallback_tag(digest: str) -> str:
    """Where referrers of a digest are listed on a registry without the referrers API."""
    return digest.replace(":", "-")
