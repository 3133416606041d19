"""Has the policies decide on every image of an inventory, and says what else a person should know of the plan.

Where an inventory comes from, and what becomes of a plan, is for `scan`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from policies.context import NOTHING, Standing
from policies.image import Repository, UnreadableImage
from policies.limits import Exceeded, exceeded
from policies.plan import Across, Closing, Columns, RepositoryPlan, across, close, decide, survey_all
from policies.push_times import BELIEVED, OUR_OWN, Times, doubted, trusted_after
from policies.warnings import PlanWarning, keeps_nothing, undecidable
from worker.config.settings import RegistrySettings
from worker.planning.inventory import Inventory
from worker.planning.scan_history import Comparison, compare
from worker.planning.unclear import Unclear
from worker.runs.tags_read import tags_not_read
from worker.store.scan_history import Recalled

NEVER_SCANNED = Recalled()


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, whole but for its decisions, which are made again from the inventory whenever they are read."""

    inventory: Inventory
    registry: RegistrySettings
    now: datetime
    across: Across
    closing: Closing
    exceeded: tuple[Exceeded, ...]
    standing: Standing
    compared: Comparison
    warnings: tuple[PlanWarning, ...] = ()
    undecidable: int = 0  # images kept because nobody reported an order between them and others
    unreadable_images: tuple[UnreadableImage, ...] = ()
    unread: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # path -> digests whose subject is not reported

    @property
    def complete(self) -> bool:
        return not self.inventory.unreadable

    @property
    def doubt(self) -> str:
        """Why push times are not believed; empty: they are, or a person has said which ones are."""
        return "" if self.registry.trust_times_after is not None else self.standing.times.doubt

    def repository_plans(self) -> Iterator[RepositoryPlan]:
        """The same every time: what the policies are given does not change."""
        for repository in self.inventory.repositories():
            yield _decide(repository, self.registry, self.now, self.across, self.standing)


def plan(
    inventory: Inventory,
    registry: RegistrySettings,
    now: datetime,
    standing: Standing = NOTHING,
    before: Recalled = NEVER_SCANNED,
) -> Planned:
    """Have the policies decide on every image of an inventory. Pure but for the memory it takes.

    `before`: what earlier scans have seen.
    """
    standing = replace(
        standing,
        memory=before.lasting,
        settle=registry.settle,
        times=_times(registry, before),
        ignore_unreadable=frozenset(registry.ignore_unreadable),
    )
    everywhere, compared, standing = _survey(inventory, registry, now, standing, before)
    unread: dict[str, tuple[str, ...]] = {}
    unclear = Unclear(standing.ignore_unreadable, inventory.unread)
    tags: dict[str, int] = {}  # of repositories in which something goes

    def decided() -> Iterator[Columns]:
        for repository in inventory.repositories():
            unclear.note(repository.path, repository.images)
            one = _decide(repository, registry, now, everywhere, standing)
            if one.unread:
                unread[one.path] = one.unread
            if any(made.verdict == "delete" for made in one.decisions):
                tags[one.path] = sum(len(image.tags) for image in repository.images)
            yield one.columns

    closing = close(decided())
    over = exceeded(closing.totals, registry.limits) + compared.exceeded
    whole = closing.totals.images and not inventory.unreadable
    return Planned(
        inventory,
        registry,
        now,
        everywhere,
        closing,
        over,
        standing,
        compared,
        warnings=(
            *undecidable(closing.undecidable),
            *unclear.warnings(),
            *tags_not_read(tags, registry),
            *keeps_nothing(registry.policy.keep_rules if whole else (), closing.keeping),
        ),
        undecidable=closing.undecidable,
        unreadable_images=tuple(unclear.unreadable),
        unread=unread,
    )


def _survey(
    inventory: Inventory, registry: RegistrySettings, now: datetime, standing: Standing, before: Recalled
) -> tuple[Across, Comparison, Standing]:
    """What must be known of all repositories before one is decided; the surveys themselves are not held any longer."""
    surveys, standing = survey_all(inventory.repositories, registry.policy, now, standing)
    return (
        across(surveys, registry.policy, standing),
        compare(before, surveys, inventory.unreadable, registry.asks_for),
        standing,
    )


def _times(registry: RegistrySettings, before: Recalled) -> Times:
    """Which push times are believed before this inventory is looked at. A doubt stays until a person answers it.

    What this store saw first, and when, is its own word: a whole registry seen first in one scan is no doubt.
    """
    trusted = registry.trust_times_after
    if not registry.tells_push_time:
        own = OUR_OWN if trusted is None else trusted_after(trusted, first_seen=True)
        return replace(own, returned=frozenset(before.head.returned if before.head else ()))
    if trusted is not None:
        return trusted_after(trusted)
    return doubted(before.head.doubt) if before.head is not None and before.head.doubt else BELIEVED


def _decide(
    repository: Repository, registry: RegistrySettings, now: datetime, everywhere: Across, standing: Standing
) -> RepositoryPlan:
    n = registry.keep_per_repository
    return decide(repository, registry.policy, now, everywhere, keep_per_repository=n, standing=standing)
