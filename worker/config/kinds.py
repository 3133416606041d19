"""Each kind of registry: what the program goes by before it talks to one. docs/registries.md says the rest in words.

Adding a kind is one entry here and a driver (docs/adding-a-registry.md). Imports nothing heavy: `check` reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of registry."""

    name: str
    reports_push_time: bool = True  # False: a push time is when this store first saw the image
    lists_untagged: bool = (
        True  # False: what has no tag is found only through what leads to it, and no rule can ask for it;
    )
    # as the driver's ListsTagsOnly says: the file is checked before there is a driver

    # What credentials may need to be allowed, least first
    to_plan: str = ""
    to_read: str = ""  # manifests; empty: whoever may plan may
    to_delete: str = ""
    to_restore: str = ""  # empty: nothing can be restored

    # Which keys of the file only some kinds have, and this is one of them
    keys: frozenset[str] = frozenset()
    ways_in: tuple[tuple[str, ...], ...] = ()  # each: keys of `credentials` that belong together
    identity: str = "id"  # the key that says which registry it is
    endpoint: str = ""  # the endpoint that is a part of its identity; empty: `url` is the identity
    docker: str = "https://cr.yandex"  # the usual endpoint of that name: what images are addressed by


_YANDEX_WAYS_IN = (("iam_token",), ("service_account_key",), ("metadata",), ("workload_identity",))
_ALL = (
    Kind(
        name="yandex-container-registry",
        to_plan="container-registry.viewer",
        to_read="container-registry.images.puller",
        to_delete="container-registry.images.pusher",
        keys=frozenset({"id", "endpoints"}),
        ways_in=_YANDEX_WAYS_IN,
        endpoint="container_registry",
    ),
    Kind(
        name="yandex-cloud-registry",
        to_plan="cloud-registry.viewer",
        to_read="cloud-registry.artifacts.puller",
        to_delete="cloud-registry.artifacts.pusher (if that is refused, cloud-registry.admin)",
        keys=frozenset({"id", "endpoints", "transitional"}),
        ways_in=_YANDEX_WAYS_IN,
        endpoint="cloud_registry",
        docker="https://registry.yandexcloud.net",
    ),
    Kind(
        name="oci",
        reports_push_time=False,
        lists_untagged=False,
        to_plan="pull (and the catalog, where repositories are found by it)",
        to_delete="delete",
        to_restore="pull and push",
        keys=frozenset({"url", "repositories", "token_hosts", "addresses", "push_time"}),
        ways_in=(("username", "password"), ("anonymous",), ("helper",), ("docker_config",), ("command",)),
        identity="url",
    ),
)
KINDS: Mapping[str, Kind] = {one.name: one for one in _ALL}
UNKNOWN = Kind(name="", keys=frozenset({"id", "endpoints"}), endpoint="container_registry")
# Every way to sign in, and every key that only some kinds have.
WAYS_IN = tuple(dict.fromkeys(way for kind in _ALL for way in kind.ways_in))
ONLY_SOME_HAVE = frozenset[str]().union(*(kind.keys for kind in _ALL))


def kind_of(name: str) -> Kind:
    """A kind by its name; of a name that a program has added by itself nothing is known but what a driver shows."""
    return KINDS.get(name, UNKNOWN)
