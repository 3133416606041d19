"""What good registries do not do, or not all of them: answers after which the driver has to look for itself."""

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from policies.image import Image
from policies.subjects import subjects_in
from tests.registries.oci.conftest import Opener
from tests.registries.oci.scripted import (
    NO_PAGE,
    UNKNOWN,
    Asked,
    Reply,
    Scripted,
    ScriptedRepository,
    an_image,
    an_index,
    document,
    error,
    manifest,
)
from tests.support.drivers import with_defaults
from tests.support.oci.manifests import IMAGE, INDEX, digest_of
from worker.config.settings import Credentials, Rate, Secret
from worker.planning.inventory import take_inventory
from worker.registries.errors import (
    BadAnswerError,
    NotFoundError,
    OperationUnknownError,
    PermissionDeniedError,
    RegistryError,
    SignInError,
    TooLateError,
    UnavailableError,
    UsedByImageListsError,
)
from worker.registries.http.messages import Answer, Patience
from worker.registries.http.tokens import base64_of
from worker.registries.interface import Deletion, Kept, Manifest
from worker.registries.oci.passwords import user_of


def image(digest: str, *tags: str) -> Image:
    return Image(digest=digest, tags=tags)


# What became of a deletion.


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(error(500, "UNKNOWN"), id="500"),
        pytest.param(Reply(502, b"<html>"), id="502"),
        pytest.param(Reply(202, b"gone", cut=True), id="cut off"),
        pytest.param(Reply(307, b"", {"Location": "/elsewhere"}), id="a redirect"),
    ],
)
@pytest.mark.parametrize("is_gone", [True, False])
def test_an_answer_that_may_mean_deleted(
    opened: Opener, stored: ScriptedRepository, server: Scripted, reply: Reply, is_gone: bool
) -> None:
    digest = stored.put(an_image("x"), "v1")

    def stumble(asked: Asked) -> Reply | None:
        if asked.method != "DELETE":
            return None
        if is_gone:
            stored.remove(digest)
        return reply

    stored.before = stumble
    driver = opened(server.url)
    if is_gone:
        assert driver.delete("a", image(digest, "v1"), "key") == Deletion("", done=True)
    else:
        with pytest.raises(RegistryError) as failure:
            driver.delete("a", image(digest, "v1"), "key")
        assert failure.value.maybe_done
    assert server.lines()[:2] == [f"DELETE /v2/a/manifests/{digest}", f"HEAD /v2/a/manifests/{digest}"]
    assert len(server.lines("DELETE")) == 1


def test_where_nobody_can_look_the_doubt_stays(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    digest = stored.put(an_image("x"), "v1")
    stored.before = lambda _: error(503, "UNAVAILABLE")
    with pytest.raises(UnavailableError) as failure:
        opened(server.url).delete("a", image(digest, "v1"), "key")
    assert failure.value.maybe_done
    assert str(failure.value).startswith("production: DELETE a@sha256:")


def test_a_deletion_that_comes_later(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    digest = stored.put(an_image("x"), "v1")
    looks = 0

    def later(asked: Asked) -> Reply | None:
        nonlocal looks
        looks += asked.method == "HEAD"
        if looks == 3:
            stored.remove(digest)
            stored.put(an_image("pushed meanwhile"), "v1")
            looks += 1
        return Reply(202) if asked.method == "DELETE" else None

    stored.before = later
    driver = opened(server.url)
    begun = driver.delete("a", image(digest, "v1"), "key")
    assert begun == Deletion(f"a@{digest}", done=False)
    assert driver.follow(begun, 0.0) == begun  # asked once, though time is up
    assert driver.follow(begun, float("inf")) == Deletion(begun.operation_id, done=True, raced=("v1",))
    assert opened(server.url).follow(begun, 0.0).done  # by a process that knows nothing of it
    with pytest.raises(OperationUnknownError):
        driver.follow(Deletion("", done=False), 0.0)


def test_a_tag_that_still_names_what_is_gone(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    digest = stored.put(an_image("x"), "v1")
    still = stored.manifests[digest]
    stored.before = lambda asked: still if asked.path.endswith("/v1") else None
    assert not opened(server.url).delete("a", image(digest, "v1"), "key").done


def test_what_was_accepted_is_not_unsaid_by_a_look_that_fails(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    digest = stored.put(an_image("x"), "v1")
    stored.before = lambda asked: None if asked.method == "DELETE" else error(503, "UNAVAILABLE")
    driver = opened(server.url, patience=Patience(attempts=2, total=2.0, first_wait=0.01, jitter=0.0))
    begun = driver.delete("a", image(digest, "v1"), "key")
    assert not begun.done
    with pytest.raises(UnavailableError) as failure:
        driver.follow(begun, float("inf"))
    assert failure.value.maybe_done


def test_a_deletion_is_sent_again_only_when_throttled(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    digest = stored.put(an_image("x"), "v1")
    stored.before = lambda asked: (
        error(429, "TOOMANYREQUESTS", Retry_After="0") if len(server.lines("DELETE")) == 1 else None
    )
    assert opened(server.url).delete("a", image(digest, "v1"), "key").done
    assert len(server.lines("DELETE")) == 2


def test_a_deletion_may_take_longer_than_other_questions(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    digest = stored.put(an_image("x"), "v1")
    never = threading.Event()
    stored.before = lambda asked: never.wait(0.6) or None if asked.method == "DELETE" else None
    driver = opened(server.url, patience=Patience(attempts=1, total=0.3))
    driver.delete("a", image(digest, "v1"), "key")
    assert len(server.lines("DELETE")) == 1
    assert digest not in stored.manifests


def test_nothing_is_sent_too_late(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    digest = stored.put(an_image("x"), "v1")
    with pytest.raises(TooLateError):
        opened(server.url).delete("a", image(digest, "v1"), "key", not_after=0.0)
    assert server.lines() == []


def test_an_index_still_needs_it(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    digest = stored.put(an_image("x"), "v1")
    stored.before = lambda asked: error(405, "DENIED", "it is needed") if asked.method == "DELETE" else None
    with pytest.raises(UsedByImageListsError):
        opened(server.url).delete("a", image(digest, "v1"), "key")
    assert len(server.lines()) == 1


# Listing.


def test_pages_of_tags_and_a_tag_twice(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    digest = stored.put(an_image("x"), *(f"v{number}" for number in range(5)))

    def pages(asked: Asked) -> Reply | None:
        if not asked.path.endswith("/tags/list"):
            return None
        if (last := asked.query.get("last", "0")).startswith("v"):
            return error(400, "UNSUPPORTED", "no page has that name")  # it names its pages by its own words
        at = int(last)
        link = f'</v2/a/tags/list?last={at + 2}>; rel="next"' if at < 4 else ""
        return document({"tags": [f"v{number}" for number in range(at, min(at + 3, 5))]}, Link=link)

    stored.before = pages
    (found,) = opened(server.url).images("a")
    assert (found.digest, found.tags) == (digest, ("v0", "v1", "v2", "v3", "v4"))


@pytest.mark.parametrize("following", ["last=x", "last={}"])
def test_a_listing_that_never_ends(
    opened: Opener, stored: ScriptedRepository, server: Scripted, following: str
) -> None:
    def pages(_: Asked) -> Reply:
        link = f"</v2/a/tags/list?{following.format(len(server.asked))}>; rel=next"
        return document({"tags": ["v1"]}, Link=link)

    stored.before = pages
    with pytest.raises(BadAnswerError, match="the listing never ends"):
        opened(server.url).images("a")


def test_an_error_of_a_head_means_nothing(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    digest = stored.put(an_image("x"), "v1")
    stored.before = lambda asked: Reply(404) if asked.method == "HEAD" else None
    driver = opened(server.url)
    assert [(found.digest, found.tags) for found in driver.images("a")] == [(digest, ("v1",))]
    stored.before = lambda asked: Reply(404) if asked.method == "HEAD" else error(500, "UNKNOWN")
    with pytest.raises(UnavailableError):
        driver.images("a")


def test_a_listed_tag_without_a_manifest_leaves_the_repository_unreadable(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    """It may have been an index over anything: storage that is sick for an hour, or a broken link."""
    for number in range(4):
        stored.put(an_image(str(number)), f"v{number}")
    for tag in ("v2", "v3"):
        del stored.manifests[stored.tags[tag]]
    with pytest.raises(BadAnswerError, match=r"GET a:v2: HTTP 404: the tag v2 \(and 1 more\) is listed, but"):
        opened(server.url).images("a")
    assert server.lines().count("GET /v2/a/tags/list") == 4  # two lists, each asked on once


@pytest.mark.parametrize("meanwhile", ["deleted", "pushed again"])
def test_a_tag_that_goes_or_moves_while_it_is_read_is_no_broken_one(
    opened: Opener, stored: ScriptedRepository, server: Scripted, meanwhile: str
) -> None:
    kept, gone = stored.put(an_image("x"), "v1"), stored.put(an_image("y"), "v2")

    def before(asked: Asked) -> Reply | None:
        if asked.method == "GET" and asked.path.endswith("/manifests/v2"):
            stored.remove(gone) if meanwhile == "deleted" and gone in stored.manifests else None
            stored.tags = {"v1": kept} if meanwhile == "deleted" else {"v1": kept, "v2": kept}
            return UNKNOWN
        return UNKNOWN if asked.path.endswith("/manifests/v2") and stored.tags.get("v2") == gone else None

    stored.before = before
    (found,) = opened(server.url).images("a")
    assert (found.digest, found.tags) == (kept, ("v1",) if meanwhile == "deleted" else ("v1", "v2"))


def test_a_new_tag_without_a_manifest_lets_nothing_go(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    digest = stored.put(an_image("x"), "v1")
    index = stored.put(an_index(an_image("x")), "new", media_type=INDEX)
    driver = opened(server.url)
    stored.before = lambda asked: UNKNOWN if asked.path.endswith(("/new", index)) else None
    with pytest.raises(BadAnswerError, match="the tag new is listed"):
        driver.get("a", image(digest, "v1"), {"v1": digest})


def test_a_tag_of_the_plan_without_a_manifest_is_none_to_wait_for(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    """What it named stands in the plan: some registries go on listing the tags of what was deleted."""
    digest, deleted = stored.put(an_image("x"), "v1"), stored.put(an_image("y"), "v2")
    del stored.manifests[deleted]
    found = opened(server.url).get("a", image(digest, "v1"), {"v1": digest, "v2": deleted})
    assert found.tags == ("v1",)


def test_without_the_header_of_the_digest(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    body = an_image("x")
    digest = stored.put(body, "v1")
    stored.manifests[digest] = Reply(200, body, {"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
    driver = opened(server.url)
    (found,) = driver.images("a")
    assert (found.digest, found.tags) == (digest, ("v1",))
    assert driver.get("a", found, {"v1": found.digest}) == found
    assert driver.delete("a", found, "key").done


def test_children_that_are_strange_missing_or_unreadable(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    good, bad, missing, strange = an_image("good"), an_image("bad"), an_image("missing"), b'{"what": "is this?"}'
    stored.put(good)
    stored.manifests[digest_of(bad)] = manifest(an_image("other"))
    stored.manifests[digest_of(bad)].headers["Docker-Content-Digest"] = digest_of(bad)  # type: ignore[index]  # a dict
    stored.put(strange, media_type="application/x-strange")
    index = stored.put(
        an_index(good, bad, missing, strange, types=["", "", "", "application/x-strange"]), "v1", media_type=INDEX
    )

    def strict(asked: Asked) -> Reply | None:
        refused = asked.path.endswith(digest_of(strange)) and "*/*" not in asked.headers["accept"]
        return UNKNOWN if refused else None

    stored.before = strict
    found = {one.digest: one.children for one in opened(server.url).images("a")}
    assert found == {
        index: tuple(map(digest_of, (good, bad, missing, strange))),
        digest_of(good): UNSET,
        digest_of(bad): None,
        digest_of(strange): None,
    }


def test_a_build_cache_whose_index_lists_blobs(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    """A layer and a config by their types; what is of a type that nobody knows is a blob if the registry says so."""
    types = [
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.buildkit.cacheconfig.v0",
        "application/x-y",
    ]
    index = stored.put(an_index(b"a layer", b"{}", b"strange", types=types), "cache", media_type=INDEX)
    stored.before = lambda asked: Reply(200, b"") if asked.path == f"/v2/a/blobs/{digest_of(b'strange')}" else None
    driver = opened(server.url)
    (found,) = driver.images("a")
    assert (found.digest, found.children, found.compressed_size) == (index, (), len(b"a layer" + b"{}" + b"strange"))
    manifests = {line.rpartition("/")[2] for line in server.lines() if "/manifests/" in line}
    assert manifests == {"cache", index}
    # Pushed since the plan, it needs no image.
    digest = stored.put(an_image("x"), "v1")
    assert driver.get("a", image(digest, "v1"), {"v1": digest}).tags == ("v1",)


def test_a_manifest_that_was_remembered_as_strange_is_read_again(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    body = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    digest = stored.put(body, "v1", media_type="application/json")
    remembered = {digest: Manifest(digest, "application/json", None)}
    (found,) = opened(server.url, manifests=Remembering(remembered)).images("a")
    assert found.children == ()
    assert remembered[digest].children == ()


class Remembering:
    def __init__(self, held: dict[str, Manifest]) -> None:
        self.held = held

    def known(self, digests: Iterable[str]) -> Mapping[str, Manifest]:
        return {digest: self.held[digest] for digest in digests if digest in self.held}

    def remember(self, manifests: Mapping[str, Manifest]) -> None:
        self.held |= manifests


def test_the_listing_of_referrers(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    subject = stored.put(an_image("subject"), "v1")
    first = stored.put(an_image("first", subject={"digest": subject, "size": 1, "mediaType": "x/y"}))
    second, gone = stored.put(an_image("second")), an_image("gone")
    of_first = stored.put(an_image("of the first"))

    def referrers(asked: Asked) -> Reply | None:
        if not asked.path.startswith("/v2/a/referrers/"):
            return None
        about = asked.path.rpartition("/")[2]
        if about == first:
            return document({"manifests": [{"digest": of_first}]})
        if about != subject:
            return document({"manifests": []})
        if "page" in asked.query:
            return document({"manifests": [{"digest": second}, {"digest": digest_of(gone)}]})
        link = f'</v2/a/referrers/{subject}?page=2>; rel="next"'
        return document({"manifests": [{"digest": first}]}, Link=link)

    stored.before = referrers
    found = {one.digest: one.subject for one in opened(server.url).images("a")}
    assert found == {subject: UNSET, first: subject, second: subject, of_first: first}


def test_a_list_of_referrers(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    """An index tagged by its subject's digest keeps what it lists; untagged artifacts in it are about that subject."""
    subject = stored.put(an_image("subject"), "v1")
    about = {"subject": {"mediaType": IMAGE, "digest": subject, "size": 1}}
    names_it, tagged = an_image("names it", **about), an_image("has a tag", **about)
    artifact, child = (an_image(text, artifactType="application/vnd.sbom") for text in ("artifact", "child"))
    for body in (names_it, artifact, child):
        stored.put(body)
    stored.put(tagged, "v2")
    parent = stored.put(an_index(child), "v3", media_type=INDEX)
    listing = stored.put(an_index(names_it, tagged, artifact, child), subject.replace(":", "-"), media_type=INDEX)
    images = {one.digest: one for one in opened(server.url).images("a")}
    assert (images[listing].subject, images[parent].children) == (UNSET, (digest_of(child),))
    assert images[listing].children == tuple(map(digest_of, (names_it, tagged, artifact, child)))
    assert {images[digest_of(one)].subject for one in (names_it, tagged)} == {subject}
    assert {images[digest_of(one)].subject for one in (artifact, child)} == {UNSET}  # an index lists one of them
    assert listing not in subjects_in(images.values())
    del stored.tags["v3"]
    again = {one.digest: one for one in opened(server.url).images("a")}
    assert {again[digest_of(one)].subject for one in (names_it, tagged, artifact, child)} == {subject}
    assert subjects_in(again.values())[listing] == (subject,)


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param((f"sha256-{'b' * 64}",), id="of a digest that is not here"),
        pytest.param((f"sha256-{'b' * 64}", "v4"), id="beside another tag"),
        pytest.param((f"sha256-{'e' * 64}", f"sha256-{'f' * 64}"), id="of two digests"),
        pytest.param((f"sha512-{'d' * 64}",), id="of the beginning of a digest"),
        pytest.param(("of the subject",), id="of an image that is here"),
    ],
)
def test_an_index_of_images_is_no_list_of_referrers(
    opened: Opener, stored: ScriptedRepository, server: Scripted, tags: tuple[str, ...]
) -> None:
    subject = stored.put(an_image("subject"), "v1")
    bodies = an_image("amd64"), an_image("attestation", artifactType="application/vnd.in-toto+json")
    for body in bodies:
        stored.put(body)
    tags = tuple(subject.replace(":", "-") if tag == "of the subject" else tag for tag in tags)
    index = stored.put(an_index(*bodies), *tags, media_type=INDEX)
    images = {one.digest: one for one in opened(server.url).images("a")}
    assert (images[index].children, images[index].subject) == (tuple(map(digest_of, bodies)), UNSET)
    assert {images[digest_of(body)].subject for body in bodies} == {UNSET}
    assert subjects_in(images.values()) == {}


@pytest.mark.parametrize(
    ("reply", "size"), [(Reply(404), 3), (Reply(200), 10), (Reply(307, b"", {"Location": "/x"}), 10)]
)
def test_layers_that_are_elsewhere_are_none_of_its_bytes(
    opened: Opener, stored: ScriptedRepository, server: Scripted, reply: Reply, size: int
) -> None:
    layers = [{"digest": f"sha256:{letter * 64}", "size": size} for letter, size in (("a", 3), ("b", 7))]
    layers[1]["urls"] = ["https://example.com/b"]
    stored.put(an_image("x", layers=layers), "v1")
    stored.before = lambda asked: reply if "/blobs/" in asked.path else None
    (found,) = opened(server.url).images("a")
    assert found.compressed_size == size
    assert server.lines()[-1] == f"HEAD /v2/a/blobs/sha256:{'b' * 64}"


def test_layers_that_are_elsewhere_are_looked_for_in_each_repository(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    """A manifest is remembered for the whole registry; whether a layer is there is a matter of each repository."""
    layer = {"digest": f"sha256:{'b' * 64}", "size": 7, "urls": ["https://example.com/b"]}
    stored.put(an_image("x", layers=[layer]), "v1")
    memory = Memory()
    sizes = []
    for reply in (Reply(404), Reply(200), Reply(404)):
        stored.before = lambda asked, reply=reply: reply if "/blobs/" in asked.path else None  # type: ignore[misc]  # a default is no parameter of a question's answer
        (found,) = opened(server.url, manifests=memory).images("a")
        sizes.append(found.compressed_size)
    assert sizes == [None, 7, None]


def test_where_no_manifest_may_be_read(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    stored.put(an_image("x"), "v1")
    stored.before = lambda asked: (
        error(403, "DENIED") if asked.method == "GET" and "/manifests/" in asked.path else None
    )
    with pytest.raises(PermissionDeniedError):
        opened(server.url).images("a")


class Memory:
    """What is known of manifests, in a dictionary."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}

    def known(self, digests: Any) -> Mapping[str, Any]:
        return {digest: self.facts[digest] for digest in digests if digest in self.facts}

    def remember(self, manifests: Mapping[str, Any]) -> None:
        self.facts |= manifests


def test_a_manifest_is_read_once_and_once_more_for_its_config(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    config = b'{"created": "2026-01-02T03:04:05Z", "config": {"Labels": {"a": "b"}}}'
    kind = "application/vnd.oci.image.config.v1+json"
    stored.put(an_image("x", config={"digest": digest_of(config), "size": len(config), "mediaType": kind}), "v1")
    stored.before = lambda asked: Reply(200, config) if "/blobs/" in asked.path else None
    memory = Memory()
    for push_time, gets in (("first_seen", 1), ("first_seen", 0), ("image", 2), ("image", 0), ("first_seen", 0)):
        before = len(server.asked)
        driver = opened(server.url, manifests=memory, push_time=push_time)
        (found,) = driver.images("a")
        read = [one.path for one in server.asked[before:] if one.method == "GET"]
        assert len([path for path in read if "/manifests/" in path or "/blobs/" in path]) == gets
        assert (found.created_at is not None) is (push_time == "image")
        assert found.compressed_size == len(config) + 1


def test_a_config_that_is_another(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    config = b"{}"
    kind = "application/vnd.oci.image.config.v1+json"
    stored.put(an_image("x", config={"digest": digest_of(config), "size": 2, "mediaType": kind}), "v1")
    stored.before = lambda asked: (
        Reply(200, b'{"created": "2020-01-01T00:00:00Z"}') if "/blobs/" in asked.path else None
    )
    (found,) = opened(server.url, push_time="image").images("a")
    assert (found.created_at, found.labels, found.children) == (None, None, UNSET)


def test_only_the_new_tags_are_looked_at_and_once_for_all(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    digests = [stored.put(an_image(str(number)), f"v{number}") for number in range(30)]
    stored.put(an_image("new"), "new")
    driver = opened(server.url, rate=Rate(requests_per_second=20.0))
    known = {f"v{number}": digest for number, digest in enumerate(digests)}
    asked = [image(digest, f"v{number}") for number, digest in enumerate(digests)]
    found = driver._client.each(lambda one: driver.get("a", one, known), asked)
    assert all(before == after for before, after in found.items())
    listed = sum(
        "/tags/list" in line for line in server.lines("GET")
    )  # once, unless this machine takes longer than a second for all of this
    assert listed < 60
    assert len(server.lines("HEAD")) == 60 + listed // 2  # each list is asked for, and what is beyond its end


# The catalog.


@pytest.mark.parametrize("reply", [NO_PAGE, Reply(401), Reply(403), error(405, "UNSUPPORTED")])
def test_without_a_catalog_each_is_named(
    opened: Opener, stored: ScriptedRepository, server: Scripted, reply: Reply
) -> None:
    challenge = {"Www-Authenticate": 'Bearer realm="/token"'} if reply.status == 401 else {}
    stored.before = lambda asked: (
        document({"token": "x"}) if asked.path == "/token" else Reply(reply.status, reply.body, challenge)
    )
    for globs in ((), ("shop/*",), ("shop/api", "ml/**")):
        driver = opened(server.url, repositories=globs)
        with pytest.raises(RegistryError):
            driver.images("nowhere")
        with pytest.raises(NotFoundError, match="name each of them under repositories"):
            list(driver.repositories())
    assert list(opened(server.url, repositories=("b", "a")).repositories()) == ["a", "b"]


def test_names_from_the_catalog(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    def pages(asked: Asked) -> Reply:
        if "last" in asked.query:
            return document({"repositories": ["shop/b", "Bad//name"]})
        return document({"repositories": ["shop/b", "shop/a"]}, Link='</v2/_catalog?last=x>; rel="next"')

    stored.before = pages
    assert list(opened(server.url, repositories=("shop/*",)).repositories()) == ["shop/a", "shop/b"]
    driver = opened(server.url)
    assert list(driver.repositories()) == ["Bad//name", "shop/a", "shop/b"]
    with pytest.raises(BadAnswerError, match="impossible name: 'Bad//name'"):
        driver.images("Bad//name")
    assert not any("Bad" in line for line in server.lines())


NO_UNICODE = {
    b'{"repositories": ["a", "sur\\ud800"]}': "sur\\ud800",
    b'{"repositories": ["\\udfff/b", "a"]}': "\\udfff/b",
    b'{"repositories": ["caf\xe9", "a"]}': "caf\\udce9",
    b'{"repositories": ["sur\xed\xa0\x80", "a"]}': "sur\\udced\\udca0\\udc80",
}


@pytest.mark.parametrize(("body", "name"), NO_UNICODE.items())
def test_a_name_that_is_no_unicode_is_unreadable_alone(
    opened: Opener, stored: ScriptedRepository, server: Scripted, body: bytes, name: str
) -> None:
    digest = stored.put(an_image("x"), "v1")
    stored.before = lambda asked: Reply(200, body) if asked.path == "/v2/_catalog" else None
    found = take_inventory(opened(server.url), now=datetime.now(UTC), concurrency=2)
    assert [(one.path, [image.digest for image in one.images]) for one in found.repositories()] == [("a", [digest])]
    assert [one.repository for one in found.unreadable] == [name]
    assert "impossible name" in found.unreadable[0].reason


@pytest.mark.parametrize("body", [b'{"repositories": ["a", "sur\\ud800"', b'{"repositories": 7, "x": "\xff"}', b"\xff"])
def test_a_catalog_that_breaks_off_is_none(
    opened: Opener, stored: ScriptedRepository, server: Scripted, body: bytes
) -> None:
    stored.before = lambda asked: Reply(200, body)
    with pytest.raises(BadAnswerError, match="an answer that"):
        list(opened(server.url).repositories())


# Signing in.


class Guarded:
    """Asks for a token in the words of `challenge` unless one that `takes` accepts is shown."""

    def __init__(self, stored: ScriptedRepository, challenge: str, takes: Callable[[str], bool]) -> None:
        self.challenge, self.takes = challenge, takes
        self.tokens = 0
        stored.before = self

    def __call__(self, asked: Asked) -> Reply | None:
        if asked.path == "/token":
            self.tokens += 1
            return document({"access_token": f"{self.tokens}:{' '.join(asked.scopes)}"})
        if self.takes(asked.headers.get("authorization", "")):
            return None
        return Reply(401, b"no", {"Www-Authenticate": self.challenge})


def test_a_token_that_allows_too_little_is_no_loop(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    digest = stored.put(an_image("x"), "v1")
    scope = 'scope="repository:a:pull,push",error="insufficient_scope"'
    guard = Guarded(stored, f'Bearer realm="/token",service="s",{scope}', lambda _: False)
    driver = opened(server.url)
    for number in (1, 1):  # the second time, the token at hand is the one that allows too little
        with pytest.raises(PermissionDeniedError):
            driver.delete("a", image(digest, "v1"), "key")
        assert guard.tokens == number
    assert len(server.lines("DELETE")) == 3


def test_the_registry_says_which_scope(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    digest = stored.put(an_image("x"), "v1")
    wanted = "repository:a:pull,push"
    Guarded(stored, f'Bearer realm="/token",service="s",scope="{wanted}"', lambda shown: wanted in shown)
    driver = opened(server.url)
    assert driver.delete("a", image(digest, "v1"), "key").done
    asked = [one for one in server.asked if one.path == "/token"]
    # What reads was guessed, and the registry asks for the token that is there already.
    assert [one.scopes for one in asked] == [(wanted,), ("repository:a:pull",)]
    assert all(one.query["service"] == "s" for one in asked)
    driver.images("a")
    assert len([one for one in server.asked if one.path == "/token"]) == 2


def test_a_challenge_without_scope(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    stored.put(an_image("x"), "v1")
    Guarded(stored, 'Basic realm="x", Bearer realm="/token"', lambda shown: "repository:a:pull" in shown)
    assert len(opened(server.url).images("a")) == 1
    assert [one.scopes for one in server.asked if one.path == "/token"] == [("repository:a:pull",)]


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_a_token_server_without_tokens(
    opened: Opener, stored: ScriptedRepository, server: Scripted, status: int
) -> None:
    """Its 404 above all is none of an image."""
    digest = stored.put(an_image("x"), "v1")
    stored.before = lambda asked: (
        Reply(status) if asked.path == "/token" else Reply(401, b"", {"Www-Authenticate": 'Bearer realm="/token"'})
    )
    driver = opened(server.url)
    for ask in (driver.clock, lambda: driver.get("a", image(digest)), lambda: driver.delete("a", image(digest), "key")):
        with pytest.raises(SignInError):
            ask()


def test_a_registry_that_wants_both(
    opened: Opener, stored: ScriptedRepository, server: Scripted, tmp_path: Path
) -> None:
    """The password for one address, a token for the others."""
    (tmp_path / "password").write_text("secret")
    credentials = Credentials(username="anna", password=Secret(file=tmp_path / "password"))
    stored.put(an_image("x"), "v1")

    def guard(asked: Asked) -> Reply | None:
        shown = asked.headers.get("authorization", "").partition(" ")[0]
        if asked.path in ("/v2/", "/token"):
            asks = Reply(401, b"", {"Www-Authenticate": 'Basic realm="x"'})
            return document({"token": "t"}) if shown == "Basic" else asks
        return None if shown == "Bearer" else Reply(401, b"", {"Www-Authenticate": 'Bearer realm="/token"'})

    stored.before = guard
    driver = opened(server.url, credentials=credentials)
    for _ in range(2):
        driver.clock()
        assert len(driver.images("a")) == 1


def test_a_password_that_is_no_longer_the_one_refused(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("new")
    user = user_of(Credentials(username="anna", password=Secret(file=tmp_path / "password")), "https://registry.test")
    assert user is not None
    user.refused(f"Basic {base64_of('anna:old')}", Answer(401, {}, b""))
    with pytest.raises(SignInError, match=r"the user name 'anna' or the password in file .* was refused"):
        user.refused(user.sign(), Answer(401, {}, b""))


def test_a_401_that_says_nothing(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    stored.before = lambda _: Reply(401)
    with pytest.raises(SignInError, match="did not say how to sign in"):
        opened(server.url).clock()


def test_no_secret_is_told(
    opened: Opener, stored: ScriptedRepository, server: Scripted, tmp_path: Any, caplog: Any
) -> None:
    """Whatever a server repeats of it."""
    (tmp_path / "password").write_text("hunter2hunter2")
    credentials = Credentials(username="anna", password=Secret(file=tmp_path / "password"))
    caplog.set_level("DEBUG")

    def echo(asked: Asked) -> Reply:
        shown = asked.headers.get("authorization", "")
        if not shown:
            return Reply(401, b"", {"Www-Authenticate": 'Basic realm="x"'})
        return error(400, "NO", f"{shown} is hunter2hunter2 to us")

    stored.before = echo
    driver = opened(server.url, credentials=credentials)
    with pytest.raises(RegistryError, match=r"\*\*\* is \*\*\* to us") as failure:
        driver.clock()
    user = driver._client.sign_ins.all[0].user
    told = f"{failure.value!r} {failure.value} {user!r} {with_defaults(credentials=credentials)}"
    sent = next(one.headers["authorization"] for one in server.asked if "authorization" in one.headers)
    for secret in ("hunter2", sent.removeprefix("Basic ")):
        assert secret not in told + str([vars(record) for record in caplog.records])


@pytest.mark.parametrize("at", range(270, 301, 3))
@pytest.mark.parametrize(("status", "prefix"), [(403, ""), (200, ""), (500, "Basic ")])
def test_no_half_of_a_secret_is_told(
    opened: Opener, stored: ScriptedRepository, server: Scripted, tmp_path: Path, status: int, prefix: str, at: int
) -> None:
    """A message is cut to its 300 letters, and may be cut within what is secret: a token that nobody can recognise."""
    token, password = "Opaque-Kn0wn.To_Nobody", 'hunter2"hunter2'
    (tmp_path / "password").write_text(password)

    def echo(asked: Asked) -> Reply | None:
        if asked.path == "/token":
            return document({"token": token})
        if "authorization" not in asked.headers:
            return Reply(401, b"", {"Www-Authenticate": 'Bearer realm="/token"'})
        if status == 200:
            return Reply(200, b"x" * (at - 250) + token.encode())
        return error(status, "NO", "x" * at + f"{prefix}{token} {password}")

    stored.before = echo
    credentials = Credentials(username="anna", password=Secret(file=tmp_path / "password"))
    with pytest.raises(RegistryError) as failure:
        opened(server.url, credentials=credentials).images("a")
    for secret in (token, password):
        assert secret[:4] not in str(failure.value)


@pytest.mark.parametrize("at", range(270, 301, 3))
def test_no_half_of_a_password_is_told_by_a_token_server(
    opened: Opener, stored: ScriptedRepository, server: Scripted, tmp_path: Path, at: int
) -> None:
    (tmp_path / "password").write_text("hunter2hunter2")

    def echo(asked: Asked) -> Reply | None:
        if asked.path == "/token":
            return error(403, "NO", "x" * at + "hunter2hunter2")
        return Reply(401, b"", {"Www-Authenticate": 'Bearer realm="/token"'})

    stored.before = echo
    credentials = Credentials(username="anna", password=Secret(file=tmp_path / "password"))
    with pytest.raises(RegistryError) as failure:
        opened(server.url, credentials=credentials).images("a")
    assert "hunt" not in str(failure.value)


# Putting back, and blobs.


@pytest.mark.parametrize(("tag", "times"), [("v1", 1), ("", 5)])
def test_what_is_put_by_its_tag_is_put_once(
    opened: Opener, stored: ScriptedRepository, server: Scripted, tag: str, times: int
) -> None:
    """Somebody may have pushed another image there meanwhile."""
    body = an_image("x")
    stored.before = lambda _: error(503, "UNAVAILABLE")
    with pytest.raises(UnavailableError):
        opened(server.url).put("a", Kept(digest_of(body), "x/y", body), tag)
    assert server.lines() == [f"PUT /v2/a/manifests/{tag or digest_of(body)}"] * times


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_blob_from_elsewhere_is_fetched_without_credentials(
    opened: Opener, stored: ScriptedRepository, server: Scripted, code: int
) -> None:
    takes = "repository:a:pull"
    blob = digest_of(b"blob")
    guard = Guarded(stored, f'Bearer realm="/token",scope="{takes}"', lambda shown: takes in shown)

    def storage(asked: Asked) -> Reply:
        assert "authorization" not in asked.headers
        assert asked.headers["range"] == "bytes=0-0"
        return Reply(206, b"b") if asked.query.get("sig") == "a/b" else Reply(403)

    with Scripted(storage) as elsewhere:
        to = {"Location": f"{elsewhere.url}/x?sig=a%2Fb"}
        stored.before = lambda asked: guard(asked) or (Reply(code, b"", to) if "/blobs/" in asked.path else None)
        assert opened(server.url).lost_blobs("a", [blob]) == ()
        assert len(elsewhere.asked) == 1


def test_redirects_at_home_keep_the_credentials_and_end(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    takes = "repository:a:pull"
    guard = Guarded(stored, f'Bearer realm="/token",scope="{takes}"', lambda shown: takes in shown)
    hops = 3

    def hop(asked: Asked) -> Reply | None:
        at = int(asked.query.get("hop", "0"))
        return guard(asked) or (Reply(206, b"b") if at == hops else Reply(307, b"", {"Location": f"?hop={at + 1}"}))

    stored.before = hop
    assert opened(server.url).lost_blobs("a", [digest_of(b"x")]) == ()
    hops = 4
    with pytest.raises(BadAnswerError, match="more than 3 redirects"):
        opened(server.url).lost_blobs("a", [digest_of(b"x")])


@pytest.mark.parametrize(
    ("reply", "lost"),
    [
        pytest.param(Reply(206, b"b"), False, id="a byte"),
        pytest.param(Reply(200, b"blob" * 1000), False, id="all of them"),
        pytest.param(Reply(200, b"blob", cut=True), True, id="none, though told of"),
        pytest.param(Reply(200, b""), True, id="nothing"),
        pytest.param(error(404, "BLOB_UNKNOWN"), True, id="unknown"),
    ],
)
def test_whether_a_blob_is_lost(
    opened: Opener, stored: ScriptedRepository, server: Scripted, reply: Reply, lost: bool
) -> None:
    blob = digest_of(b"blob")
    stored.before = lambda _: reply
    assert opened(server.url).lost_blobs("a", [blob]) == ((blob,) if lost else ())
    if reply.status == 200:
        assert opened(server.url).lost_blobs("a", [digest_of(b"")]) == ()


def test_a_connection_that_breaks_once_loses_no_blob(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    stored.before = lambda _: Reply(206, b"b", cut=len(server.asked) == 1)
    assert opened(server.url).lost_blobs("a", [digest_of(b"blob")]) == ()


def test_a_registry_that_is_somewhere_else(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    stored.before = lambda _: NO_PAGE
    with pytest.raises(NotFoundError, match=rf"no registry answers at {server.url}/v2/$"):
        opened(server.url).clock()
