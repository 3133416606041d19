"""What `check` says of a configuration that has no mistake and may still mean something else than its author."""

from collections.abc import Iterator

from policies.conditions import All
from policies.warnings import INSTEAD
from worker.config.settings import RegistrySettings, Settings

EVERYTHING = (
    "all: true alone selects every image of the repositories that the rule applies to, today's pushes too; add a"
    " condition, such as older_than: 30d, or keep rules for what must stay"
)


PLAIN_HTTP = (
    "what is sent by plain http can be read and changed by whoever is on the way, passwords and lists of images alike:"
    " an image may be kept or deleted by a forged answer; use https, with ca_file where the authority is your own"
)


def remarks(settings: Settings) -> Iterator[tuple[str, str]]:
    """The path of a key, and a sentence about it."""
    for policy in settings.policies.values():
        for number, rule in enumerate(policy.rules):
            if rule.kind == "delete" and rule.conditions == (All(),) and rule.count is None:
                yield f"policies.{policy.name}[{number}].delete", EVERYTHING
    for name, registry in settings.registries.items():
        if registry.network.insecure_http:
            yield f"registries.{name}.insecure_http", PLAIN_HTTP
        weak = [] if registry.tells_push_time else list(_counts(registry))
        if weak:
            yield (
                f"registries.{name}",
                f"push_time is first_seen: images that one scan saw first have no known order, and all that tie at the"
                f" border of a count stay; weak here: {', '.join(weak)}; {INSTEAD}",
            )


def _counts(registry: RegistrySettings) -> Iterator[str]:
    for rule in registry.policy.rules:
        if rule.count is not None:
            yield f"{'beyond_newest' if rule.count.beyond else 'newest'} (rule {rule.name!r})"
    if registry.keep_per_repository:
        yield "keep_per_repository"
