"""How a fake registry differs from distribution 2.8: a switch for each way, and the registries in the wild by them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal


@dataclass(slots=True, kw_only=True)
class FakeSwitches:
    """How this registry differs from distribution 2.8, which the defaults are."""

    tags_page: int | None = None  # None: all tags in one answer, in push order, whatever `n` and `last` say
    tags_by_n: bool = False  # they are paged only where `n` is asked for, and an `n` that is no size is refused
    catalog_page: int = 100
    tags_most: int | None = None  # a larger `n` is refused; None: none is
    catalog_most: int | None = 1000
    links: bool = True  # else a list is cut at its page, and nothing says so
    last: Literal["taken", "ignored", "refused"] = "taken"
    capitals: bool = False  # in names of repositories; else such a repository is listed, and not served
    catalog: int = 200  # or the status of its refusal: 401, 403, 404, 405
    referrers: bool = False
    no_referrers: int = 404  # the status without such an API; 200: an HTML page
    referrers_page: int | None = None
    deletion: Literal["on", "off", "off 400", "read-only"] = "on"
    protects: Literal["", "denied", "gitlab"] = ""  # the refusal to delete a child of an index of the repository
    locks: str = ""  # an expression: a manifest with such a "repository:tag" is not deleted
    # forbidden, named: as if the caller had no permission; named: with the repository's name
    locked_says: Literal["harbor", "protected", "forbidden", "named"] = "harbor"
    by_tag: Literal["refused", "unsupported", "takes the tag"] = "refused"  # the effect of a deletion by tag
    deleted: Literal["at once", "late", "tags listed", "tags answer"] = "at once"  # late: by `finish_deletions`
    cascades: bool = False  # the deletion of an index also deletes its children, with all tags
    deletion_seconds: float = 0.0  # a task that takes so long carries each deletion out, one after the other
    spares_children: bool = False  # a collector that deletes untagged images keeps children of a kept index
    blob_cache: bool = False  # outside the registry: it reports blobs that a collector has freed, until it is flushed
    takes_incomplete: bool = False  # accepts an index with missing children
    frees_at_once: bool = False  # a deletion frees unshared blobs, as a collector would
    forgets_untagged: bool = False  # a push over its last tag deletes a manifest
    digest_header: bool = True  # Docker-Content-Digest, on reads
    strict_accept: bool = True
    mounted: str = "/v2"  # where a proxy in front has put /v2, which the registry itself does not know
    redirect: bool = False  # blobs are served from another port


FLAVOURS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "distribution-2.8": {},
        "distribution-3": {"tags_page": 1000, "tags_by_n": True, "by_tag": "takes the tag", "spares_children": True},
        "zot": {
            "tags_page": 100,
            "referrers": True,
            "protects": "denied",
            "by_tag": "takes the tag",
            "forgets_untagged": True,
            "strict_accept": False,
        },
        "harbor": {"catalog": 401, "tags_page": 50, "referrers": True, "by_tag": "unsupported", "strict_accept": False},
        "quay": {"tags_page": 50, "by_tag": "takes the tag", "strict_accept": False},
        "gitlab": {"tags_page": 100, "protects": "gitlab", "by_tag": "takes the tag"},
        "docker-hub": {"catalog": 401, "tags_page": 100, "deletion": "off", "redirect": True, "strict_accept": False},
        "ghcr": {"catalog": 404, "tags_page": 100, "deletion": "off", "redirect": True, "strict_accept": False},
    }
)
"""Registry -> its switches, for `FakeRegistry(**FLAVOURS["zot"])`.

Deletion, protection and what a deletion by tag does have been seen or are documented; pages, Accept and the catalog of
all but distribution are our guess.
"""
