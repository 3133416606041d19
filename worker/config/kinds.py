"""The kinds of registries: the facts that the program uses before it sends a request (see docs/registries.md).

A new kind needs one entry here and a driver (docs/adding-a-registry.md). Imports nothing heavy, for fast commands.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of registry."""

    name: str
    reports_push_time: bool = True  # False: the time when this store first saw an image counts as its push time
    # False: untagged images are found only through indexes and subjects, and no rule can select them. The driver's
    # ListsTagsOnly says the same, but the file is checked before a driver exists.
    lists_untagged: bool = True

    # Roles or permissions of the credentials, from the smallest
    to_plan: str = ""
    to_read: str = ""  # manifests; empty: included in `to_plan`
    to_delete: str = ""
    to_restore: str = ""  # empty: this kind cannot restore images

    # Keys of the file that only some kinds have, including this kind
    keys: frozenset[str] = frozenset()
    ways_in: tuple[tuple[str, ...], ...] = ()  # sign-in methods: keys of `credentials` that belong together
    identity: str = "id"  # the key that identifies the registry
    endpoint: str = ""  # the endpoint that belongs to the identity; empty: `url` is the identity
    docker: str = "https://cr.yandex"  # the default endpoint `docker`: the host of image addresses


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
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}
UNKNOWN = Kind(name="", keys=frozenset({"id", "endpoints"}), endpoint="container_registry")
# Every sign-in method, and every key that only some kinds have.
WAYS_IN = tuple(dict.fromkeys(way for kind in _ALL for way in kind.ways_in))
ONLY_SOME_HAVE = frozenset[str]().union(*(kind.keys for kind in _ALL))


def kind_of(name: str) -> Kind:
    """A kind by its name; UNKNOWN for a kind that a program added itself."""
    return KINDS.get(name, UNKNOWN)
