"""A person's hold, from the reference that they type to the row that every deletion reads."""

import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile

from policies.holds import Hold
from policies.image import Image
from policies.patterns import Patterns
from worker.config.settings import RegistrySettings
from worker.registries import open_registry
from worker.registries.errors import NotFoundError, RegistryError
from worker.registries.http.messages import Retries
from worker.registries.http.rate_limit import LocalLimiter
from worker.registries.interface import Registry
from worker.runs.evidence import host_is_ours, own_address, path_in_registry
from worker.store import Store, holds, plans
from worker.store.manifests import StoredManifests
from worker.text import DIGEST, PATH, TAG, parse_reference

ID = re.compile("[a-z0-9]{20}")  # the registry's own id of an image
FORMS = "write path:tag, path@sha256:…, an image's id, or a glob of repositories"
REGISTRY_SECONDS = 15.0  # to read from the registry what is held today
IN_FORCE = "the hold is in force all the same"


class HoldError(Exception):
    """A reference that names nothing that can be held."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class PlacedHold:
    """A hold that is in force, with a warning if it is not known what it holds today."""

    number: int
    hold: Hold
    warning: str | None = None


def hold_of(
    registry: RegistrySettings, reference: str, *, until: datetime | None = None, reason: str = "", who: str = ""
) -> Hold:
    """`path:tag`, `path@sha256:…`, an image's id (20 letters, digits), a glob of repositories; or, with the registry's
    address before it, an image reference of a cluster. Raises HoldError.
    """
    text = _without_address(registry, reference)
    named = parse_reference(text)
    if "@" in text:
        path = _match(PATH, named.path, "a repository", reference)
        digest = _match(DIGEST, named.digest, "a digest", reference)
        return Hold(kind="digest", repository=path, value=digest, until=until, reason=reason, who=who)
    if ":" in text and not text.startswith("re:"):
        path = _match(PATH, named.path, "a repository", reference)
        tag = _match(TAG, named.tag, "a tag", reference)
        return Hold(kind="tag", repository=path, value=tag, until=until, reason=reason, who=who)
    if ID.fullmatch(text):
        return Hold(kind="image", value=text, until=until, reason=reason, who=who)
    try:
        Patterns((text,), paths=True)
    except ValueError as error:
        raise HoldError(f"{reference!r} names no image and is no glob of repositories: {error}") from error
    return Hold(kind="repository", repository=text, value=text, until=until, reason=reason, who=who)


def _without_address(registry: RegistrySettings, reference: str) -> str:
    """The reference without the registry's own address. Raises HoldError: it has another registry's address."""
    host, slash, _ = reference.partition("/")
    if not slash or not ("." in host or ":" in host) or reference.startswith("re:") or "@" in host:
        return reference
    if (path := path_in_registry(registry, reference)) is not None:
        return path
    if ":" in host or host_is_ours(registry, host):
        raise HoldError(f"{reference!r} is not in {registry.name}, whose images are {own_address(registry)}/…; {FORMS}")
    return reference  # a repository's path may have a dot


def _match(form: re.Pattern[str], text: str, what: str, reference: str) -> str:
    if not form.fullmatch(text):
        raise HoldError(f"{reference!r}: {text!r} is not {what}; {FORMS}")
    return text


def place(store: Store, registry: RegistrySettings, wanted: Hold, now: datetime) -> PlacedHold:
    """Put a hold in force, then read what it holds today: a tag's digest is held with it. Raises StoreError.

    The hold is in force before the registry is asked, so that a slow registry loses nothing.
    """
    with store.write() as connection:
        number = holds.add(connection, registry.name, wanted, now)
    if wanted.kind == "image":
        return _by_id(store, registry, number, wanted)
    try:
        with _open(store, registry) as opened:
            return _from_registry(store, opened, number, wanted)
    except RegistryError as error:
        return _from_plan(store, registry.name, number, wanted, error)


@contextmanager
def _open(store: Store, registry: RegistrySettings) -> Iterator[Registry]:
    """Open the registry with short retries and a rate limit of its own. Raises RegistryError."""
    manifests = StoredManifests(store, registry.key, save=False)
    with (
        closing(LocalLimiter(registry.rate.requests_per_second)) as limiter,
        open_registry(registry, limiter, Retries(total=REGISTRY_SECONDS), manifests) as opened,
    ):
        yield opened


def _from_registry(store: Store, opened: Registry, number: int, wanted: Hold) -> PlacedHold:
    """The hold with what the registry says of it. Raises RegistryError."""
    if wanted.kind == "repository":
        match = Patterns((wanted.value,), paths=True).match
        matches = any(match(path) is not None for path in opened.repositories())
        return PlacedHold(
            number, wanted, None if matches else f"no repository matches {wanted.value} today; {IN_FORCE}"
        )
    path = wanted.repository or ""
    try:
        images = opened.images(path)
    except NotFoundError:
        images = ()
    return _with_image(store, number, wanted, images, "today")


def _with_image(store: Store, number: int, wanted: Hold, images: tuple[Image, ...], when: str) -> PlacedHold:
    """The hold with the digest that its tag names among the images of its repository."""
    digest = next((image.digest for image in images if wanted.value in (image.digest, *image.tags)), None)
    if digest is None and wanted.kind == "tag":
        warning = f"no image of {wanted.repository} has the tag {wanted.value} {when}; it holds whatever gets it"
        return PlacedHold(number, wanted, warning)
    if digest is None:
        return PlacedHold(number, wanted, f"{wanted.repository} has no image {wanted.value} {when}; {IN_FORCE}")
    return _with_digest(store, number, wanted, digest) if wanted.kind == "tag" else PlacedHold(number, wanted)


def _with_digest(store: Store, number: int, wanted: Hold, digest: str) -> PlacedHold:
    """The hold with the digest that its tag or id names now."""
    with store.write() as connection:
        holds.set_digest(connection, number, digest)
    return PlacedHold(number, replace(wanted, digest=digest))


def _from_plan(store: Store, registry: str, number: int, wanted: Hold, error: RegistryError) -> PlacedHold:
    """The hold with what the newest plan says of it, where the registry cannot be asked."""
    placed, what = PlacedHold(number, wanted), IN_FORCE
    if wanted.kind == "tag":
        with store.read() as connection:
            known = plans.newest_images_of(connection, registry, wanted.repository or "")
        what = "the newest plan was asked instead" if known else "only what carries the tag from now on is held"
        placed = _with_image(store, number, wanted, known, "in it") if known else placed
    asked = f"the registry could not be asked what is held today: {error}; {what}"
    return replace(placed, warning=f"{asked}: {placed.warning}" if placed.warning else asked)


def _by_id(store: Store, registry: RegistrySettings, number: int, wanted: Hold) -> PlacedHold:
    """The hold with the digest of its id: by the newest plan, else by the registry as far as it is listed in time."""
    with store.read() as connection:
        seen = (image for _, images in plans.newest_images(connection, registry.name) for image in images)
        digest = next((image.digest for image in seen if image.id == wanted.value), None)
    if digest is None:
        ends = time.monotonic() + REGISTRY_SECONDS
        with suppress(RegistryError), _open(store, registry) as opened:
            in_time = takewhile(lambda _path: time.monotonic() <= ends, opened.repositories())
            images = (image for path in in_time for image in opened.images(path))
            digest = next((image.digest for image in images if image.id == wanted.value), None)
    if digest is not None:
        return _with_digest(store, number, wanted, digest)
    warning = f"no image with the id {wanted.value} was found; {IN_FORCE}, as long as the registry is of its kind"
    return PlacedHold(number, wanted, warning)
