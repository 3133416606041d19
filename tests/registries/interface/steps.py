"""Steps that several cases share."""

import time

from policies.image import Image
from tests.registries.interface.server import Server, State
from tests.support.drivers import key
from worker.registries.errors import RegistryError
from worker.registries.interface import Deletion, Registry

DELETION_SECONDS = 5.0  # seconds for a deletion; every server of the suite ends one at once


def listed(driver: Registry, repository: str) -> dict[str, Image]:
    """The images of a repository by digest; each is there once."""
    images = driver.images(repository)
    listed = {image.digest: image for image in images}
    assert len(listed) == len(images)
    return listed


def one(server: Server, repository: str, digest: str) -> Image:
    """An image as a scan has seen it, by a process that has ended since."""
    with server.open() as scan:
        return listed(scan, repository)[digest]


def rechecked_at(server: Server, driver: Registry, repository: str, digest: str) -> Image:
    """The same, looked at again by the driver that will delete it, which has so signed in."""
    image = one(server, repository, digest)
    return driver.get(repository, image, dict.fromkeys(image.tags, image.digest))


def tags(images: dict[str, Image]) -> dict[str, frozenset[str]]:
    return {digest: frozenset(image.tags) for digest, image in images.items()}


def deleted(
    driver: Registry, repository: str, image: Image, with_key: str = "", seconds: float = DELETION_SECONDS
) -> Deletion:
    """The end of a deletion. Raises RegistryError, as the call or as the operation's own."""
    begun = driver.delete(repository, image, with_key or key())
    return driver.follow(begun, time.monotonic() + seconds)


def ended(
    driver: Registry, repository: str, image: Image, with_key: str = "", seconds: float = DELETION_SECONDS
) -> Deletion | RegistryError:
    """The same, an error as a value."""
    try:
        return deleted(driver, repository, image, with_key, seconds)
    except RegistryError as error:
        return error


def without(state: State, repository: str, digest: str) -> State:
    """The state after the deletion of only this image. A repository without images may be missing."""
    left = {
        path: {other: tags for other, tags in images.items() if (path, other) != (repository, digest)}
        for path, images in state.items()
    }
    return present(left)


def present(state: State) -> State:
    return {path: images for path, images in state.items() if images}
