"""Registries whose entries changed their kind, and what goes on with them: what `check` tells beside mistakes."""

from collections.abc import Iterable, Iterator

from worker.cli.live import remembered
from worker.config.settings import RegistrySettings, Settings
from worker.store import StoreError
from worker.store.about import Former, former
from worker.store.migrate import SchemaError


def moved(settings: Settings) -> dict[str, str]:
    """A sentence for each registry that was of another kind, by its name; empty where the store cannot be read."""
    try:
        with remembered(settings) as store:
            if store is None:
                return {}
            with store.read() as connection:
                known = former(connection)
    except (StoreError, SchemaError):  # commands that need the store say what is wrong with it
        return {}
    return dict(sentences(settings.registries.values(), known))


def sentences(registries: Iterable[RegistrySettings], known: list[Former]) -> Iterator[tuple[str, str]]:
    """What is to be said of each entry whose kind changed after its last run. `known`: the newest first."""
    for entry in registries:
        last = next((one for one in known if one.name == entry.name), None)
        if last is not None and last.kind != entry.kind:
            yield entry.name, _same_name(entry, last)
        elif last is None and entry.id:
            same_id = next((one for one in known if one.id == entry.id and one.kind != entry.kind), None)
            if same_id is not None:
                yield entry.name, _other_name(same_id)


def _same_name(entry: RegistrySettings, last: Former) -> str:
    was = f"was {last.kind} until {last.until:%Y-%m-%d %H:%M}Z"
    if last.id == entry.id:
        return f"{was}; its holds, pauses, memory and history go on (same id)"
    return (
        f"{was} with the id {last.id or '(none)'}; its holds, pauses and history go on by the name, but what scans"
        " remember of its images does not follow, because the id differs: it begins anew"
    )


def _other_name(last: Former) -> str:
    return (
        f"its id was {last.kind} under the name {last.name} until {last.until:%Y-%m-%d %H:%M}Z; its holds, pauses,"
        f" memory and history do not follow to another name: name it {last.name} if they shall"
    )
