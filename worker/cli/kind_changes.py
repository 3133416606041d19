"""Registries whose kind changed since their last run, and which of their records still apply. `check` reports them."""

from collections.abc import Iterable, Iterator

from worker.cli.resources import store_connection
from worker.config.settings import RegistrySettings, Settings
from worker.store import StoreError
from worker.store.store_info import PastRegistry, past_registries


def kind_changes(settings: Settings) -> dict[str, str]:
    """A sentence for each registry whose kind changed, by its name; empty if the store cannot be read."""
    try:
        with store_connection(settings) as connection:
            entries = [] if connection is None else past_registries(connection)
    except StoreError:  # commands that need the store report its error
        return {}
    return dict(_sentences(settings.registries.values(), entries))


def _sentences(registries: Iterable[RegistrySettings], former_entries: list[PastRegistry]) -> Iterator[tuple[str, str]]:
    """The name of each registry whose kind changed, and a sentence. `former_entries`: newest first."""
    for registry in registries:
        last = next((entry for entry in former_entries if entry.name == registry.name), None)
        same_id = next(
            (entry for entry in former_entries if entry.id == registry.id and entry.kind != registry.kind), None
        )
        if last is not None and last.kind != registry.kind:
            before = f"its kind was {last.kind} until {last.last_run_at:%Y-%m-%d %H:%M}Z"
            if last.id == registry.id:
                yield registry.name, f"{before}; its holds, pauses, runs and scan history still apply (same id)"
                continue
            yield (
                registry.name,
                f"{before} with the id {last.id or '(none)'}; its holds, pauses and runs still apply, but its scan"
                " history starts again, because the id differs",
            )
        elif last is None and registry.id and same_id is not None:
            yield (
                registry.name,
                f"its id belonged to {same_id.name} of the kind {same_id.kind}"
                f" until {same_id.last_run_at:%Y-%m-%d %H:%M}Z; holds, pauses, runs and scan history of {same_id.name}"
                f" do not apply to another name: rename this registry to {same_id.name} to keep them",
            )
