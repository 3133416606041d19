"""The facts beyond the inventory that decide along with the rules: holds, evidence of use, and the scan history."""

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
    """The images in use, from all sources of one registry, each with its user."""

    digests: Mapping[str, str] = field(default_factory=dict)  # of an index, of an image, or of its config -> user
    tags: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (repository's path, tag) -> user

    def in_use(self, path: str, images: Iterable[Image]) -> dict[str, str]:
        """By digest, why an image of this repository is in use. An index is in use if one of its children is."""
        if not self.digests and not self.tags:
            return {}
        images = tuple(images)
        used = {image.digest: f"in use by {user}" for image in images if (user := self._user(path, image)) is not None}
        over = indexes_over(images, used)
        return used | {index: f"lists {child}, {used[child]}" for index, child in over.items()}

    def _user(self, path: str, image: Image) -> str | None:
        if (user := self.digests.get(image.digest)) is not None:
            return user
        if image.config is not None and (user := self.digests.get(image.config.digest)) is not None:
            return user
        return next((self.tags[path, tag] for tag in image.tags if (path, tag) in self.tags), None)


@dataclass(frozen=True)
class PlanContext:
    """The facts that decide along with the rules, as of the time of the plan. The default has none."""

    holds: Holds = field(default_factory=Holds)
    evidence: Evidence = field(default_factory=Evidence)
    history: Mapping[str, RepositoryHistory] = field(default_factory=dict)  # repository -> what earlier scans saw
    push_times: PushTimeTrust = TRUSTED
    settle: timedelta = timedelta(0)  # scans must have seen an image for that long, with its tags, before it is deleted
    ignore_unreadable: frozenset[str] = frozenset()  # digests: an unreadable index that keeps no other image

    def history_of(self, path: str) -> RepositoryHistory:
        """The scan history of a repository."""
        return self.history.get(path, NO_HISTORY)

    def unsettled(self, path: str, images: Sequence[Image], now: datetime) -> dict[str, str]:
        """By digest, why an image of this repository is unsettled: scans have not seen it unchanged for long enough."""
        if not self.settle:
            return {}
        history = self.history_of(path).lookup([image.digest for image in images])
        required = f"settle requires {duration_text(self.settle)}"
        reasons = {}
        for image in images:
            known = history.get(image.digest)
            if known is None:
                reasons[image.digest] = f"no earlier complete scan has seen it; {required}"
            elif known.tags != tags_hash(image.tags):
                reasons[image.digest] = f"the last complete scan saw it with other tags; {required}"
            elif now - known.since < self.settle:
                reasons[image.digest] = f"seen with these tags since {known.since:%Y-%m-%dT%H:%M:%SZ}; {required}"
        return reasons


EMPTY_CONTEXT = PlanContext()
