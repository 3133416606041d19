"""What each kind of registry can tell and do: the one table that the configuration, the program and the pages use.

Adding a kind is one entry here and a driver (docs/adding-a-registry.md). Imports nothing heavy: `check` reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of registry. The words are the table of docs/registries.md; the rest is what the program goes by."""

    name: str

    # What it tells, and what the program does about it
    tells_push_time: bool  # False: a push time is when this store first saw the image
    lists_untagged: bool  # False: what has no tag is found only through what leads to it
    tells_pulls: bool = False
    tells_labels: bool = True
    tells_media_types: bool = True
    can_restore: bool  # a deleted manifest can be put back while its blobs are there
    piecemeal: bool  # an image is deleted artifact by artifact

    # The same in a few words, for people
    push_time: str = ""
    pulls: str = ""
    sizes: str = ""
    children: str = ""
    referrers: str = ""
    labels: str = ""
    untagged: str = ""
    locks: str = ""
    deletes: str = ""
    protects_a_child: str = ""
    soft_delete: str = ""
    undo: str = ""
    frees_bytes: str = ""

    # What credentials may need to be allowed, least first
    to_plan: str = ""
    to_read: str = ""  # manifests; empty: whoever may plan may
    to_delete: str = ""
    to_restore: str = ""

    # Which keys of the file only some kinds have, and this is one of them
    keys: frozenset[str] = frozenset()
    ways_in: tuple[tuple[str, ...], ...] = ()  # each: keys of `credentials` that belong together
    identity: str = "id"  # the key that says which registry it is
    endpoint: str = ""  # the endpoint that is a part of its identity; empty: `url` is the identity
    docker: str = "https://cr.yandex"  # the usual endpoint of that name: what images are addressed by

    @property
    def permissions(self) -> tuple[str, ...]:
        """What is needed to plan, to delete and to restore; the last only where that can be done."""
        return tuple(filter(None, (self.to_plan, self.to_delete, self.to_restore)))


_YANDEX: dict[str, Any] = {
    "tells_push_time": True,
    "lists_untagged": True,
    "pulls": "no",
    "can_restore": False,
    "keys": frozenset({"id", "endpoints"}),
    "ways_in": (("iam_token",), ("service_account_key",), ("metadata",), ("workload_identity",)),
}
_ALL = (
    Kind(
        **_YANDEX,
        name="yandex-container-registry",
        piecemeal=False,
        push_time="`createdAt`",
        sizes="yes; an index's from its children",
        children="by the Docker API",
        referrers="cosign's tags; `subject` by the Docker API",
        labels="by the Docker API",
        untagged="listed",
        locks="no",
        deletes="an image with its tags",
        protects_a_child="yes",
        soft_delete="no",
        undo="no",
        frees_bytes="later, by itself",
        to_plan="container-registry.viewer",
        to_read="container-registry.images.puller",
        to_delete="container-registry.images.pusher",
        endpoint="container_registry",
    ),
    Kind(
        **_YANDEX | {"keys": frozenset({"id", "endpoints", "transitional"})},
        name="yandex-cloud-registry",
        tells_labels=False,
        tells_media_types=False,
        piecemeal=True,
        push_time="the later of `createdAt` and `modifiedAt`, doubtful",
        sizes="config and layers; of children that are not listed by the Docker API",
        children="yes; those that are not listed by the Docker API",
        referrers="cosign's tags; `subject` by the Docker API",
        labels="no",
        untagged="listed, as the vendor's pages hint",
        locks="not shown, though a policy may make artifacts immutable",
        deletes="an image artifact by artifact",
        protects_a_child="not known",
        soft_delete="by the vendor's lifecycle policies only, not by our deletion",
        undo="no",
        frees_bytes="not known",
        to_plan="cloud-registry.viewer",
        to_read="cloud-registry.artifacts.puller",
        to_delete="cloud-registry.artifacts.pusher (if that is refused, cloud-registry.admin)",
        endpoint="cloud_registry",
        docker="https://registry.yandexcloud.net",
    ),
    Kind(
        name="oci",
        tells_push_time=False,
        lists_untagged=False,
        can_restore=True,
        piecemeal=False,
        push_time="no: when this store first saw it, or the image's own `created`",
        pulls="no",
        sizes="from manifests, as the pusher wrote them",
        children="yes, nested ones too",
        referrers="the referrers API, its fallback tag, cosign's tags, `subject`",
        labels="from config and manifest",
        untagged="**not listed**",
        locks="no",
        deletes="a manifest with its tags",
        protects_a_child="some do (zot, GitLab); distribution does not",
        soft_delete="no",
        undo="yes, until the registry's collector has run",
        frees_bytes="when you run the registry's collector",
        to_plan="pull (and the catalog, where repositories are found by it)",
        to_delete="delete",
        to_restore="pull and push",
        keys=frozenset({"url", "repositories", "token_hosts", "addresses", "push_time"}),
        ways_in=(("username", "password"), ("anonymous",), ("helper",), ("docker_config",), ("command",)),
        identity="url",
    ),
)
KINDS: Mapping[str, Kind] = {one.name: one for one in _ALL}
UNKNOWN = Kind(
    name="",
    tells_push_time=True,
    lists_untagged=True,
    can_restore=False,
    piecemeal=False,
    keys=frozenset({"id", "endpoints"}),
    endpoint="container_registry",
)


def of(name: str) -> Kind:
    """A kind by its name; of a name that a program has added by itself nothing is known but what a driver shows."""
    return KINDS.get(name, UNKNOWN)
