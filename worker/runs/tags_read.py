"""How many tags of a repository a batch reads before its deletions, and the plan's warning about larger repositories.

Both follow from the registry's rate.
"""

from collections.abc import Iterator, Mapping
from math import ceil
from operator import itemgetter

from policies.warnings import PlanWarning
from worker.config.settings import RegistrySettings

TAGS_SECONDS = 30.0  # the longest that reading every tag may take; else the recheck's reading counts


def max_tags_read(registry: RegistrySettings) -> int:
    """The number of tags that are read before each batch; of a repository with more none is read."""
    return int(TAGS_SECONDS * registry.rate.requests_per_second)


def tags_not_read(tags: Mapping[str, int], registry: RegistrySettings) -> Iterator[PlanWarning]:
    """The warning that tags of a large repository are compared by its recheck alone. `tags`: how many, by path."""
    large = {path: count for path, count in tags.items() if count > max_tags_read(registry)}
    if registry.lists_untagged or not large:
        return
    path, count = max(large.items(), key=itemgetter(1))
    more = f" and {len(large) - 1:,} more" if len(large) > 1 else ""
    rate, needed = registry.rate.requests_per_second, ceil(count / TAGS_SECONDS)
    yield PlanWarning(
        "tags_not_read",
        f"{path}{more}: reading its {count:,} tags takes more than {TAGS_SECONDS:.0f} s at {rate:g} requests a second."
        " They are compared up to 10 minutes before a deletion: a tag that is moved to a planned image after that is"
        f" deleted with it. Set rate.requests_per_second to {needed}, or sweep while nobody pushes",
    )
