"""Fills a real registry: four repositories that share layers, with indexes, referrers, signatures and moved tags."""

import dataclasses
import gzip
import random
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from tests.support.oci import skopeo
from tests.support.oci.manifests import Pushed
from tests.support.oci.pusher import Pusher
from tests.support.oci.server import DockerRegistry

REPOSITORIES = ("ml/models", "shop/api", "shop/web", "tools/builder")
PLATFORMS = (("linux", "amd64"), ("linux", "arm64"), ("linux", "s390x"))
NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
Key = tuple[str, str]
"""Repository and digest."""


@dataclasses.dataclass(frozen=True)
class RegistryContents:
    """The manifests that were pushed, in order; tags and reachable manifests follow from them."""

    pushed: tuple[Pushed, ...]

    @cached_property
    def tags(self) -> Mapping[tuple[str, str], str]:
        """Repository and tag -> digest: the last push wins."""
        return {(manifest.repository, tag): manifest.digest for manifest in self.pushed for tag in manifest.tags}

    @cached_property
    def images(self) -> Mapping[Key, Pushed]:
        """Every manifest once, with its present tags."""
        now: dict[Key, list[str]] = {}
        for (repository, tag), digest in self.tags.items():
            now.setdefault((repository, digest), []).append(tag)
        last = {(manifest.repository, manifest.digest): manifest for manifest in self.pushed}
        return {key: dataclasses.replace(manifest, tags=tuple(now.get(key, ()))) for key, manifest in last.items()}

    @cached_property
    def listed(self) -> frozenset[Key]:
        """The manifests that a client can find: those with a tag, and their children."""
        listed: set[Key] = set()
        waiting = [key for key, manifest in self.images.items() if manifest.tags]
        while waiting:
            key = waiting.pop()
            if key not in listed:
                listed.add(key)
                waiting += [(key[0], child.digest) for child in self.images[key].children]
        return frozenset(listed)

    @property
    def unlisted(self) -> frozenset[Key]:
        """The manifests that only a client with their digest can find."""
        return frozenset(self.images) - self.listed

    def under(self, keys: Iterable[Key]) -> frozenset[Key]:
        """The manifests, and every manifest below them."""
        reached = set(keys)
        for repository, digest in list(reached):
            below = ((repository, child.digest) for child in self.images[repository, digest].children)
            reached |= self.under(below)
        return frozenset(reached)

    def blobs(self, keys: Iterable[Key]) -> dict[str, int]:
        """Digest -> bytes of the configs and layers of the manifests."""
        return {blob.digest: blob.size for key in keys for blob in self.images[key].blobs}

    def freed(self, deleted: Iterable[Key], *, of: Iterable[Key] | None = None) -> dict[str, int]:
        """Digest -> bytes of the blobs that only `deleted` manifests name. `of`: the manifests that a client knows."""
        gone = frozenset(deleted)
        left = self.blobs(key for key in (self.images if of is None else of) if key not in gone)
        return {digest: size for digest, size in self.blobs(gone).items() if digest not in left}


def fill(
    registry: DockerRegistry,
    *,
    seed: int = 1,
    now: datetime = NOW,
    repositories: Sequence[str] = REPOSITORIES,
    untagged: bool = True,
    by_skopeo: bool = True,
) -> RegistryContents:
    """Push a registry full, some 40 images a repository; configs are 1 to 200 days older than `now`.

    `by_skopeo`: the first two get a few more images by it. `untagged`: overwritten tags leave manifests behind that no
    tag reaches; without, each of these has another tag.
    """
    pusher = Pusher(registry.url)
    filler = _Filler(pusher, random.Random(seed), now, untagged=untagged)
    for repository in repositories:
        filler.fill(repository)
    if by_skopeo:
        for repository in repositories[:2]:
            filler.fill_by_skopeo(repository, registry.host)
    pusher.close()
    return RegistryContents(tuple(filler.pushed))


class _Filler:
    def __init__(self, pusher: Pusher, chance: random.Random, now: datetime, *, untagged: bool) -> None:
        self._pusher = pusher
        self._chance = chance
        self._now = now
        self._untagged = untagged
        self._bases = [self._layer(20_000, 60_000) for _ in range(3)]  # shared by everything
        self.pushed: list[Pushed] = []

    def _layer(self, least: int = 200, most: int = 8_000) -> bytes:
        return gzip.compress(self._chance.randbytes(self._chance.randint(least, most)), mtime=0)

    def _created(self, days: float) -> str:
        return (self._now - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _keep(self, pushed: Pushed) -> Pushed:
        self.pushed.append(pushed)
        return pushed

    def _image(
        self, repository: str, *tags: str, days: float, shared: tuple[bytes, ...] = (), **options: object
    ) -> Pushed:
        layers = [self._chance.choice(self._bases), *shared, self._layer()]
        labels = {"org.opencontainers.image.title": repository}
        made = self._pusher.image(
            repository,
            *tags,
            layers=layers,
            created=self._created(days),
            labels=labels,
            **options,  # type: ignore[arg-type] # the caller's words
        )
        return self._keep(made)

    def fill(self, repository: str) -> None:
        self._releases(repository)
        self._pull_requests(repository)
        self._overwritten(repository)
        self._indexes(repository)
        self._docker(repository)
        self._keep(self._pusher.artifact(repository, "chart-1", artifact_type="application/vnd.cncf.helm.chart.v1"))

    def _releases(self, repository: str) -> None:
        """Some with two tags, some signed, some with referrers."""
        for number in range(5):
            release = self._image(
                repository, f"v1.{number}", *([f"v1.{number}.0"] * (number % 2)), days=200 - 30 * number
            )
            if number < 3:
                self._keep(self._pusher.sign(release, payload=self._layer()))
            if number == 2:
                self._refer(release)

    def _pull_requests(self, repository: str) -> None:
        """Two that share a layer, old and new ones; one signed, one with referrers."""
        for number in range(6):
            if number % 2 == 0:
                shared = (self._layer(),)
            image = self._image(repository, f"pr-{number}", days=90 - 15 * number + 1, shared=shared)
            if number == 0:
                self._keep(self._pusher.sign(image, payload=self._layer()))
            if number == 1:
                self._refer(image)

    def _refer(self, subject: Pushed) -> None:
        """Two referrers, named by one fallback index; or by two, the first of which lost its tag to the second."""
        pushed = [
            self._keep(
                self._pusher.refer(
                    subject, artifact_type=f"application/vnd.{kind}", payload=self._layer(), listed=False
                )
            )
            for kind in ("sbom", "attestation")
        ]
        for referrers in [pushed[:1], pushed[1:]] if self._untagged else [pushed]:
            self._keep(self._pusher.list_referrers(subject, *referrers))

    def _overwritten(self, repository: str) -> None:
        """`nightly` is pushed four times; it and its predecessors share a layer that is nowhere else."""
        shared = (self._layer(),)
        for number in range(4):
            tags = ["nightly"] if self._untagged else ["nightly", f"build-{number}"]
            self._image(repository, *tags, days=40 - number, shared=shared)

    def _indexes(self, repository: str) -> None:
        """Two that share a child, a signed one, a nested one, and one of a tagged image."""
        shared = (self._layer(),)
        children = [self._image(repository, days=60, platform=platform, shared=shared) for platform in PLATFORMS]
        self._index(repository, "multi-0", children)
        other = self._image(repository, days=50, platform=PLATFORMS[1])
        second = self._index(repository, "multi-1", [children[0], other])
        self._keep(self._pusher.sign(second, payload=self._layer(), kind="att"))
        inner = self._index(
            repository, "", [self._image(repository, days=30, platform=platform) for platform in PLATFORMS[:2]]
        )
        self._index(repository, "nested-0", [inner, self._image(repository, days=30, platform=PLATFORMS[2])])
        self._index(repository, "multi-2", [self._image(repository, "v2.0", days=5)])

    def _index(self, repository: str, tag: str, children: list[Pushed]) -> Pushed:
        """Untagged where `tag` is empty."""
        tags = [tag] if tag else []
        return self._keep(self._pusher.index(repository, *tags, children=children, platforms=PLATFORMS))

    def _docker(self, repository: str) -> None:
        """An image and a list of Docker's types."""
        self._image(repository, "docker-0", days=70, docker=True)
        children = [self._image(repository, days=70, docker=True, platform=platform) for platform in PLATFORMS[:2]]
        listed = self._pusher.index(repository, "list-0", children=children, platforms=PLATFORMS, docker=True)
        self._keep(listed)

    def fill_by_skopeo(self, repository: str, host: str) -> None:
        """An image, its Docker twin, and an index; skopeo may write them anew, so they are read back."""
        with tempfile.TemporaryDirectory(prefix="registry-gc-layout-") as folder:
            layout = skopeo.Layout(Path(folder) / "layout")
            images = {
                platform: layout.image(
                    platform[1], [self._bases[0], self._layer()], created=self._created(25), platform=platform
                )
                for platform in PLATFORMS
            }
            layout.index("all", images)
            target = f"{host}/{repository}"
            skopeo.copy(layout, "arm64", f"{target}:skopeo-image")
            skopeo.copy(layout, "arm64", f"{target}:skopeo-docker", "--format", "v2s2")
            skopeo.copy(layout, "all", f"{target}:skopeo-all", "--all")
        for tag in ("skopeo-image", "skopeo-docker", "skopeo-all"):
            self.pushed += self._read_back(repository, tag)

    def _read_back(self, repository: str, tag: str) -> Iterator[Pushed]:
        top = self._pusher.read(repository, tag, tag)
        yield from (self._pusher.read(repository, child.digest) for child in top.children)
        yield top
