"""A second listing of a repository does not request known facts again, and misses no new image."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from policies.image import Image
from tests.registries.oci.conftest import Opener
from tests.registries.oci.driver.test_real import one_of_each
from tests.registries.oci.scripted import Asked, Reply, Scripted, ScriptedRepository, an_image, an_index, document
from tests.support.oci.manifests import IMAGE, INDEX, digest_of
from tests.support.oci.pusher import Pusher
from tests.support.oci.server import DockerRegistry
from worker.registries.oci.driver import Oci

CHILD, INNER_CHILD, LOST = (an_image(text) for text in ("child", "inner child", "lost"))
REFERRER, ANOTHER_REFERRER = (
    an_image(text, subject={"mediaType": IMAGE, "digest": digest_of(an_image("v1")), "size": 1})
    for text in ("referrer", "another referrer")
)
INNER = an_index(INNER_CHILD)
TREE = an_index(CHILD, INNER, LOST)
SUBJECT = an_image("subject")
SIGNATURE_TAG = f"sha256-{digest_of(SUBJECT).removeprefix('sha256:')}"


@pytest.fixture
def tree(stored: ScriptedRepository) -> ScriptedRepository:
    """An index of an index, a signature of an untagged image, and an untagged referrer of an image."""
    for body in (CHILD, INNER_CHILD, REFERRER, SUBJECT):
        stored.put(body)
    stored.put(INNER, media_type=INDEX)
    stored.put(LOST, "lost")
    stored.put(TREE, "multi", media_type=INDEX)
    stored.put(an_image("signature"), f"{SIGNATURE_TAG}.sig")
    stored.put(an_image("v1"), "v1")
    stored.put(an_image("v2"), "v2")
    stored.put(an_index(REFERRER), f"sha256-{digest_of(an_image('v1')).removeprefix('sha256:')}", media_type=INDEX)
    return stored


def by_digest(images: tuple[Image, ...]) -> Mapping[str, Image]:
    return {image.digest: image for image in images}


def test_relisting_known_images_costs_one_request_per_tag(
    opened: Opener, tree: ScriptedRepository, server: Scripted
) -> None:
    driver = opened(server.url)
    known = by_digest(driver.images("a"))
    assert len(known) == len(tree.manifests)
    before = len(server.asked)
    assert by_digest(opened(server.url).relist("a", known)) == known
    asked = sorted(f"{request.method} {request.path.rpartition('/')[2]}" for request in server.asked[before:])
    assert asked == sorted([f"HEAD {tag}" for tag in tree.tags] + ["GET list", "GET list"])


def move_tag(stored: ScriptedRepository) -> None:
    stored.tags["v1"] = stored.tags["v2"]


def push_over_the_known(stored: ScriptedRepository) -> None:
    stored.put(an_index(CHILD, an_image("v2"), an_image("nowhere")), "new", media_type=INDEX)


def push_nested(stored: ScriptedRepository) -> None:
    inner, new = an_index(CHILD, an_image("new")), an_image("new")
    stored.put(new)
    stored.put(inner, media_type=INDEX)
    stored.put(an_index(inner), "v2", media_type=INDEX)


def untag_the_tree(stored: ScriptedRepository) -> None:
    del stored.tags["multi"]


def take_the_only_tag(stored: ScriptedRepository) -> None:
    del stored.tags["lost"]


def remove_a_child_with_its_tag(stored: ScriptedRepository) -> None:
    stored.remove(digest_of(LOST))


def sign_again(stored: ScriptedRepository) -> None:
    stored.put(an_image("another signature"), f"{SIGNATURE_TAG}.sig")


def list_another_referrer(stored: ScriptedRepository) -> None:
    (tag,) = (tag for tag in stored.tags if tag.startswith("sha256-") and not tag.endswith(".sig"))
    stored.put(ANOTHER_REFERRER)
    stored.put(an_index(REFERRER, ANOTHER_REFERRER), tag, media_type=INDEX)


@pytest.mark.parametrize(
    "change",
    [
        move_tag,
        push_over_the_known,
        push_nested,
        untag_the_tree,
        take_the_only_tag,
        remove_a_child_with_its_tag,
        sign_again,
        list_another_referrer,
    ],
)
def test_a_relisting_equals_a_first_listing(
    opened: Opener, tree: ScriptedRepository, server: Scripted, change: Callable[[ScriptedRepository], None]
) -> None:
    driver = opened(server.url)
    known = by_digest(driver.images("a"))
    change(tree)
    fresh = by_digest(driver.images("a"))
    assert by_digest(driver.relist("a", known)) == fresh
    assert fresh != known


def test_a_listing_of_referrers_that_is_an_ordinary_index_by_now(
    opened: Opener, tree: ScriptedRepository, server: Scripted
) -> None:
    driver = opened(server.url)
    known = by_digest(driver.images("a"))
    (tag,) = (tag for tag in tree.tags if tag.startswith("sha256-") and not tag.endswith(".sig"))
    listing = tree.tags["ordinary"] = tree.tags.pop(tag)
    images = by_digest(driver.relist("a", known))
    assert images[listing].children == (digest_of(REFERRER),)
    assert images[listing].tags == ("ordinary",)
    assert images.keys() == by_digest(driver.images("a")).keys()


def test_referrers_that_the_registry_lists(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    """Cached for known images; requested for new images."""
    listed: dict[str, list[dict[str, Any]]] = {}

    def referrers(asked: Asked) -> Reply | None:
        about = asked.path.rpartition("/")[2]
        return document({"manifests": listed.get(about, [])}) if "/referrers/" in asked.path else None

    stored.before = referrers
    subject, new = stored.put(an_image("subject"), "v1"), digest_of(an_image("new"))
    listed[subject] = [{"digest": stored.put(an_image("referrer"))}]
    driver = opened(server.url)
    known = by_digest(driver.images("a"))
    assert len(known) == 2
    stored.put(an_image("new"), "v2")
    listed[new] = [{"digest": stored.put(an_image("of the new"))}]
    before = len(server.asked)
    images = by_digest(driver.relist("a", known))
    assert images == by_digest(driver.images("a"))
    assert len(images) == 4
    asked = [request.path for request in server.asked[before:] if "/referrers/" in request.path]
    assert f"/v2/a/referrers/{new}" in asked
    assert asked.count(f"/v2/a/referrers/{subject}") == 1  # of the listing that knows nothing


def test_a_relisting_keeps_known_facts(opened: Opener, tree: ScriptedRepository, server: Scripted) -> None:
    driver: Oci = opened(server.url, push_time="image")
    known = {digest: replace(image, labels={"a": digest}) for digest, image in by_digest(driver.images("a")).items()}
    images = by_digest(driver.relist("a", known))
    assert [digest for digest, image in images.items() if image.labels != {"a": digest}] == []


def test_a_relisting_of_a_real_registry_equals_a_first_listing(opened: Opener) -> None:
    with DockerRegistry() as server:
        pushed = one_of_each(Pusher(server.url))
        driver = opened(server.url)
        known = by_digest(driver.images("shop/api"))
        assert by_digest(driver.relist("shop/api", known)) == known
        pusher = Pusher(server.url)
        pusher.index("shop/api", "v1", children=[pushed["inner"], pushed["artifact"]])
        images = by_digest(driver.relist("shop/api", known))
        assert images == by_digest(driver.images("shop/api"))
        assert len(images) == len(known) + 1
