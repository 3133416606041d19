"""What each kind of registry can tell and do: the one table that the configuration, the program and the pages use."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of registry."""

    name: str
    tells_push_time: bool  # False: a push time is when this store first saw the image
    lists_untagged: bool  # False: what has no tag is found only through what leads to it
    can_restore: bool  # a deleted manifest can be put back while its blobs are there
    piecemeal: bool  # an image is deleted tag by tag


_ALL = (
    Kind(
        name="yandex-container-registry",
        tells_push_time=True,
        lists_untagged=True,
        can_restore=False,
        piecemeal=False,
    ),
    Kind(name="yandex-cloud-registry", tells_push_time=True, lists_untagged=True, can_restore=False, piecemeal=True),
    Kind(name="oci", tells_push_time=False, lists_untagged=False, can_restore=True, piecemeal=False),
)
KINDS: Mapping[str, Kind] = {one.name: one for one in _ALL}
UNKNOWN = Kind(name="", tells_push_time=True, lists_untagged=True, can_restore=False, piecemeal=False)


def of(name: str) -> Kind:
    """A kind by its name; of a name that a program has added by itself nothing is known but what a driver shows."""
    return KINDS.get(name, UNKNOWN)
