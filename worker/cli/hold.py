"""`registry-gc hold`: a person's word that keeps an image. It asks the registry what is there."""

from datetime import UTC, datetime, timedelta

import click

from policies.units import parse_duration
from worker.cli.errors import say
from worker.cli.live import log_if_asked
from worker.cli.options import Options, Parsed, common, instant, who_option, why_option
from worker.report.hold import held_report
from worker.runs.clocks import ClockError, check
from worker.runs.hold_requests import hold_of, place
from worker.runs.lifecycle import registry_named
from worker.store import Store, open_store
from worker.store.holds import StoredHold


def _until(value: str) -> datetime:
    """A date, which is held to its end; an instant with its offset; or how long from now."""
    now = datetime.now(UTC)
    try:
        moment = now + parse_duration(value)
    except OverflowError:
        message = f"{value!r} is longer than time can be told; leave --until out to hold for ever"
        raise ValueError(message) from None
    except ValueError:
        moment = instant(value)
        if len(value) == len("2026-12-24"):
            moment += timedelta(days=1)
    if moment <= now:
        raise ValueError(f"{value!r} is over; name a time to come, or leave --until out to hold for ever")
    return moment


UNTIL = Parsed("until", _until)


@click.command()
@click.argument("registry")
@click.argument("reference")
@click.option("--until", type=UNTIL, metavar="TIME", help="A date (to its end), a time, or 14d; absent: for ever.")
@why_option
@who_option
@common()
def hold(options: Options, registry: str, reference: str, until: datetime | None, reason: str, who: str) -> None:
    """Keep REFERENCE of REGISTRY, whatever the rules say: path:tag, path@sha256:…, an image's id, or a glob of
    repositories.

    A held tag keeps the image that it names today and whatever carries it later. It is in force for a run that is
    deleting just now, too.
    """
    settings = options.settings_of_store()  # a credential that is lost must keep nobody from holding
    configured = registry_named(settings, registry)
    log_if_asked(verbose=options.verbose)
    wanted = hold_of(configured, reference, until=until, reason=reason, who=who)
    now = datetime.now(UTC)
    with open_store(settings.store) as store:
        placed = place(store, configured, wanted, now)
        if until is not None:
            warn_of_clocks(store)
    if placed.warning:
        say(f"warning: {placed.warning}")
    options.report(held_report(StoredHold(id=placed.number, registry=registry, hold=placed.hold, at=now)))


def warn_of_clocks(store: Store) -> None:
    """Say if a hold may end at another time than whoever placed it meant: it ends by the store's clock."""
    try:
        check(lambda: datetime.now(UTC), store)
    except ClockError as error:
        say(f"warning: {error}; the hold ends by the store's clock")
