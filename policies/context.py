"""What is known of a registry's images beside its inventory: what people hold, what is in use, what scans have seen."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from policies.holds import Holds
from policies.image import Image
from policies.push_times import TRUSTED, PushTimeTrust
from policies.scan_history import NO_HISTORY, RepositoryHistory, tags_hash
from policies.subjects import indexes_over
from policies.units import duration_text


@dataclass(frozen=True)
class Evidence:
    """Everything that is in use, from all sources of one registry, each with who uses it."""

    digests: Mapping[str, str] = field(default_factory=dict)  # of an index, of an image, or of its config -> by whom
    tags: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (repository's path, tag) -> by whom

    def in_use(self, path: str, images: Iterable[Image]) -> dict[str, str]:
        """By digest, why an image of this repository is in use. What is in use by its child keeps its indexes."""
        if not self.digests and not self.tags:
            return {}
        images = tuple(images)
        used = {image.digest: f"in use by {by}" for image in images if (by := self._by(path, image)) is not None}
        over = indexes_over(images, used)
        return used | {index: f"lists {origin}, {used[origin]}" for index, origin in over.items()}

    def _by(self, path: str, image: Image) -> str | None:
        if (by := self.digests.get(image.digest)) is not None:
            return by
        if image.config is not None and (by := self.digests.get(image.config.digest)) is not None:
            return by
        return next((self.tags[path, tag] for tag in image.tags if (path, tag) in self.tags), None)


@dataclass(frozen=True)
class PlanContext:
    """What decides along with the rules, as of the plan's instant. The default knows of nothing."""

    holds: Holds = field(default_factory=Holds)
    evidence: Evidence = field(default_factory=Evidence)
    history: Mapping[str, RepositoryHistory] = field(
        default_factory=dict
    )  # repository -> what the scans before this one have seen
    times: PushTimeTrust = TRUSTED
    settle: timedelta = timedelta(0)  # only what was seen for that long, with the same tags, may go

    ignore_unreadable: frozenset[str] = frozenset()  # digests: if unreadable, it alone stays, not what it may list

    def seen(self, path: str) -> RepositoryHistory:
        """What is remembered of a repository."""
        return self.history.get(path, NO_HISTORY)

    def unsettled(self, path: str, images: Sequence[Image], now: datetime) -> dict[str, str]:
        """By digest, why an image of this repository is not settled: no complete scan so long ago saw it as it is."""
        if not self.settle:
            return {}
        known = self.seen(path).lookup([image.digest for image in images])
        asked = f"settle requires {duration_text(self.settle)}"
        found = {}
        for image in images:
            one = known.get(image.digest)
            if one is None:
                found[image.digest] = f"no earlier complete scan has seen it; {asked}"
            elif one.tags != tags_hash(image.tags):
                found[image.digest] = f"the last complete scan saw it with other tags; {asked}"
            elif now - one.since < self.settle:
                found[image.digest] = f"seen with these tags since {one.since:%Y-%m-%dT%H:%M:%SZ}; {asked}"
        return found


NOTHING = PlanContext()
