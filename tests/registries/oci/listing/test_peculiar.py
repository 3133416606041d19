"""Repositories with unusual listings: the images that are found, and those that stay unreadable."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from msgspec import UNSET

from policies.image import Image
from policies.subjects import subjects_in
from tests.registries.oci.conftest import Opener
from tests.registries.oci.scripted import (
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
from tests.support.oci.manifests import IMAGE, INDEX, digest_of
from worker.registries.errors import (
    BadResponseError,
    PermissionDeniedError,
)
from worker.registries.interface import Manifest


def image(digest: str, *tags: str) -> Image:
    return Image(digest=digest, tags=tags)


def test_a_listed_tag_without_a_manifest_leaves_the_repository_unreadable(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    """It may have been an index over anything: storage that is sick for an hour, or a broken link."""
    for number in range(4):
        stored.put(an_image(str(number)), f"v{number}")
    for tag in ("v2", "v3"):
        del stored.manifests[stored.tags[tag]]
    with pytest.raises(BadResponseError, match=r"GET a:v2: HTTP 404: the tag v2 \(and 1 more\) is listed, but"):
        opened(server.url).images("a")
    assert server.lines().count("GET /v2/a/tags/list") == 4  # two lists, each asked on once


@pytest.mark.parametrize("meanwhile", ["deleted", "pushed again"])
def test_accepts_a_tag_that_is_deleted_or_moved_while_it_is_read(
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
    (image,) = opened(server.url).images("a")
    assert (image.digest, image.tags) == (kept, ("v1",) if meanwhile == "deleted" else ("v1", "v2"))


def test_lists_children_that_are_missing_unreadable_or_of_an_unknown_type(
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
    images = {image.digest: image.children for image in opened(server.url).images("a")}
    assert images == {
        index: tuple(map(digest_of, (good, bad, missing, strange))),
        digest_of(good): UNSET,
        digest_of(bad): None,
        digest_of(strange): None,
    }


def test_reads_a_build_cache_whose_index_lists_blobs(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    """A layer and a config by their types; an entry of an unknown type is a blob if the registry has such a blob."""
    types = [
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.buildkit.cacheconfig.v0",
        "application/x-y",
    ]
    index = stored.put(an_index(b"a layer", b"{}", b"strange", types=types), "cache", media_type=INDEX)
    stored.before = lambda asked: Reply(200, b"") if asked.path == f"/v2/a/blobs/{digest_of(b'strange')}" else None
    driver = opened(server.url)
    (read,) = driver.images("a")
    assert (read.digest, read.children, read.compressed_size) == (index, (), len(b"a layer" + b"{}" + b"strange"))
    manifests = {line.rpartition("/")[2] for line in server.lines() if "/manifests/" in line}
    assert manifests == {"cache", index}
    # Pushed since the plan, it needs no image.
    digest = stored.put(an_image("x"), "v1")
    assert driver.get("a", image(digest, "v1"), {"v1": digest}).tags == ("v1",)


def test_reads_a_cached_manifest_of_an_unknown_type_again(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    body = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    digest = stored.put(body, "v1", media_type="application/json")
    remembered = {digest: Manifest(digest, "application/json", None)}
    (image,) = opened(server.url, manifests=Remembering(remembered)).images("a")
    assert image.children == ()
    assert remembered[digest].children == ()


class Remembering:
    def __init__(self, held: dict[str, Manifest]) -> None:
        self.held = held

    def load(self, digests: Iterable[str]) -> Mapping[str, Manifest]:
        return {digest: self.held[digest] for digest in digests if digest in self.held}

    def save(self, manifests: Mapping[str, Manifest]) -> None:
        self.held |= manifests


def test_reads_the_listing_of_referrers(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
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
    images = {image.digest: image.subject for image in opened(server.url).images("a")}
    assert images == {subject: UNSET, first: subject, second: subject, of_first: first}


def test_a_list_of_referrers(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    """An index tagged by its subject's digest keeps its children; untagged artifacts in it are about that subject."""
    subject = stored.put(an_image("subject"), "v1")
    about = {"subject": {"mediaType": IMAGE, "digest": subject, "size": 1}}
    names_it, tagged = an_image("names it", **about), an_image("has a tag", **about)
    artifact, child = (an_image(text, artifactType="application/vnd.sbom") for text in ("artifact", "child"))
    for body in (names_it, artifact, child):
        stored.put(body)
    stored.put(tagged, "v2")
    parent = stored.put(an_index(child), "v3", media_type=INDEX)
    listing = stored.put(an_index(names_it, tagged, artifact, child), subject.replace(":", "-"), media_type=INDEX)
    images = {image.digest: image for image in opened(server.url).images("a")}
    assert (images[listing].subject, images[parent].children) == (UNSET, (digest_of(child),))
    assert images[listing].children == tuple(map(digest_of, (names_it, tagged, artifact, child)))
    assert {images[digest_of(image)].subject for image in (names_it, tagged)} == {subject}
    assert {images[digest_of(item)].subject for item in (artifact, child)} == {UNSET}  # an index lists one of them
    assert listing not in subjects_in(images.values())
    del stored.tags["v3"]
    again = {image.digest: image for image in opened(server.url).images("a")}
    assert {again[digest_of(image)].subject for image in (names_it, tagged, artifact, child)} == {subject}
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
    images = {image.digest: image for image in opened(server.url).images("a")}
    assert (images[index].children, images[index].subject) == (tuple(map(digest_of, bodies)), UNSET)
    assert {images[digest_of(body)].subject for body in bodies} == {UNSET}
    assert subjects_in(images.values()) == {}


@pytest.mark.parametrize(
    ("reply", "size"), [(Reply(404), 3), (Reply(200), 10), (Reply(307, b"", {"Location": "/x"}), 10)]
)
def test_foreign_layers_do_not_count_as_bytes(
    opened: Opener, stored: ScriptedRepository, server: Scripted, reply: Reply, size: int
) -> None:
    layers = [{"digest": f"sha256:{letter * 64}", "size": size} for letter, size in (("a", 3), ("b", 7))]
    layers[1]["urls"] = ["https://example.com/b"]
    stored.put(an_image("x", layers=layers), "v1")
    stored.before = lambda asked: reply if "/blobs/" in asked.path else None
    (image,) = opened(server.url).images("a")
    assert image.compressed_size == size
    assert server.lines()[-1] == f"HEAD /v2/a/blobs/sha256:{'b' * 64}"


def test_checks_foreign_layers_in_each_repository(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    """A manifest is remembered for the whole registry; whether a layer is there is a matter of each repository."""
    layer = {"digest": f"sha256:{'b' * 64}", "size": 7, "urls": ["https://example.com/b"]}
    stored.put(an_image("x", layers=[layer]), "v1")
    memory = Memory()
    sizes = []
    for reply in (Reply(404), Reply(200), Reply(404)):
        stored.before = lambda asked, reply=reply: reply if "/blobs/" in asked.path else None  # type: ignore[misc]  # a default is no parameter of a question's answer
        (image,) = opened(server.url, manifests=memory).images("a")
        sizes.append(image.compressed_size)
    assert sizes == [None, 7, None]


def test_fails_if_no_manifest_may_be_read(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    stored.put(an_image("x"), "v1")
    stored.before = lambda asked: (
        error(403, "DENIED") if asked.method == "GET" and "/manifests/" in asked.path else None
    )
    with pytest.raises(PermissionDeniedError):
        opened(server.url).images("a")


class Memory:
    """A cache of manifests in a dictionary."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}

    def load(self, digests: Any) -> Mapping[str, Any]:
        return {digest: self.facts[digest] for digest in digests if digest in self.facts}

    def save(self, manifests: Mapping[str, Any]) -> None:
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
        (image,) = driver.images("a")
        read = [request.path for request in server.asked[before:] if request.method == "GET"]
        assert len([path for path in read if "/manifests/" in path or "/blobs/" in path]) == gets
        assert (image.created_at is not None) is (push_time == "image")
        assert image.compressed_size == len(config) + 1


def test_rejects_a_config_with_another_digest(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    config = b"{}"
    kind = "application/vnd.oci.image.config.v1+json"
    stored.put(an_image("x", config={"digest": digest_of(config), "size": 2, "mediaType": kind}), "v1")
    stored.before = lambda asked: (
        Reply(200, b'{"created": "2020-01-01T00:00:00Z"}') if "/blobs/" in asked.path else None
    )
    (image,) = opened(server.url, push_time="image").images("a")
    assert (image.created_at, image.labels, image.children) == (None, None, UNSET)
