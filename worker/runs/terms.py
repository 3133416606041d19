"""The settings of a run: those of the configuration file now, never less careful than those of the run's plan.

They decide when a run has waited too long, or may delete nothing more. `worker.config.watch` reads the file again.
"""

from datetime import datetime, timedelta
from typing import Protocol

from policies.units import duration_text
from worker.config.settings import ConfigError, EvidenceSettings, RegistrySettings, Settings, Timing
from worker.runs.evidence import settings_sha256
from worker.runs.outcome import log_finished
from worker.store import Store, runs
from worker.store.runs import Run, SourceTerms, Terms

PLAN_MAX_AGE = timedelta(hours=24)  # if neither the file nor the plan has one


def terms_of(settings: Settings, registry: RegistrySettings) -> Terms:
    """The terms of a plan that is made now."""
    return Terms(
        file_sha256=settings.sha256,
        in_use=tuple(
            SourceTerms(
                name=source.name,
                sha256=settings_sha256(source),
                max_age=source.max_age,
                allow_empty=source.allow_empty,
                allow_foreign=source.allow_foreign,
            )
            for source in registry.in_use
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

    An entry of the same name that is another registry now (kind, endpoint or id) is not the run's.
    """
    registry = settings.registries.get(run.registry)
    return stricter(registry, run.terms) if registry is not None and registry.key == run.registry_key else None


def why_unconfigured(settings: Settings, run: Run) -> str:
    """Why the file does not have a run's registry."""
    registry = settings.registries.get(run.registry)
    if registry is None:
        return f"the registry {run.registry!r} is no longer configured"
    was, now = (key.replace("|", " ").strip() for key in (run.registry_key, registry.key))  # kind, endpoint, id
    return (
        f"{run.registry!r} is another registry now: the run is of {was}, the configuration file has {now}; start a"
        " new run"
    )


def stricter(registry: RegistrySettings, terms: Terms) -> RegistrySettings:
    """The registry with the stricter of the file's and the plan's value of each setting that protects images."""
    ages = [age for age in (registry.plan_max_age, terms.plan_max_age) if age is not None]
    deadlines = [deadline for deadline in (registry.deadline, terms.deadline) if deadline is not None]
    planned = {source.name: source for source in terms.in_use}
    ignored = registry.ignore_unreadable
    if terms.ignore_unreadable is not None:  # a digest named since the plan protected the images that it may list
        ignored = tuple(digest for digest in ignored if digest in terms.ignore_unreadable)
    return registry.model_copy(
        update={
            "in_use": tuple(_stricter_source(source, planned.get(source.name)) for source in registry.in_use),
            "addresses": tuple(dict.fromkeys((*registry.addresses, *terms.addresses))),
            "plan_max_age": min(ages),
            "deadline": min(deadlines, default=None),
            "settle": max(registry.settle, terms.settle),
            "ignore_unreadable": ignored,
            "transitional": registry.transitional and terms.transitional,
        }
    )


def _stricter_source(source: EvidenceSettings, planned: SourceTerms | None) -> EvidenceSettings:
    if planned is None:  # a source added since the plan protects as well
        return source
    return source.model_copy(
        update={
            "max_age": min(source.max_age, planned.max_age),
            "allow_empty": source.allow_empty and planned.allow_empty,
            "allow_foreign": source.allow_foreign and planned.allow_foreign,
        }
    )


def missing_source(registry: RegistrySettings, terms: Terms) -> str | None:
    """Why a source of a run's plan can no longer be read; None: all can."""
    current = {source.name: settings_sha256(source) for source in registry.in_use}
    for planned in terms.in_use:
        if planned.name not in current:
            what = "is no longer in the configuration file"
        elif current[planned.name] != planned.sha256:
            what = "reads something else now"
        else:
            continue
        return (
            f"the source {planned.name!r} of in_use, by which the run was planned, {what}; what is left stays:"
            " put it back, or let the next run plan without it"
        )
    return None


class Watch(Protocol):
    """Hands out the settings as the file is now. Raises ConfigError while it is not valid."""

    def current(self) -> Settings: ...

    def last_known(self, key: str) -> RegistrySettings | None: ...


def current_settings(watch: Watch) -> Settings | None:
    """The settings as the configuration file is now. None: the file is invalid. Raises no ConfigError."""
    try:
        return watch.current()
    except ConfigError:
        return None


def current_registry(watch: Watch, run: Run) -> RegistrySettings | None:
    """A run's registry by the file as it is now (`registry_of`); None: the file is invalid, or does not have it."""
    settings = current_settings(watch)
    return None if settings is None else registry_of(settings, run)


def last_known_registry(watch: Watch, run: Run) -> RegistrySettings | None:
    """A run's registry by the last valid file that had it: to resolve begun deletions, never to begin more. Under the
    stricter of its plan's terms and the file's. None: this process has read no valid file that had it.
    """
    registry = watch.last_known(run.registry_key)
    return None if registry is None else stricter(registry, run.terms)


def permitted_registry(watch: Watch, run: Run, repository: str) -> RegistrySettings | str:
    """A run's registry, if the file as it is now lets the run delete in a repository; else why it does not."""
    registry = current_registry(watch, run)
    if registry is None:
        return why_unconfigured_now(watch, run)
    if registry.mode != "delete":
        return "the configuration file says dry-run"
    if not registry.asks_for(repository):
        return f"the configuration file's repositories no longer name {repository}"
    return registry


def why_unconfigured_now(watch: Watch, run: Run) -> str:
    """Why the file does not have a run's registry now. Only after `current_registry` has returned None: it does not
    check again that the registry is not there.
    """
    settings = current_settings(watch)
    return "the configuration file is invalid" if settings is None else why_unconfigured(settings, run)


def current_lease(watch: Watch) -> timedelta:
    settings = current_settings(watch)
    return (Timing() if settings is None else settings.timing).lease


def plan_is_good_until(run: Run, registry: RegistrySettings | None) -> datetime:
    """A plan's last moment: its age counts from the scan's start, and an approval does not lengthen it.

    `registry` None: the file does not have it.
    """
    age = run.terms.plan_max_age if registry is None else registry.plan_max_age
    return (run.started_at or run.opened_at) + (PLAN_MAX_AGE if age is None else age)


def changed_since_plan(settings: Settings, run: Run) -> str | None:
    """The warning for a person who approves a plan that the file has changed since; None: it has not."""
    registry = registry_of(settings, run)
    if registry is None or run.plan_sha256 is None:
        return None
    if registry.policy.sha256 != run.policy_sha256:
        what = f"the policy {registry.policy.name!r} is another one than run {run.id} was planned by"
    elif run.terms.file_sha256 not in ("", settings.sha256):
        what = f"the configuration file has changed since run {run.id} was planned"
    else:
        return None
    return f"{what}: the plan is carried out as it was made; `registry-gc abort {run.id}` and a new run plan again"


def late(run: Run, registry: RegistrySettings, now: datetime) -> tuple[str, str] | None:
    """Why a run may delete nothing more, as a stop and its message; None: it may."""
    if (missing := missing_source(registry, run.terms)) is not None:
        return "failed", missing
    if now >= plan_is_good_until(run, registry):
        return "expired", "the plan grew older than plan_max_age; what is left stays for the next run"
    if registry.deadline is not None and run.deleting_at is not None and now >= run.deleting_at + registry.deadline:
        return "deadline", "the deadline passed; what is left stays for the next run"
    return None


def expire(store: Store, settings: Settings, run: Run, now: datetime) -> bool:
    """Finish a run that waited too long: a pending run that no worker began, or a blocked run that nobody approved.

    A blocked run whose registry is no longer configured is finished, too. False: the run was not finished.
    """
    registry = registry_of(settings, run)
    if run.state not in ("pending", "blocked") or (registry is not None and now < plan_is_good_until(run, registry)):
        return False
    if run.state == "blocked":
        why = (
            "nobody approved the plan within plan_max_age" if registry is not None else why_unconfigured(settings, run)
        )
        outcome, message = "blocked", f"expired: {why}"
    elif registry is not None:
        age = duration_text(registry.plan_max_age)
        outcome, message = "missed", f"no worker began it within plan_max_age ({age}); see whether one is running"
    else:
        return False  # its scan says why
    with store.write() as connection:
        finished = runs.finish(connection, run, run.state, outcome, now, message)
    if finished:
        log_finished(store, run.id)
    return finished
