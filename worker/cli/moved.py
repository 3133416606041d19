"""Registries whose entries changed their kind, and what goes on with them: what `check` tells beside mistakes."""

from collections.abc import Iterable, Iterator

from worker.cli.live import recorded
from worker.config.settings import RegistrySettings, Settings
from worker.store import StoreError
from worker.store.store_info import PastRegistry, past_registries


def moved(settings: Settings) -> dict[str, str]:
    """A sentence for each registry that was of another kind, by its name; empty where the store cannot be read."""
    try:
        with recorded(settings) as connection:
            known = [] if connection is None else past_registries(connection)
    except StoreError:  # commands that need the store say what is wrong with it
        return {}
    return dict(_sentences(settings.registries.values(), known))


def _sentences(registries: Iterable[RegistrySettings], known: list[PastRegistry]) -> Iterator[tuple[str, str]]:
    """What is to be said of each entry whose kind changed after its last run. `known`: the newest first."""
    for entry in registries:
        last = next((one for one in known if one.name == entry.name), None)
        same_id = next((one for one in known if one.id == entry.id and one.kind != entry.kind), None)
        if last is not None and last.kind != entry.kind:
            was = f"was {last.kind} until {last.until:%Y-%m-%d %H:%M}Z"
            if last.id == entry.id:
                yield entry.name, f"{was}; its holds, pauses, memory and history go on (same id)"
                continue
            yield (
                entry.name,
                f"{was} with the id {last.id or '(none)'}; its holds, pauses and history go on by the name, but what"
                " scans remember of its images does not follow, because the id differs: it begins anew",
            )
        elif last is None and entry.id and same_id is not None:
            yield (
                entry.name,
                f"its id was {same_id.kind} under the name {same_id.name} until {same_id.until:%Y-%m-%d %H:%M}Z; its"
                f" holds, pauses, memory and history do not follow to another name: name it {same_id.name} if they"
                " shall",
            )
