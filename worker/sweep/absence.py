"""Whether images that the registry did not find are gone. Credentials without rights see 404 and an empty list, too.

So a listing without an image is trusted only if it has everything that the plan keeps in the repository. Where the plan
keeps nothing there, the same credentials must read a kept image of another repository.
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

WITNESSES = 3  # kept images that are read one by one


class UntrustedListingError(Exception):
    """The registry does not show what must be there: what it does not show may be there, too."""


def outcomes_of(
    registry: Registry,
    store: Store,
    run_id: str,
    repository: str,
    missing: Sequence[tuple[Item, Missing]],
    seconds: float,
    is_last: Callable[[Item], bool],
) -> list[tuple[Item, Outcome]]:
    """The outcome of each image that was not found, from one listing. Raises LimiterUnavailableError.

    `seconds`: the longest wait for the listing. `is_last`: whether no later claim asks about an item.
    """
    digests = {item.digest for item, _ in missing}
    reader = ThreadPoolExecutor(1, "confirm")
    listing = reader.submit(still_there, registry, store, run_id, repository, digests)
    try:
        there = listing.result(timeout=seconds)
    except RegistryError as error:
        outcome = outcomes.unconfirmed(f"it was not found, and listing its repository failed: {error}")
        return [(item, outcome) for item, _ in missing]
    except UntrustedListingError as error:
        outcome = outcomes.unconfirmed(f"it was not found, which is not trusted: {error}")
        return [(item, outcome) for item, _ in missing]
    except TimeoutError:
        outcome = outcomes.unconfirmed("it was not found, and listing its repository failed: it took too long")
        return [(item, outcome) for item, _ in missing if is_last(item)]
    finally:
        reader.shutdown(wait=False)  # a listing that still runs ends when the registry is closed
    return [(item, outcomes.after_listing(absent, listed=item.digest in there)) for item, absent in missing]


def still_there(
    registry: Registry, store: Store, run_id: str, repository: str, missing: Collection[str]
) -> frozenset[str]:
    """The digests that are there after all. Raises UntrustedListingError, RegistryError, StoreError."""
    with store.read() as connection:
        kept = plans.kept_digests(connection, run_id, repository)
    if isinstance(registry, ListsTagsOnly):
        # A listing would read each tag; the digests are read instead.
        kept = kept[:WITNESSES]
        there = registry.existing(repository, sorted({*missing, *kept}))
    else:
        there = frozenset(image.digest for image in registry.images(repository))
    if unseen := [digest for digest in kept if digest not in there]:
        raise UntrustedListingError(f"neither is {repository}@{unseen[0]}, which the plan keeps")
    if not kept and not there:
        _require_kept_image_elsewhere(registry, store, run_id, repository)
    return there.intersection(missing)


def _require_kept_image_elsewhere(registry: Registry, store: Store, run_id: str, repository: str) -> None:
    """Read a kept image of another repository with the same credentials.

    Raises UntrustedListingError, RegistryError.
    """
    absent: list[str] = []
    for path, image in _kept_elsewhere(registry, store, run_id, repository):
        try:
            registry.get(path, image)
        except NotFoundError:
            absent.append(f"{path}@{image.digest}")
        else:
            return
        if len(absent) == WITNESSES:
            break
    if absent:
        raise UntrustedListingError(f"neither is {absent[0]}, which the plan keeps")
    raise UntrustedListingError(
        "the plan keeps no image by which to see that the registry shows these credentials what is there"
    )


def _kept_elsewhere(registry: Registry, store: Store, run_id: str, repository: str) -> Iterator[tuple[str, Image]]:
    """A kept image of each other repository that has one and that the same credentials read."""
    with store.read() as connection:
        paths = plans.repositories(connection, run_id)
    for path in paths:
        if path == repository:
            continue
        if isinstance(registry, HasSeveralCredentials) and not registry.share_credentials(repository, path):
            continue
        with store.read() as connection:
            if kept := plans.kept_digests(connection, run_id, path):
                images = plans.images_of(connection, run_id, path)
                image = next(image for image in images if image.digest == kept[0])
                yield path, image
