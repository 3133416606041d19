"""The subjects of images, above all by lists of referrers: the tag alone does not make an index a list."""

from typing import Any

import pytest

from policies.graph import build_graph
from policies.image import Image
from policies.plan import RepositoryPlan
from policies.subjects import FallbackList, fallback_list, listed_subject, subjects_in
from tests.support.builders import NOW, digest, image, index, policy, repository, signature
from tests.support.planning import composed, make_plan

A = f"sha256:{'a' * 64}"
EVERYTHING = {"name": "everything", "delete": {"all": True}}
TAGGED = {"name": "tagged", "keep": {"tagged": True}}
SBOM = "application/vnd.oci.artifact.manifest.v1+json"


@pytest.mark.parametrize(
    ("tags", "subject"),
    [
        ((f"sha256-{'a' * 64}",), A),
        ((f"sha512-{'a' * 64}",), f"sha512:{'a' * 64}"),
        ((f"sha256-{'a' * 64}.sig",), None),
        ((f"sha256-{'a' * 63}",), None),
        ((f"sha256-{'A' * 64}",), None),
        ((f"sha512-{'a' * 128}",), None),
        ((f"sha256-{'a' * 64}", f"sha256-{'b' * 64}"), None),
        ((f"sha256-{'a' * 64}", "latest"), None),
        (("latest",), None),
        ((), None),
    ],
)
def test_recognizes_the_tag_of_a_list_of_referrers(tags: tuple[str, ...], subject: str | None) -> None:
    assert listed_subject(tags) == subject


def list_of(of: object, *lists: object, **facts: Any) -> Image:
    """An index with the tag of a list of the referrers of an image."""
    return index(f"list of {of}", digest(of).replace(":", "-"), lists=lists, **facts)


REFERS = image("refers", subject=digest(1))
OTHERS = {
    "another subject": image(9, subject=digest(2)),
    "an image": image(9),
    "an image of a known type": image(9, media_type="application/vnd.oci.image.manifest.v1+json"),
    "an index": index(9, lists=[]),
    "a signature of another": signature(2),
}


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        pytest.param([REFERS], FallbackList(digest(1), certain=True), id="a subject"),
        pytest.param([REFERS, signature(1)], FallbackList(digest(1), certain=True), id="cosign's tag"),
        pytest.param([REFERS, image(9, media_type=SBOM)], FallbackList(digest(1), certain=True), id="no image"),
        pytest.param([], FallbackList(digest(1), certain=True), id="nothing"),
        pytest.param([index(9, lists=[], subject=digest(1))], FallbackList(digest(1), certain=True), id="an index"),
        pytest.param([REFERS, image(9, subject=None)], FallbackList(digest(1), certain=False), id="not reported"),
        pytest.param([REFERS, index(9, lists=None)], FallbackList(digest(1), certain=False), id="unreadable"),
        *[pytest.param([REFERS, other], None, id=name) for name, other in OTHERS.items()],
    ],
)
def test_an_index_is_a_list_only_if_all_its_entries_have_its_subject(
    listed: list[Image], expected: FallbackList | None
) -> None:
    its = index("list", digest(1).replace(":", "-"), lists=[])
    its = Image(digest=its.digest, tags=its.tags, children=tuple(row.digest for row in listed))
    by_digest = {row.digest: row for row in (its, *listed)}
    assert fallback_list(its, by_digest) == expected
    for missing in listed:  # a missing entry proves nothing
        rest = {row: image for row, image in by_digest.items() if row != missing.digest}
        assert (fallback_list(its, rest) or FallbackList("", certain=False)).certain is False


def test_a_tag_may_have_the_start_of_a_digest() -> None:
    whole = f"sha512:{'ab' * 64}"
    its = Image(digest=A, tags=(f"sha512-{'ab' * 32}",), children=(digest(9),))
    named = {digest(9): image(9, subject=whole)}
    assert fallback_list(its, named) == FallbackList(whole, certain=True)
    assert fallback_list(its, {digest(9): image(9, media_type=SBOM)}) is None  # nothing says the whole digest


def test_entries_of_a_list_have_the_subject_of_the_list() -> None:
    artifact = image(9, media_type=SBOM)
    subjects = subjects_in([image(1, "v1"), REFERS, artifact, list_of(1, "refers", 9)])
    assert subjects == {name: (digest(1),) for name in (REFERS.digest, artifact.digest, digest("list of 1"))}


def decided(rules: list[dict[str, Any]], *images: Image) -> RepositoryPlan:
    whole, parsed = repository("a", *images), policy(*rules)
    return composed([whole], parsed, NOW)[1][whole.path]


def waves(plan: RepositoryPlan) -> dict[str, int]:
    """The deleted images with their waves."""
    return {deletion.image.id.removeprefix("crp"): deletion.wave for deletion in plan.deletions}


OLD = {"name": "old", "delete": {"tags": ["old*"]}}


def test_deletes_a_list_after_its_subject_and_before_its_entries() -> None:
    images = image(1, "old"), REFERS, image(9, media_type=SBOM), list_of(1, "refers", 9)
    plan = decided([OLD], *images)
    assert waves(plan) == {"1": 0, "list of 1": 1, "refers": 2, "9": 2}
    assert {decision.cause for decision in plan.decisions if decision.digest != digest(1)} == {"follows"}


def test_keeps_a_list_with_its_subject_and_does_not_count_it() -> None:
    images = image(1, "v1", days=3), image(2, "v2", days=2), list_of(1, "refers", days=0), REFERS
    plan = decided([{"name": "two", "keep": {"newest": 2}}, EVERYTHING], *images)
    assert waves(plan) == {}
    assert {decision.id: decision.cause for decision in plan.decisions}["crplist of 1"] == "needed"


def test_an_index_of_images_keeps_its_children_whatever_it_is_called() -> None:
    """The tag is the hash of the image's source, or of an existing image."""
    for of in ("inputs", 1):
        images = image(1, "old"), image(8), image(9), list_of(of, 8, 9, days=1)
        assert waves(decided([TAGGED, EVERYTHING], *images[1:])) == {}
        assert waves(decided([OLD], *images)) == {"1": 0}
        assert [row.digest for row in build_graph(repository("a", *images)).rankable(frozenset())] == [
            digest(f"list of {of}"),
            digest(1),
        ]


def test_keeps_a_possible_list_with_its_subject_but_does_not_delete_it_with_it() -> None:
    unread = image(9, subject=None)
    old = {"name": "lists", "delete": {"any_tag": ["sha256-*"]}}
    assert waves(decided([old], image(1, "v1"), list_of(1, 9), unread)) == {}
    assert waves(decided([OLD], image(1, "old"), list_of(1, 9), unread)) == {"1": 0}
    assert waves(decided([OLD, old], image(1, "old"), list_of(1, 9), unread)) == {"1": 0, "list of 1": 1, "9": 2}


def test_keeps_a_list_of_a_foreign_subject_and_treats_an_orphan_as_ordinary() -> None:
    lists = repository("signatures", list_of(1, "refers"), REFERS)
    there = repository("shop/api", image(1, "v1"))
    kept = make_plan([lists, there], policy(EVERYTHING, {"name": "v1", "keep": {"tags": ["v1"]}}), NOW)
    assert {decision.verdict for decision in kept.decisions} == {"keep"}
    gone = make_plan([lists], policy(EVERYTHING), NOW)
    assert {decision.verdict for decision in gone.decisions} == {"delete"}
    one_of_two = make_plan([lists], policy(EVERYTHING, TAGGED), NOW)
    assert {decision.cause for decision in one_of_two.decisions} == {"kept_by_rule", "needed"}
