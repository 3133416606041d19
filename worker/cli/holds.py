"""`registry-gc hold`, `holds`, `release`, `pause` and `resume`: a person's word that outweighs every rule."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from worker.cli.errors import FAILED, USAGE, CommandError, say
from worker.cli.options import Instant, Options, common
from worker.cli.people import Words, who_option

if TYPE_CHECKING:
    from worker.store import Store
    from worker.store.holds import Pause


class Until(click.ParamType[datetime]):
    """A date, which is held to its end; an instant with its offset; or how long from now."""

    name = "until"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        from policies.units import parse_duration  # noqa: PLC0415 - only where it is asked for

        now = datetime.now(UTC)
        try:
            moment = now + parse_duration(value)
        except OverflowError:
            self.fail(f"{value!r} is longer than time can be told; leave --until out to hold for ever", param, ctx)
        except ValueError:
            moment = Instant().convert(value, param, ctx)
            if len(str(value)) == len("2026-12-24"):
                moment += timedelta(days=1)
        if moment <= now:
            self.fail(f"{value!r} is over; name a time to come, or leave --until out to hold for ever", param, ctx)
        return moment


_why = click.option("--reason", type=Words(), default="", help="Why; shown wherever it has an effect.")


@click.command()
@click.argument("registry")
@click.argument("reference")
@click.option("--until", type=Until(), metavar="TIME", help="A date (to its end), a time, or 14d; absent: for ever.")
@_why
@who_option
@common()
def hold(options: Options, registry: str, reference: str, until: datetime | None, reason: str, who: str) -> None:
    """Keep REFERENCE of REGISTRY, whatever the rules say: path:tag, path@sha256:…, an image's id, or a glob of
    repositories.

    A held tag keeps the image that it names today and whatever carries it later. It is in force for a run that is
    deleting just now, too.
    """
    from worker.cli.live import log_if_asked, opened_store  # noqa: PLC0415 - loads the store
    from worker.report.hold import held_json, what_text  # noqa: PLC0415 - only for its output
    from worker.runs.hold_requests import hold_of, place  # noqa: PLC0415 - loads httpx
    from worker.runs.lifecycle import registry_named  # noqa: PLC0415 - loads the store
    from worker.store.holds import HeldRow  # noqa: PLC0415 - as above
    from worker.text import escaped  # noqa: PLC0415 - as above

    settings = options.settings_of_store()  # a credential that is lost must keep nobody from holding
    configured = registry_named(settings, registry)
    log_if_asked(verbose=options.verbose)
    wanted = hold_of(configured, reference, until=until, reason=reason, who=who)
    now = datetime.now(UTC)
    with opened_store(settings) as store:
        placed = place(store, configured, wanted, now)
        if until is not None:
            warn_of_clocks(store)
    if placed.warning:
        say(f"warning: {placed.warning}")
    row = HeldRow(id=placed.number, registry=registry, hold=placed.hold, at=now)
    named = f" ({placed.hold.digest})" if placed.hold.digest else ""
    line = escaped(f"hold {placed.number} on {what_text(placed.hold)}{named} of {registry}: {placed.hold.sentence()}")
    with options.open() as output:
        output.report(
            table=lambda _: [line], json=lambda: _lines(held_json(row)), ndjson=lambda: _lines(held_json(row))
        )


def warn_of_clocks(store: "Store") -> None:
    """Say if a hold may end at another time than whoever placed it meant: it ends by the store's clock."""
    from worker.runs.clocks import ClockError, check  # noqa: PLC0415 - loads the store

    try:
        check(lambda: datetime.now(UTC), store)
    except ClockError as error:
        say(f"warning: {error}; the hold ends by the store's clock")


def _lines(value: dict[str, Any]) -> list[bytes]:
    import msgspec  # noqa: PLC0415 - only for this form of output

    return [msgspec.json.encode(value) + b"\n"]


@click.command()
@click.argument("registry", required=False)
@common()
def holds(options: Options, registry: str | None) -> None:
    """What is held, and what is paused, in REGISTRY or in all."""
    from worker.cli.live import check_known, remembered  # noqa: PLC0415 - loads the store
    from worker.report.hold import holds_json, holds_ndjson, holds_table  # noqa: PLC0415 - only for its output
    from worker.store import holds as rows  # noqa: PLC0415 - as above

    settings = options.settings_of_store()
    held: list[rows.HeldRow] = []
    paused: list[rows.Pause] = []
    with remembered(settings) as store:
        check_known(settings, store, registry)
        if store is not None:
            with store.read() as connection:
                held = rows.rows(connection, datetime.now(UTC), registries=None if registry is None else (registry,))
                paused = [one for one in rows.pauses(connection) if registry in (None, one.registry) or one.of_all]
    with options.open() as output:
        output.report(
            table=lambda width: holds_table(held, paused, width),
            json=lambda: holds_json(held, paused),
            ndjson=lambda: holds_ndjson(held),
        )


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="HOLD | REGISTRY REFERENCE")
@who_option
@common()
def release(options: Options, words: tuple[str, ...], who: str) -> None:
    """End a hold: by its number, which `holds` shows, or all that were placed on REFERENCE of REGISTRY."""
    from worker.cli.live import remembered  # noqa: PLC0415 - loads the store
    from worker.report.hold import what_text  # noqa: PLC0415 - only for its output
    from worker.store import holds as rows  # noqa: PLC0415 - as above
    from worker.text import escaped  # noqa: PLC0415 - as above

    number = int(words[0]) if len(words) == 1 and words[0].isascii() and words[0].isdigit() else None
    if number is None and len(words) != 2:
        raise click.UsageError("give a hold's number, or REGISTRY and REFERENCE; `registry-gc holds` shows them")
    now = datetime.now(UTC)
    released: list[rows.HeldRow] = []
    with remembered(options.settings_of_store()) as store:
        if store is not None:
            with store.write() as connection:
                for row in rows.rows(connection, now):
                    wanted = row.id == number if number is not None else (row.registry, what_text(row.hold)) == words
                    if wanted and rows.release(connection, row.id, who, now):
                        released.append(row)
    if not released:
        raise CommandError(f"nothing is held by {' '.join(words)!r}; `registry-gc holds` shows what is", USAGE)
    texts = [escaped(f"released hold {one.id} on {what_text(one.hold)} of {one.registry}") for one in released]
    ids = {"released": [one.id for one in released]}
    with options.open() as output:
        output.report(table=lambda _: texts, json=lambda: _lines(ids), ndjson=lambda: _lines(ids))


@click.command()
@click.argument("registry", required=False)
@_why
@who_option
@common()
def pause(options: Options, registry: str | None, reason: str, who: str) -> None:
    """Delete nothing in REGISTRY, or in any, until it is resumed. Plans still run.

    What a run has begun to delete just now is brought to its end.
    """
    from worker.cli.live import opened_store  # noqa: PLC0415 - loads the store
    from worker.runs.lifecycle import registry_named  # noqa: PLC0415 - loads the store
    from worker.store import holds as rows  # noqa: PLC0415 - as above

    settings = options.settings_of_store()
    if registry is not None:
        registry_named(settings, registry)
    with opened_store(settings) as store:
        with store.write() as connection:
            rows.pause_registry(connection, registry or rows.ALL, who, reason, datetime.now(UTC))
        _report_pauses(options, store, registry)


@click.command()
@click.argument("registry", required=False)
@who_option
@common()
def resume(options: Options, registry: str | None, who: str) -> None:
    """Let REGISTRY, or all, be deleted from again. What was paused for all is resumed for all only."""
    from worker.cli.live import check_known, remembered  # noqa: PLC0415 - loads the store
    from worker.store import holds as rows  # noqa: PLC0415 - as above

    settings = options.settings_of_store()
    with remembered(settings) as store:
        check_known(settings, store, registry)
        ended = None
        if store is not None:
            with store.write() as connection:
                ended = rows.resume_registry(connection, registry or rows.ALL, who, datetime.now(UTC))
        if store is None or ended is None:
            what = "all registries together are" if registry is None else f"{registry} by itself is"
            raise CommandError(f"{what} not paused; `registry-gc holds` shows what is", FAILED)
        _report_pauses(options, store, registry, ended)


def _report_pauses(options: Options, store: "Store", registry: str | None, ended: "Pause | None" = None) -> None:
    """What is paused now that concerns a registry, or all, and which pause has just been `ended`."""
    from worker.report.hold import pause_json, resumed_json  # noqa: PLC0415 - only for its output
    from worker.store import holds as rows  # noqa: PLC0415 - as above
    from worker.text import escaped  # noqa: PLC0415 - as above

    with store.read() as connection:
        left = [one for one in rows.pauses(connection) if registry in (None, one.registry) or one.of_all]
    texts = [escaped(f"{'all' if one.of_all else one.registry}: {one.sentence()}") for one in left]
    texts = texts or [f"{registry or 'all registries together'}: not paused (any more)"]
    texts += [] if ended is None else [escaped(f"resumed by {ended.resumed_by}; {ended.sentence()}")]
    whole = {"pauses": [pause_json(one) for one in left]} | ({} if ended is None else resumed_json(ended))
    with options.open() as output:
        output.report(table=lambda _: texts, json=lambda: _lines(whole), ndjson=lambda: _lines(whole))
