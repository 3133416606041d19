"""A realistic registry, the same for the same seed and time: the pushes of a company of a few teams in two years.

25 repositories, about 2,000 images: releases (some multi-platform, some signed), branch builds and moving tags that
leave untagged images behind, pull-request builds pushed again and again, nightly builds, charts, base images whose
layers everybody shares, models of several GiB. Sizes are declared; nothing here has that many bytes.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from tests.support.simulator.registry import (
    DEFAULT_REGISTRY,
    DOCKER_MANIFEST,
    OCI_MANIFEST,
    Blob,
    Cloud,
    Image,
    digest_of,
)

KB, MB, GB = 1_000, 1_000_000, 1_000_000_000
DAY = timedelta(days=1)
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"


@dataclass(frozen=True)
class RepositoryProfile:
    """How a team uses one repository: how many pushes of each kind in two years."""

    path: str
    base: str  # whose base layers it builds on; "": none
    size: int  # bytes of a typical image's own layers
    releases: int = 0
    branches: int = 0  # builds of main and of feature branches
    pulls: int = 0  # pull requests; each is pushed one to four times
    nightlies: int = 0
    platforms: int = 1  # above one, a release is an index
    signed: bool = False


SERVICES = (
    RepositoryProfile("shop/api", "python", 45 * MB, releases=22, branches=60, pulls=34, platforms=2, signed=True),
    RepositoryProfile("shop/web", "node", 80 * MB, releases=20, branches=56, pulls=36),
    RepositoryProfile("shop/cart", "jre", 60 * MB, releases=14, branches=36, pulls=20),
    RepositoryProfile("shop/checkout", "jre", 65 * MB, releases=14, branches=34, pulls=18, signed=True),
    RepositoryProfile("shop/search", "jre", 140 * MB, releases=10, branches=32, pulls=18, nightlies=30),
    RepositoryProfile("shop/worker", "python", 50 * MB, releases=16, branches=44, pulls=22, platforms=2),
    RepositoryProfile("platform/gateway", "", 28 * MB, releases=22, branches=44, pulls=24, platforms=3, signed=True),
    RepositoryProfile("platform/auth", "", 24 * MB, releases=16, branches=28, pulls=14, platforms=2, signed=True),
    RepositoryProfile("platform/notifier", "python", 38 * MB, releases=10, branches=20, pulls=12),
    RepositoryProfile("platform/scheduler", "", 22 * MB, releases=10, branches=18, pulls=8),
    RepositoryProfile("platform/billing", "jre", 70 * MB, releases=14, branches=32, pulls=18, signed=True),
    RepositoryProfile("ml/trainer", "python", 4 * GB, releases=6, branches=22, nightlies=34),
    RepositoryProfile("ml/features", "python", 900 * MB, releases=8, branches=20, pulls=8, nightlies=26),
    RepositoryProfile("ml/serving", "python", 1_600 * MB, releases=8, branches=16, pulls=8),
    RepositoryProfile("data/etl", "python", 210 * MB, releases=8, branches=22, pulls=10, nightlies=24),
    RepositoryProfile("data/exporter", "", 18 * MB, releases=8, branches=12, pulls=6, platforms=2),
    RepositoryProfile("data/loader", "jre", 95 * MB, releases=6, branches=14, pulls=6),
    RepositoryProfile("tools/ci-runner", "node", 700 * MB, releases=6, branches=18, nightlies=30),
    RepositoryProfile("tools/lint", "node", 120 * MB, releases=6, branches=12, pulls=6),
    RepositoryProfile("tools/backup", "", 15 * MB, releases=6, branches=8, platforms=2),
    RepositoryProfile("base/python", "python", 12 * MB, releases=14, nightlies=16, platforms=2, signed=True),
    RepositoryProfile("base/node", "node", 14 * MB, releases=12, nightlies=14, platforms=2),
    RepositoryProfile("base/jre", "jre", 10 * MB, releases=12, nightlies=12),
)
CHARTS = ("charts/shop", "charts/platform")
BASES = {
    "python": (29_126_000, 3_512_000, 12_380_000),
    "node": (29_126_000, 46_900_000),
    "jre": (29_126_000, 88_400_000),
}


class Builder:
    """Pushes into one registry in order of time, so that tags move as they would have."""

    def __init__(self, cloud: Cloud, now: datetime, seed: int, registry: str = DEFAULT_REGISTRY) -> None:
        self.cloud, self.registry = cloud, registry
        self.now = now.astimezone(UTC).replace(microsecond=now.microsecond // 1000 * 1000)
        self.random = random.Random(seed)
        self.label = f"{seed} {self.now.isoformat()}"
        self.count = 0

    def own(self, size: float) -> Blob:
        """A blob that no other image has."""
        self.count += 1
        return Blob(
            digest_of(f"{self.label} {self.count}".encode()), max(100, int(size * self.random.lognormvariate(0, 0.35)))
        )

    def base_layers(self, habit: RepositoryProfile, at: datetime, platform: int = 0) -> list[Blob]:
        """The base of that time: a new one every four months, shared by all repositories that build on it."""
        generation = (self.now - at).days // 120
        return [
            Blob(
                digest_of(f"base {place} {size} {generation} {platform}".encode()),
                size + generation * 10_007 + platform * 1_009,
            )
            for place, size in enumerate(BASES.get(habit.base, ()))
        ]

    def image(self, habit: RepositoryProfile, at: datetime, tags: list[str], platform: int = 0) -> Image:
        """An image: base layers, dependencies shared by the builds of a month, and its own layers."""
        month = (self.now - at).days // 30
        size = int(habit.size * (0.55 + (month * 37 % 11) / 20))
        dependencies = Blob(digest_of(f"deps {habit.path} {month} {platform}".encode()), size)
        own = [self.own(habit.size * share) for share in self.random.choice([(0.2,), (0.3, 0.02), (0.1, 0.05, 0.01)])]
        return self.cloud.push(
            habit.path,
            registry=self.registry,
            tags=tags,
            layers=[*self.base_layers(habit, at, platform), dependencies, *own],
            config=self.own(6 * KB),
            created_at=at,
            media_type=DOCKER_MANIFEST if habit.base == "jre" else OCI_MANIFEST,
        )

    def release(self, habit: RepositoryProfile, at: datetime, tags: list[str]) -> None:
        """A release: one image, or an index over untagged children; signed where the team signs."""
        if habit.platforms == 1:
            released = self.image(habit, at, tags)
        else:
            children = [self.image(habit, at, [], platform).digest for platform in range(habit.platforms)]
            released = self.cloud.push_index(
                habit.path, registry=self.registry, children=children, tags=tags, created_at=at
            )
        if habit.signed:
            self.sign(habit.path, released.digest, at + timedelta(seconds=20))

    def sign(self, path: str, digest: str, at: datetime, suffix: str = "sig") -> None:
        tag = f"sha256-{digest.removeprefix('sha256:')}.{suffix}"
        self.cloud.push(
            path, registry=self.registry, tags=[tag], layers=[self.own(250)], config=self.own(230), created_at=at
        )

    def chart(self, path: str, at: datetime, version: str) -> None:
        self.cloud.push(
            path,
            registry=self.registry,
            tags=[version],
            layers=[self.own(40 * KB)],
            config=self.own(400),
            created_at=at,
            config_type=HELM_CONFIG,
        )


Push = tuple[datetime, Callable[[], object]]


def times(builder: Builder, count: int, oldest: float = 730, newest: float = 0.2) -> list[datetime]:
    """Push times, oldest first, in whole milliseconds, more of them lately than long ago."""
    ages = sorted((newest + (oldest - newest) * builder.random.random() ** 1.6 for _ in range(count)), reverse=True)
    return [builder.now - timedelta(milliseconds=int(age * 86_400_000)) for age in ages]


def version(place: int, per_minor: int = 4) -> str:
    return f"v{1 + place // 12}.{place % 12 // per_minor}.{place % per_minor}"


def commit(builder: Builder) -> str:
    return f"{builder.random.getrandbits(28):07x}"


def releases(builder: Builder, habit: RepositoryProfile) -> Iterator[Push]:
    """`latest` is the newest release, `stable` is one release behind."""
    at = times(builder, habit.releases)
    for place, moment in enumerate(at):
        tags = [version(place), "latest", *(["stable"] if place % 3 == 0 else [])]
        yield moment, partial(builder.release, habit, moment, tags)


def branches(builder: Builder, habit: RepositoryProfile) -> Iterator[Push]:
    """Builds of main, most with a commit tag, and of branches: a tag that moves on leaves the build before untagged."""
    for moment in times(builder, habit.branches, oldest=400):
        topic = builder.random.choice(["login", "upgrade", "metrics", "cleaner-logs", "retry"])
        tags = ["main", f"main-{commit(builder)}"] if builder.random.random() < 0.5 else [f"feature-{topic}"]
        if builder.random.random() < 0.2:
            tags = ["main"]
        yield moment, partial(builder.image, habit, moment, tags)


def pulls(builder: Builder, habit: RepositoryProfile) -> Iterator[Push]:
    """Each pull request is pushed one to four times within days: all but the last are untagged leftovers."""
    for number, moment in enumerate(times(builder, habit.pulls, oldest=240), start=builder.random.randrange(100, 900)):
        later = timedelta(0)
        for _ in range(builder.random.choice([1, 1, 2, 2, 3, 4])):
            pushed = min(moment + later, builder.now - timedelta(minutes=5))
            yield pushed, partial(builder.image, habit, pushed, [f"pr-{number}"])
            later += timedelta(milliseconds=int(builder.random.uniform(0.05, 2.5) * 86_400_000))


def nightlies(builder: Builder, habit: RepositoryProfile) -> Iterator[Push]:
    for place in range(habit.nightlies, 0, -1):
        moment = builder.now - place * DAY - timedelta(hours=1)
        tags = ["nightly", f"nightly-{moment:%Y%m%d}"]
        yield moment, partial(builder.image, habit, moment, tags)


def charts(builder: Builder) -> Iterator[Push]:
    for path in CHARTS:
        for place, moment in enumerate(times(builder, 24)):
            tag = version(place).removeprefix("v")
            yield moment, partial(builder.chart, path, moment, tag)


def orphans(builder: Builder) -> Iterator[Push]:
    """Signatures and attestations of images that somebody has deleted by hand since."""
    for place, moment in enumerate(times(builder, 12, oldest=500, newest=30)):
        digest = digest_of(f"{builder.label} gone {place}".encode())
        suffix = ("sig", "sig", "att", "sbom")[place % 4]
        yield moment, partial(builder.sign, "shop/api", digest, moment, suffix)


def many(builder: Builder, count: int) -> None:
    """Single images in all repositories but the charts', for measuring: a third untagged, the rest of pull requests."""
    for place, moment in enumerate(times(builder, count)):
        habit = SERVICES[place % len(SERVICES)]
        builder.image(habit, moment, [f"pr-{place}"] if place % 3 else [])


def fill(cloud: Cloud, what: str, now: datetime, seed: int) -> dict[str, int]:
    """Fills the default registry: `demo`, a plain number of images, or nothing for `empty`."""
    if what not in {"demo", "empty"} and not what.isdecimal():
        raise ValueError(f"nothing is known to fill with as {what!r}; demo, empty, a number, or a JSON file")
    if what.isdecimal():
        many(Builder(cloud, now, seed), int(what))
    if what == "demo":
        builder = Builder(cloud, now, seed)
        pushes: list[Push] = [*charts(builder), *orphans(builder)]
        for habit in SERVICES:
            for kind in (releases, branches, pulls, nightlies):
                pushes += kind(builder, habit)
        for _, push in sorted(pushes, key=lambda push: push[0]):
            push()
    return {"images": len(cloud.by_id)}


def push_more(cloud: Cloud, count: int, now: datetime, seed: int) -> dict[str, int]:
    """Push the images of a busy day.

    Half moves `main` on, so that old builds lose their last tag; half are pull requests of weeks ago, as if another
    registry had been moved here with its times.
    """
    builder = Builder(cloud, now, seed)
    services = [habit for habit in SERVICES if habit.pulls]
    for place in range(count):
        habit = services[place % len(services)]
        if place % 2:
            builder.image(
                habit, now - timedelta(minutes=builder.random.randrange(1, 30)), ["main", f"main-{commit(builder)}"]
            )
        else:
            at = now - timedelta(days=builder.random.uniform(15, 90))
            builder.image(habit, at, [f"pr-{2_000 + place // 2}"] if place % 4 else [])
    return {"images": len(cloud.by_id)}
