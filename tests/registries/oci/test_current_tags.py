"""Pushes and moved tags of others around a deletion: detected before it, or reported after it."""

import time
from collections.abc import Callable

import pytest

from policies.image import Image
from tests.registries.oci.conftest import Opener
from tests.registries.oci.scripted import UNKNOWN, Asked, Reply, Scripted, ScriptedRepository, an_image, an_index, error
from tests.support.oci.manifests import INDEX, digest_of
from tests.support.oci.pusher import Pusher
from tests.support.oci.server import DockerRegistry
from worker.config.settings import Rate
from worker.registries.errors import BadResponseError, NotFoundError, RegistryError, UsedByImageListsError

FEW = Rate(requests_per_second=20.0)
MANY = tuple(f"t{number:02}" for number in range(21))  # tags: more than are read in a second


def test_detects_a_roll_back_to_a_planned_image(opened: Opener) -> None:
    with DockerRegistry() as server:
        pusher = Pusher(server.url)
        old = pusher.image("a", "pr-1", layers=[b"old"])
        new = pusher.image("a", "prod", layers=[b"new"])
        driver = opened(server.url, rate=FEW)
        images = {image.digest: image for image in driver.images("a")}
        pusher.tag(old, "prod")
        image = driver.get("a", images[old.digest], {"pr-1": old.digest, "prod": new.digest})
        assert image.tags == ("pr-1", "prod")


def test_reports_a_collateral_tag(opened: Opener) -> None:
    """In a large repository the tag was not read before the deletion."""
    with DockerRegistry() as server:
        pusher = Pusher(server.url)
        old = pusher.image("a", "pr-1", layers=[b"old"])
        new = pusher.image("a", "prod", *MANY, layers=[b"new"])
        driver = opened(server.url, rate=FEW)
        images = {image.digest: image for image in driver.images("a")}
        known = {"pr-1": old.digest} | dict.fromkeys(("prod", *MANY), new.digest)
        pusher.tag(old, "prod")
        assert driver.get("a", images[old.digest], known) == images[old.digest]
        assert driver.delete("a", images[old.digest], "key").collateral_tags == ("prod",)
        assert pusher.tags("a") == dict.fromkeys(MANY, new.digest)


def test_reports_a_collateral_tag_of_a_slow_deletion(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    old, new = stored.put(an_image("old"), "pr-1"), stored.put(an_image("new"), "prod", *MANY)
    stored.before = lambda asked: Reply(202) if asked.method == "DELETE" else None
    driver = opened(server.url, rate=FEW)
    planned = Image(digest=old, tags=("pr-1",))
    driver.get("a", planned, {"pr-1": old} | dict.fromkeys(("prod", *MANY), new))
    deletion = driver.delete("a", planned, "key")
    assert (deletion.done, deletion.collateral_tags) == (False, ())
    stored.tags["prod"] = old
    stored.remove(old)
    deletion = driver.follow(deletion, time.monotonic())
    assert (deletion.done, deletion.collateral_tags) == (True, ("prod",))


def test_a_listing_after_a_deletion_is_never_older_than_it(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    """Deletions that end together share one."""
    digests = [stored.put(an_image(str(number)), f"v{number}") for number in range(4)]
    driver = opened(server.url, rate=Rate(requests_per_second=1000.0, concurrency=4))
    known = {f"v{number}": digest for number, digest in enumerate(digests)}
    planned = [Image(digest=digest, tags=(tag,)) for tag, digest in known.items()]
    driver._client.call_in_threads(lambda image: driver.get("a", image, known), planned)
    driver._client.call_in_threads(lambda image: driver.delete("a", image, "key"), planned)
    lines = server.lines("DELETE", "GET")
    assert lines[-1] == "GET /v2/a/tags/list"
    assert sum(line.startswith("DELETE") for line in lines) == 4


def over(stored: ScriptedRepository, child: bytes) -> None:
    stored.put(an_index(child), "new", media_type=INDEX)


def deep_over(stored: ScriptedRepository, child: bytes) -> None:
    inner, outer = an_index(child), an_index(an_index(child), an_image("another"))
    stored.put(inner, media_type=INDEX)
    stored.put(outer, "new", media_type=INDEX)


def moved_over(stored: ScriptedRepository, child: bytes) -> None:
    stored.put(an_index(child), "latest", media_type=INDEX)


def about(stored: ScriptedRepository, child: bytes) -> None:
    subject = {"digest": digest_of(child), "size": 1, "mediaType": "x/y"}
    stored.put(an_image("referrer", subject=subject), "new")


def signed(stored: ScriptedRepository, child: bytes) -> None:
    stored.put(an_image("signature"), f"sha256-{digest_of(child).removeprefix('sha256:')}.sig")


@pytest.mark.parametrize("push", [over, deep_over, moved_over, about, signed])
def test_keeps_an_image_that_a_new_tag_needs(
    opened: Opener, stored: ScriptedRepository, server: Scripted, push: Callable[[ScriptedRepository, bytes], None]
) -> None:
    planned = Image(digest=stored.put(an_image("planned"), "pr-1"), tags=("pr-1",))
    other = Image(digest=stored.put(an_image("other"), "pr-2"), tags=("pr-2",))
    latest = stored.put(an_image("latest"), "latest")
    known = {"pr-1": planned.digest, "pr-2": other.digest, "latest": latest}
    driver = opened(server.url, rate=FEW)
    assert driver.get("a", planned, known) == planned
    push(stored, an_image("planned"))
    driver = opened(server.url, rate=FEW)  # the tags that another thread has read are valid for a second
    with pytest.raises(UsedByImageListsError, match="which was pushed since the plan, needs it"):
        driver.get("a", planned, known)
    assert driver.get("a", other, known) == other


STRANGE = b'{"mediaType": "application/x", "schemaVersion": 2}'


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(error(500, "UNKNOWN"), RegistryError, id="not now"),
        pytest.param(Reply(200, b"{}"), BadResponseError, id="another"),
        pytest.param(UNKNOWN, BadResponseError, id="gone meanwhile"),
    ],
)
def test_keeps_images_if_a_new_manifest_cannot_be_read(
    opened: Opener, stored: ScriptedRepository, server: Scripted, reply: Reply, kind: type[RegistryError]
) -> None:
    """And it is no word on the image that was asked about."""
    planned = Image(digest=stored.put(an_image("planned"), "pr-1"), tags=("pr-1",))
    new = stored.put(an_index(), "new", media_type=INDEX)

    def refuse(asked: Asked) -> Reply | None:
        return reply if asked.method == "GET" and asked.path.endswith(new) else None

    stored.before = refuse
    with pytest.raises(kind) as failure:
        opened(server.url).get("a", planned, {"pr-1": planned.digest})
    assert not isinstance(failure.value, NotFoundError | UsedByImageListsError)


@pytest.mark.parametrize("listed", [False, True], ids=["named", "listed"])
def test_keeps_images_if_a_new_manifest_has_an_unknown_type(
    opened: Opener, stored: ScriptedRepository, server: Scripted, listed: bool
) -> None:
    planned = Image(digest=stored.put(an_image("planned"), "pr-1"), tags=("pr-1",))
    stored.put(STRANGE, *(() if listed else ("new",)), media_type="application/x")
    if listed:
        stored.put(an_index(STRANGE, types=["application/x"]), "new", media_type=INDEX)
    with pytest.raises(BadResponseError, match=r"has the unknown type 'application/x', so it may need any image"):
        opened(server.url).get("a", planned, {"pr-1": planned.digest})


def test_deletes_although_a_listed_child_does_not_exist(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    planned = Image(digest=stored.put(an_image("planned"), "pr-1"), tags=("pr-1",))
    stored.put(an_index(an_image("nowhere")), "new", media_type=INDEX)
    assert opened(server.url).get("a", planned, {"pr-1": planned.digest}) == planned
