"""Manifests as drivers share them: read once per digest, then remembered; what one says is put into its image."""

from collections.abc import Callable, Mapping, Sequence

from msgspec import UNSET
from msgspec.structs import replace

from policies.image import Blob, Image
from worker.registries.interface import Manifest, Manifests, RegistryError

Read = Callable[[Sequence[str]], Mapping[str, Manifest | RegistryError]]


def read_through(
    memory: Manifests, digests: Sequence[str], read: Read, enough: Callable[[Manifest], bool] = lambda _: True
) -> Mapping[str, Manifest]:
    """What is remembered of these digests, and what `read` finds of the others; left out: what could not be read.

    `enough`: whether what is remembered of one says enough; else it is read again.
    """
    wanted = list(dict.fromkeys(digests))
    known = dict(memory.known(wanted))
    unknown = [digest for digest in wanted if digest not in known or not enough(known[digest])]
    if unknown:
        answers = read(unknown)
        new = {digest: answer for digest, answer in answers.items() if isinstance(answer, Manifest)}
        memory.remember(new)
        known |= new
    return known


def size_of(config: Blob | None, layers: Sequence[Blob]) -> int | None:
    """Bytes of config and layers, each once, as the pusher wrote them; None: there are none."""
    blobs = (*((config,) if config else ()), *layers)
    return sum({blob.digest: blob.size for blob in blobs}.values()) if blobs else None


def resolved(image: Image, manifest: Manifest | None) -> Image:
    """The image with what its manifest says of others; `children` None: it could not be read."""
    if manifest is None:
        return replace(image, children=None)
    children = UNSET if manifest.children is None else manifest.children
    subject = UNSET if manifest.subject is None else manifest.subject
    return replace(image, children=children, subject=subject, media_type=manifest.media_type)
