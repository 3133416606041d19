"""`registry-gc plan` shows planned deletions, their reasons and bytes. It deletes and records nothing."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from msgspec import UNSET

from policies.plan import Plan
from worker.cli.errors import OVER_LIMITS, USAGE, CommandError, say
from worker.cli.options import Options, common
from worker.planning.offline import InventoryError, plan_inventory
from worker.planning.spool import Decisions
from worker.report.plan import PlanHead, plan_report, warnings


@click.command()
@click.argument("registry", required=False)
@click.option("--inventory", type=click.Path(path_type=Path), help="Plan from this saved inventory instead, offline.")
@click.option("--policy", help="With --inventory: the name of the policy in the configuration.")
@common(now=True)
def plan(options: Options, registry: str | None, inventory: Path | None, policy: str | None) -> int:
    """List REGISTRY, decide on every image, and show the planned deletions. Deletes nothing, and needs neither Redis
    nor a store.

    With --inventory F.ndjson --policy NAME, plan from a saved inventory offline; the registry's limits do not apply.
    Exit code 3: the plan is over the registry's limits.
    """
    if inventory is not None:
        if registry is not None:
            raise click.UsageError("give either REGISTRY or --inventory, not both")
        if policy is None:
            raise click.UsageError("--inventory needs --policy NAME")
        return _offline(options, inventory, policy)
    if registry is None:
        raise click.UsageError("give a REGISTRY, or --inventory F.ndjson --policy NAME")
    if policy is not None:
        raise click.UsageError("--policy needs --inventory; the configuration names the policy of a registry")
    return _live(options, registry)


def _live(options: Options, name: str) -> int:
    from worker.cli.listing import plan_registry  # noqa: PLC0415 - planning offline needs neither the store nor httpx

    planned = plan_registry(options, name)
    head = _head(
        planned.plan,
        planned.now,
        registry=planned.registry.name,
        exceeded=planned.exceeded,
        warnings=planned.warnings,
        unreadable_images=planned.unreadable_images,
        reclaimable_is_upper_bound=UNSET if planned.registry.lists_untagged else True,
    )
    _write(options, head, planned.decisions, planned.suspicion)
    return OVER_LIMITS if head.exceeded else 0


def _offline(options: Options, path: Path, name: str) -> int:
    settings = options.settings(look_for_secrets=False)
    policy = settings.policies.get(name)
    if policy is None:
        known = ", ".join(sorted(settings.policies)) or "none"
        raise CommandError(f"there is no policy {name!r} in {settings.path}; known: {known}", USAGE)
    try:
        now = options.now or datetime.now(UTC)
        with plan_inventory(path, policy, now) as planned:
            _write(options, _head(planned.plan, now, warnings=planned.plan.warnings), planned.decisions)
    except InventoryError as error:
        raise InventoryError(
            str(path), error.line, error.what
        ) from error  # an inventory from a pipe was copied to another path
    except OSError as error:
        if error.filename != str(path):
            raise
        raise CommandError(f"{path}: {error.strerror}", USAGE) from error
    return 0


def _head(plan: Plan, now: datetime, *, registry: str | None = None, **more: Any) -> PlanHead:
    return PlanHead(
        registry=registry,
        policy=plan.policy.name,
        now=now.astimezone(UTC),
        complete=plan.complete,
        unreadable=plan.unreadable,
        totals=plan.totals,
        undecidable=plan.summary.undecidable,
        **more,
    )


def _write(options: Options, head: PlanHead, decisions: Decisions, suspicion: str = "") -> None:
    options.report(plan_report(head, decisions.records(), decisions.lines(), suspicion=suspicion))
    if options.format == "table" and options.output is None:
        return  # the table contains the warnings
    for warning in warnings(head, suspicion):
        say(f"warning: {warning}")
