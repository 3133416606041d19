"""Images that `skopeo` pushes: an OCI layout in a folder, and its copies."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.oci import manifests as m
from tests.support.oci.manifests import Descriptor
from tests.support.oci.server import program


class Layout:
    """An OCI image layout (image specification 1.1, *image layout*). Each image and index gets a reference name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._named: list[Mapping[str, Any]] = []
        (folder / "blobs" / "sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def _blob(self, data: bytes, media_type: str) -> Descriptor:
        digest = m.digest_of(data)
        (self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")).write_bytes(data)
        return Descriptor(digest, len(data), media_type)

    def _name(self, name: str, descriptor: Descriptor) -> None:
        annotations = {"org.opencontainers.image.ref.name": name}
        self._named.append({**descriptor.document(), "annotations": annotations})
        (self.folder / "index.json").write_bytes(m.encoded({"schemaVersion": 2, "manifests": self._named}))

    def image(self, name: str, layers: Sequence[bytes], *, created: str, platform: tuple[str, str]) -> Descriptor:
        """`layers`: gzip, so that skopeo leaves them as they are."""
        config = m.config_body(layers, created=created, labels=None, platform=platform)
        blobs = [self._blob(layer, m.LAYER) for layer in layers]
        image = self._blob(m.image_body(self._blob(config, m.CONFIG), blobs), m.IMAGE)
        self._name(name, image)
        return image

    def index(self, name: str, children: Mapping[tuple[str, str], Descriptor]) -> Descriptor:
        """`children`: by platform."""
        documents = [
            {**child.document(), "platform": {"os": system, "architecture": architecture}}
            for (system, architecture), child in children.items()
        ]
        index = self._blob(m.index_body(documents), m.INDEX)
        self._name(name, index)
        return index


def copy(layout: Layout, name: str, target: str, *options: str) -> None:
    """`target`: host, repository and tag. `options`: `--all` for an index, `--format v2s2` for Docker's types."""
    command = [program("skopeo"), "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", *options]
    command += [f"oci:{layout.folder}:{name}", f"docker://{target}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def inspect(target: str) -> dict[str, Any]:
    """The output of `skopeo inspect` for an image."""
    command = [program("skopeo"), "--insecure-policy", "inspect", "--tls-verify=false", f"docker://{target}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return dict(json.loads(done.stdout))
