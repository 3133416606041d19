"""Whether images that were not found are really gone. Credentials that lost their rights see 404 and an empty list.

So a listing that lacks an image says something only if it shows what else must be there: all that the plan keeps in the
repository, or, where the plan keeps nothing there, a kept image of another repository that the same credentials read.
"""

from collections.abc import Collection, Iterator

from policies.image import Image
from worker.registries.errors import NotFoundError
from worker.registries.interface import HasSeveralCredentials, ListsTagsOnly, Registry
from worker.store import Store, plans

WITNESSES = 3  # kept images that are asked for one by one


class UnbelievableError(Exception):
    """The registry shows nothing of what must be there: what it does not show may be there as well."""


def still_there(
    registry: Registry, store: Store, run_id: str, repository: str, missing: Collection[str]
) -> frozenset[str]:
    """Those of these digests that are there after all. Raises UnbelievableError, RegistryError, StoreError."""
    with store.read() as connection:
        kept = plans.kept_in(connection, run_id, repository)
    if isinstance(registry, ListsTagsOnly):
        # Each tag would have to be read; the digests themselves are asked for instead.
        kept = kept[:WITNESSES]
        there = registry.there(repository, sorted({*missing, *kept}))
    else:
        there = frozenset(image.digest for image in registry.images(repository))
    if unseen := [digest for digest in kept if digest not in there]:
        raise UnbelievableError(f"neither is {repository}@{unseen[0]}, which the plan keeps")
    if not kept and not there:
        _insist_on_another(registry, store, run_id, repository)
    return there.intersection(missing)


def _insist_on_another(registry: Registry, store: Store, run_id: str, repository: str) -> None:
    """Have the registry show a kept image of another repository, by the same credentials.

    Raises UnbelievableError, RegistryError.
    """
    asked: list[str] = []
    for path, image in _kept_elsewhere(registry, store, run_id, repository):
        try:
            registry.get(path, image)
        except NotFoundError:
            asked.append(f"{path}@{image.digest}")
        else:
            return
        if len(asked) == WITNESSES:
            break
    if asked:
        raise UnbelievableError(f"neither is {asked[0]}, which the plan keeps")
    raise UnbelievableError(
        "the plan keeps no image by which to see that the registry shows these credentials what is there"
    )


def _kept_elsewhere(registry: Registry, store: Store, run_id: str, repository: str) -> Iterator[tuple[str, Image]]:
    """A kept image of each other repository that has one and is read by the same credentials."""
    with store.read() as connection:
        paths = plans.repositories(connection, run_id)
    for path in paths:
        if path == repository:
            continue
        if isinstance(registry, HasSeveralCredentials) and not registry.are_read_alike(repository, path):
            continue
        with store.read() as connection:
            if kept := plans.kept_in(connection, run_id, path):
                image = next(one for one in plans.images_of(connection, run_id, path) if one.digest == kept[0])
                yield path, image
