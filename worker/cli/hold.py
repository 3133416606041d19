"""`registry-gc hold` keeps an image. It reads from the registry which image the reference names."""

from datetime import UTC, datetime, timedelta

import click

from policies.units import parse_duration
from worker.cli.errors import say
from worker.cli.options import Options, Parsed, common, instant, reason_option, who_option
from worker.cli.resources import configure_logging
from worker.report.hold import held_report
from worker.runs.clocks import ClockError, check_clocks
from worker.runs.hold_requests import hold_of, place
from worker.runs.lifecycle import registry_named
from worker.store import Store, open_store
from worker.store.holds import StoredHold


def _until(value: str) -> datetime:
    """A date (the hold ends when it ends), a time with its offset, or a duration from now."""
    now = datetime.now(UTC)
    try:
        moment = now + parse_duration(value)
    except OverflowError:
        message = f"{value!r} is too long; omit --until to hold for ever"
        raise ValueError(message) from None
    except ValueError:
        moment = instant(value)
        if len(value) == len("2026-12-24"):
            moment += timedelta(days=1)
    if moment <= now:
        raise ValueError(f"{value!r} is in the past; give a later time, or omit --until to hold for ever")
    return moment


UNTIL = Parsed("until", _until)


@click.command()
@click.argument("registry")
@click.argument("reference")
@click.option(
    "--until", type=UNTIL, metavar="TIME", help="The end: a date (inclusive), a time, or 14d; default: for ever."
)
@reason_option
@who_option
@common()
def hold(options: Options, registry: str, reference: str, until: datetime | None, reason: str, who: str) -> None:
    """Keep REFERENCE in REGISTRY, whatever the rules say: path:tag, path@sha256:…, an image's id, or a glob of
    repositories.

    A held tag keeps the image that it names today and every image that it names later. A hold applies at once, also
    to a run that is deleting.
    """
    settings = options.settings_of_store()  # holding must work without the registry's credentials
    configured = registry_named(settings, registry)
    configure_logging(verbose=options.verbose)
    requested = hold_of(configured, reference, until=until, reason=reason, who=who)
    now = datetime.now(UTC)
    with open_store(settings.store) as store:
        placed = place(store, configured, requested, now)
        if until is not None:
            warn_of_clocks(store)
    if placed.warning:
        say(f"warning: {placed.warning}")
    options.report(held_report(StoredHold(id=placed.number, registry=registry, hold=placed.hold, at=now)))


def warn_of_clocks(store: Store) -> None:
    """Warn if this machine's clock differs from the store's, which decides when a hold ends. A difference of up to five
    minutes gives no warning. Raises StoreError.
    """
    try:
        check_clocks(lambda: datetime.now(UTC), store)
    except ClockError as error:
        say(f"warning: {error}; the hold ends by the store's clock")
