"""Which settings bind a run: the configuration file's as it is now, never less careful than those of the run's plan."""

from worker.config.settings import EvidenceSettings, RegistrySettings, Settings
from worker.runs.evidence import settings_sha256
from worker.store.runs import Run, SourceTerms, Terms


def terms_of(settings: Settings, registry: RegistrySettings) -> Terms:
    """What a plan made now is made by."""
    return Terms(
        file_sha256=settings.sha256,
        in_use=tuple(
            SourceTerms(
                name=one.name,
                sha256=settings_sha256(one),
                max_age=one.max_age,
                allow_empty=one.allow_empty,
                allow_foreign=one.allow_foreign,
            )
            for one in registry.in_use
        ),
        addresses=registry.addresses,
        plan_max_age=registry.plan_max_age,
        deadline=registry.deadline,
        settle=registry.settle,
        ignore_unreadable=registry.ignore_unreadable,
        transitional=registry.transitional,
    )


def registry_of(settings: Settings, run: Run) -> RegistrySettings | None:
    """A run's registry, under the stricter of its plan's terms and the file's; None: the file does not have it.

    An entry of the same name that is another registry by now (kind, endpoint or id) is not the run's.
    """
    found = settings.registries.get(run.registry)
    return stricter(found, run.terms) if found is not None and found.key == run.registry_key else None


def why_not_there(settings: Settings, run: Run) -> str:
    """Why the file does not have a run's registry."""
    found = settings.registries.get(run.registry)
    if found is None:
        return f"the registry {run.registry!r} is no longer configured"
    return (
        f"{run.registry!r} is another registry by now: the run is of {_shown(run.registry_key)},"
        f" the configuration file has {_shown(found.key)}; start a new run"
    )


def _shown(key: str) -> str:
    """A registry's key as a person reads it: kind, endpoint, id."""
    return key.replace("|", " ").strip()


def stricter(registry: RegistrySettings, terms: Terms) -> RegistrySettings:
    """The same registry, each setting that protects images the stricter of the two."""
    ages = [one for one in (registry.plan_max_age, terms.plan_max_age) if one is not None]
    deadlines = [one for one in (registry.deadline, terms.deadline) if one is not None]
    planned = {one.name: one for one in terms.in_use}
    ignored = registry.ignore_unreadable
    if terms.ignore_unreadable is not None:  # named since the plan, it protected what it may list
        ignored = tuple(one for one in ignored if one in terms.ignore_unreadable)
    return registry.model_copy(
        update={
            "in_use": tuple(_stricter_source(one, planned.get(one.name)) for one in registry.in_use),
            "addresses": tuple(dict.fromkeys((*registry.addresses, *terms.addresses))),
            "plan_max_age": min(ages),
            "deadline": min(deadlines, default=None),
            "settle": max(registry.settle, terms.settle),
            "ignore_unreadable": ignored,
            "transitional": registry.transitional and terms.transitional,
        }
    )


def _stricter_source(source: EvidenceSettings, planned: SourceTerms | None) -> EvidenceSettings:
    if planned is None:  # named since the plan: it protects as well
        return source
    return source.model_copy(
        update={
            "max_age": min(source.max_age, planned.max_age),
            "allow_empty": source.allow_empty and planned.allow_empty,
            "allow_foreign": source.allow_foreign and planned.allow_foreign,
        }
    )


def missing_source(registry: RegistrySettings, terms: Terms) -> str | None:
    """Why the evidence of a run's plan can no longer be asked for; None: it can."""
    current = {one.name: settings_sha256(one) for one in registry.in_use}
    for planned in terms.in_use:
        if planned.name not in current:
            what = "is no longer in the configuration file"
        elif current[planned.name] != planned.sha256:
            what = "reads something else by now"
        else:
            continue
        return (
            f"the source {planned.name!r} of in_use, by which the run was planned, {what}; what is left stays:"
            " put it back, or let the next run plan without it"
        )
    return None
