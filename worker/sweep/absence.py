"""Whether images that were not found are really gone. Credentials that lost their rights see 404 and an empty list.

So a listing that lacks an image says something only if it shows what else must be there: all that the plan keeps in the
repository, or, where the plan keeps nothing there, a kept image of another repository that the same credentials read.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from policies.image import Image
from worker.registries.errors import NotFoundError, RegistryError
from worker.registries.interface import HasSeveralCredentials, ListsTagsOnly, Registry
from worker.store import Store, plans
from worker.store.sweeping import Item, Outcome
from worker.sweep import outcomes
from worker.sweep.outcomes import Missing

WITNESSES = 3  # kept images that are asked for one by one


class UntrustedListingError(Exception):
    """The registry shows nothing of what must be there: what it does not show may be there as well."""


def outcomes_of(
    registry: Registry,
    store: Store,
    run_id: str,
    repository: str,
    missing: Sequence[tuple[Item, Missing]],
    seconds: float,
    is_last: Callable[[Item], bool],
) -> list[tuple[Item, Outcome]]:
    """What becomes of each image that was not found: one listing speaks for all. Raises LimiterUnavailableError.

    A listing that takes longer than so many seconds says nothing; `is_last`: no later claim asks about this one.
    """
    digests = {item.digest for item, _ in missing}
    reader = ThreadPoolExecutor(1, "confirm")
    listing = reader.submit(still_there, registry, store, run_id, repository, digests)
    try:
        there = listing.result(timeout=seconds)
    except RegistryError as error:
        return [(item, outcomes.without_listing(str(error))) for item, _ in missing]
    except UntrustedListingError as error:
        return [(item, outcomes.unbelievable(str(error))) for item, _ in missing]
    except TimeoutError:
        return [(item, outcomes.without_listing("it took too long")) for item, _ in missing if is_last(item)]
    finally:
        reader.shutdown(wait=False)  # a listing that still runs ends when the registry is closed
    return [(item, outcomes.after_listing(one, listed=item.digest in there)) for item, one in missing]


def still_there(
    registry: Registry, store: Store, run_id: str, repository: str, missing: Collection[str]
) -> frozenset[str]:
    """Those of these digests that are there after all. Raises UntrustedListingError, RegistryError, StoreError."""
    with store.read() as connection:
        kept = plans.kept_digests(connection, run_id, repository)
    if isinstance(registry, ListsTagsOnly):
        # Each tag would have to be read; the digests themselves are asked for instead.
        kept = kept[:WITNESSES]
        there = registry.existing(repository, sorted({*missing, *kept}))
    else:
        there = frozenset(image.digest for image in registry.images(repository))
    if unseen := [digest for digest in kept if digest not in there]:
        raise UntrustedListingError(f"neither is {repository}@{unseen[0]}, which the plan keeps")
    if not kept and not there:
        _insist_on_another(registry, store, run_id, repository)
    return there.intersection(missing)


def _insist_on_another(registry: Registry, store: Store, run_id: str, repository: str) -> None:
    """Have the registry show a kept image of another repository, by the same credentials.

    Raises UntrustedListingError, RegistryError.
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
        raise UntrustedListingError(f"neither is {asked[0]}, which the plan keeps")
    raise UntrustedListingError(
        "the plan keeps no image by which to see that the registry shows these credentials what is there"
    )


def _kept_elsewhere(registry: Registry, store: Store, run_id: str, repository: str) -> Iterator[tuple[str, Image]]:
    """A kept image of each other repository that has one and is read by the same credentials."""
    with store.read() as connection:
        paths = plans.repositories(connection, run_id)
    for path in paths:
        if path == repository:
            continue
        if isinstance(registry, HasSeveralCredentials) and not registry.share_credentials(repository, path):
            continue
        with store.read() as connection:
            if kept := plans.kept_digests(connection, run_id, path):
                image = next(one for one in plans.images_of(connection, run_id, path) if one.digest == kept[0])
                yield path, image
