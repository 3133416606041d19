"""Manifests are read once per digest and cached; their facts are added to their images."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from msgspec import UNSET

from policies.image import Blob
from tests.support.builders import digest, image, index
from worker.registries.docker.manifest_cache import (
    BATCH,
    read_through,
    read_until,
    resolved,
    size_of,
    unreported,
    with_known_subjects,
)
from worker.registries.errors import NotFoundError, RegistryError, SignInError, TooLateError, UnavailableError
from worker.registries.interface import Manifest


def test_the_size_of_an_impossibly_large_image_is_unknown() -> None:
    layers = [Blob(digest=f"sha256:{number:064x}", size=2**50) for number in range(20_000)]
    assert size_of(None, layers[:1]) == 2**50
    assert size_of(None, layers) is None


class Memory:
    """A cache in a dict that records each save."""

    def __init__(self, *known: Manifest) -> None:
        self.manifests = {manifest.digest: manifest for manifest in known}
        self.saved: list[list[str]] = []

    def load(self, digests: Iterable[str]) -> Mapping[str, Manifest]:
        return {digest: self.manifests[digest] for digest in digests if digest in self.manifests}

    def save(self, manifests: Mapping[str, Manifest]) -> None:
        self.saved.append(list(manifests))
        self.manifests |= manifests


class Reader:
    """Answers with a manifest for each digest, or with an error that a test wants."""

    def __init__(self, **errors: RegistryError) -> None:
        self.errors = {digest(name): error for name, error in errors.items()}
        self.asked: list[list[str]] = []

    def __call__(self, digests: Sequence[str]) -> Mapping[str, Manifest | RegistryError]:
        self.asked.append(list(digests))
        return {digest: self.errors.get(digest) or manifest(digest) for digest in digests}


def manifest(of: str, **facts: Any) -> Manifest:
    return Manifest(digest=of, media_type="x/y", children=None, **facts)


A, B, C = map(digest, "abc")


class TestReadThrough:
    def test_does_not_read_a_cached_manifest_again(self) -> None:
        memory, reader = Memory(manifest(A)), Reader()
        assert read_through(memory, [A, B, B], reader).keys() == {A, B}
        assert (reader.asked, memory.saved) == ([[B]], [[B]])
        assert read_through(memory, [A, B], reader).keys() == {A, B}
        assert reader.asked == [[B]]

    def test_leaves_out_errors_and_does_not_cache_them(self) -> None:
        memory, reader = Memory(), Reader(a=NotFoundError("gone"))
        assert read_through(memory, [A, B], reader).keys() == {B}
        assert memory.manifests.keys() == {B}

    def test_reads_an_incomplete_cached_manifest_again(self) -> None:
        memory, reader = Memory(manifest(A), manifest(B, config_read=True)), Reader()
        manifests = read_through(memory, [A, B], reader, lambda manifest: manifest.config_read)
        assert (reader.asked, manifests.keys()) == ([[A]], {A, B})

    def test_reads_nothing_without_digests(self) -> None:
        memory, reader = Memory(), Reader()
        assert read_through(memory, [], reader) == {}
        assert (reader.asked, memory.saved) == ([], [])


class TestReadInTime:
    def test_reads_the_first_manifest_alone_and_the_others_in_batches(self) -> None:
        digests = [digest(number) for number in range(BATCH + 3)]
        memory, reader = Memory(), Reader()
        manifests, refusal = read_until(memory, digests, reader, float("inf"))
        assert (list(manifests), refusal) == (digests, None)
        assert [len(digests) for digests in reader.asked] == [1, BATCH, 2]
        assert memory.saved == reader.asked

    @pytest.mark.parametrize("error", [SignInError("no"), UnavailableError("no answer")])
    def test_a_systemic_error_ends_the_reading(self, error: RegistryError) -> None:
        memory, reader = Memory(), Reader(a=error)
        assert read_until(memory, [A, B, C], reader, float("inf")) == ({}, error)
        assert reader.asked == [[A]]

    def test_another_refusal_holds_up_no_other(self) -> None:
        gone = NotFoundError("gone")
        manifests, refusal = read_until(Memory(), [A, B, C], Reader(a=gone), float("inf"))
        assert (manifests.keys(), refusal) == ({B, C}, gone)

    def test_reads_nothing_more_after_the_deadline(self) -> None:
        reader = Reader()
        assert read_until(Memory(manifest(A)), [A, B], reader, time.monotonic() - 1) == ({}, None)
        assert reader.asked == []

    def test_a_reached_deadline_is_not_reported_as_an_error(self) -> None:
        manifests, refusal = read_until(Memory(), [A, B], Reader(a=TooLateError("too late")), float("inf"))
        assert (manifests.keys(), refusal) == ({B}, None)


def test_only_untagged_images_without_a_reported_subject_are_unreported() -> None:
    images = [image("a", subject=None), image("b", "v1", subject=None), image("c"), image("d", subject=A)]
    assert unreported(images) == [A]


def test_adds_a_cached_subject_to_its_image() -> None:
    memory = Memory(manifest(A, subject=C), manifest(B))
    reader = Reader()
    images = [image("a", subject=None), image("b", subject=None), image("c", subject=None)]
    listed = with_known_subjects(memory, images, reader)
    assert [image.subject for image in listed] == [C, UNSET, None]
    assert reader.asked == []


def test_reads_the_entries_of_a_list_of_referrers() -> None:
    tag = f"sha256-{C.removeprefix('sha256:')}"
    images = [index("list", tag, lists=["a"]), image("a", subject=None), image("b", subject=None)]
    reader = Reader()
    listed = {image.digest: image.subject for image in with_known_subjects(Memory(), images, reader)}
    assert reader.asked == [[A]]
    assert (listed[A], listed[B]) == (UNSET, None)


@pytest.mark.parametrize(
    ("config", "layers", "size"),
    [
        (None, [], None),
        (Blob(A, 5), [], 5),
        (Blob(A, 5), [Blob(B, 7), Blob(B, 7)], 12),
        (Blob(A, 5), [Blob(A, 5)], 5),
        (None, [Blob(A, 0)], 0),
    ],
)
def test_an_image_is_as_large_as_its_blobs_each_once(config: Blob | None, layers: list[Blob], size: int) -> None:
    assert size_of(config, layers) == size


def test_adds_children_and_subject_to_an_image() -> None:
    said = Manifest(digest=A, media_type="x/index", children=(B,), subject=C)
    read = resolved(image("a", "v1"), said)
    assert (read.children, read.subject, read.media_type, read.tags) == ((B,), C, "x/index", ("v1",))
    plain = resolved(image("a"), manifest(A))
    assert (plain.children, plain.subject) == (UNSET, UNSET)


def test_an_image_whose_manifest_was_not_read_may_list_anything() -> None:
    assert resolved(image("a"), None).children is None
