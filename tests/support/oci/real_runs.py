"""Runs on a real registry: its entry in the configuration, the expected deletions, and the images still present."""

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from tests.support.cluster import cluster, command, metric
from tests.support.harness import Harness
from tests.support.oci.contents import Key, RegistryContents, fill
from tests.support.oci.pusher import Pusher
from tests.support.oci.server import DockerRegistry
from worker.registries import open_registry
from worker.restore import restore as restoring
from worker.restore.images import RestoredImage
from worker.store import Store
from worker.store.tables import blob

RULES = [
    {"name": "releases", "keep": {"tags": ["v*"]}},
    {"name": "pull requests", "delete": {"tags": ["pr-*"], "older_than": "30d"}},
    {"name": "builds", "delete": {"tags": ["build-*"]}},
    {"name": "indexes", "delete": {"tags": ["multi-1", "multi-2", "nested-*", "list-*"]}},
    {"name": "copies", "delete": {"tags": ["skopeo-all", "skopeo-docker"]}},
]
SELECTED_TAGS = ("pr-[0-4]", "build-*", "multi-[12]", "nested-*", "list-*", "skopeo-all", "skopeo-docker")
"""The tags that RULES select: of the pull requests only `pr-5` is younger than 30 days."""


def served(registry: DockerRegistry, **keys: Any) -> dict[str, Any]:
    """Its entry; anonymous unless `credentials` are given."""
    own = {"kind": "oci", "url": registry.url, "credentials": {"anonymous": True}, "push_time": "image"}
    return own | keys


def restore(harness: Harness, words: str, *, partly: bool = False) -> dict[str, RestoredImage]:
    """Digest -> the restored image."""
    asked = replace(restoring.resolve_request(harness.store, harness.settings, words), partly=partly)
    with open_registry(harness.settings.registries["production"]) as opened:
        return {image.digest: image for image in restoring.restore(harness.store, asked, opened)}


def expected_deletions(contents: RegistryContents, patterns: Iterable[str]) -> frozenset[Key]:
    """The listed images that a policy deletes if it selects the tags, computed without the policies' code.

    An untagged child is deleted with the last of its indexes; a referrer (by `subject`, by cosign's tags, or as the
    fallback index) is deleted with its subject.
    """
    listed = {key: manifest for key, manifest in contents.images.items() if key in contents.listed}
    gone: set[Key] = set()
    while True:
        more = {key for key in listed if key not in gone and _is_deleted(key, listed, gone, tuple(patterns))}
        if not more:
            return frozenset(gone)
        gone |= more


def _is_deleted(key: Key, listed: Mapping[Key, Any], gone: set[Key], patterns: tuple[str, ...]) -> bool:
    repository, digest = key
    image = listed[key]
    if subject := _subject(image):
        return (repository, subject) in gone
    if image.tags:
        return all(any(fnmatch.fnmatchcase(tag, pattern) for pattern in patterns) for tag in image.tags)
    indexes = {
        other
        for other, manifest in listed.items()
        if other[0] == repository and digest in [child.digest for child in manifest.children]
    }
    return bool(indexes) and indexes <= gone


def _subject(image: Any) -> str:
    """The digest of its subject; empty if the image is no referrer."""
    fallback = [tag.partition(".")[0].replace("-", ":", 1) for tag in image.tags if tag.startswith("sha256-")]
    return image.subject or (fallback[0] if fallback else "")


def still_present(registry: DockerRegistry, keys: Iterable[Key], **sign_in: str) -> frozenset[Key]:
    """The manifests of `keys` that the registry still serves."""
    pusher = Pusher(registry.url, **sign_in)
    return frozenset(key for key in keys if pusher.exists(*key))


def pull_all(registry: DockerRegistry, keys: Iterable[Key]) -> None:
    """Each of these is whole, every blob fetched and hashed; NotWholeError otherwise."""
    pusher = Pusher(registry.url)
    by_repository: dict[str, list[str]] = {}
    for repository, digest in keys:
        by_repository.setdefault(repository, []).append(digest)
    for repository, digests in by_repository.items():
        pusher.pull_whole(repository, *digests)


def collected(registry: DockerRegistry, contents: RegistryContents) -> dict[str, int]:
    """Run the registry's collector: digest -> bytes of the blobs that it frees, manifests excluded."""
    before = registry.data_files()
    registry.collect().check_returncode()
    after = registry.data_files()
    manifests = {digest for _, digest in contents.images}
    return {digest: size for digest, size in before.items() if digest not in after and digest not in manifests}


def named(store: Store, run_id: str, *, reclaimed: bool) -> dict[str, int]:
    """Digest -> bytes of the blobs that the plan counts as reclaimable; `reclaimed`: that the outcomes count."""
    wanted = select(blob.c.digest, blob.c.size).where(blob.c.run_id == run_id)
    if reclaimed:
        wanted = wanted.where(blob.c.remaining == 0, blob.c.deleted_by_us, ~blob.c.still_referenced)
    with store.read() as connection:
        return {row.digest: row.size for row in connection.execute(wanted)}


def bytes_agree(folder: Path, *, cache: bool) -> None:
    """A whole run through Celery: plan, metrics and the registry's own collector report the same bytes."""
    with DockerRegistry(cache=cache) as registry:
        contents = fill(registry, now=datetime.now(UTC), untagged=False)
        assert not contents.unlisted
        expected = expected_deletions(contents, SELECTED_TAGS)
        with cluster(
            served(registry), folder, rules=RULES, rate={"requests_per_second": 1000, "concurrency": 8}
        ) as made:
            made.start_worker()
            made.start_beat()
            waited = command(made, "sweep", "production", "--wait")
            assert waited.code == 0, waited.err
            (run,) = command(made, "runs", "--format", "json").json["runs"]
            items = made.harness.items(run["id"])
            counted = metric(made, 'registry_gc_reclaimed_bytes_total{registry="production"}')
            planned = named(made.harness.store, run["id"], reclaimed=False)
            reclaimed = named(made.harness.store, run["id"], reclaimed=True)

        assert {(item.decision.repository, item.decision.digest) for item in items} == expected
        assert (run["outcome"], run["deleted"], run["images"]) == ("succeeded", len(expected), len(contents.listed))
        kept = frozenset(contents.images) - expected
        assert still_present(registry, expected) == frozenset()
        pull_all(registry, kept)

        freed = collected(registry, contents)
        assert planned == reclaimed == freed == contents.freed(expected)
        assert run["reclaimable_bytes"] == run["reclaimed_bytes"] == counted == sum(freed.values()) > 0
        pull_all(registry, kept)
        figures = f"plan {run['reclaimable_bytes']:,}, metrics {int(counted):,}, disk {sum(freed.values()):,} bytes"
        what = f"{len(expected)} of {len(contents.listed)} manifests, {len(freed)} configs and layers"
        print(f"\n{figures} ({what}; {'with' if cache else 'without'} cache)")  # noqa: T201 - what -s is for
