"""Which hold is on which image, until when, and the sentence that says so."""

import pytest

from policies.holds import Hold, Holds
from tests.support.builders import DAY, NOW, digest, image, index


def test_a_hold_ends_at_its_instant():
    holds = Holds((Hold(kind="image", value="x", until=NOW), Hold(kind="image", value="y", until=NOW + DAY)))
    assert [hold.value for hold in holds.at(NOW).holds] == ["y"]


A, B = image("a", "v1", "pr-1"), image("b")


@pytest.mark.parametrize(
    ("hold", "names"),
    [
        pytest.param(Hold(kind="tag", repository="shop/api", value="v1"), "a", id="a tag that it carries"),
        pytest.param(Hold(kind="tag", repository="shop/api", value="v1", digest=digest("b")), "ab", id="then and now"),
        pytest.param(Hold(kind="tag", repository="shop/web", value="v1"), "", id="the tag of another repository"),
        pytest.param(Hold(kind="tag", repository="shop/api", value="v"), "", id="a part of a tag"),
        pytest.param(Hold(kind="digest", value=digest("a")), "a", id="a digest, wherever it is"),
        pytest.param(Hold(kind="digest", repository="shop/web", value=digest("a")), "", id="a digest elsewhere"),
        pytest.param(Hold(kind="image", value="crpb"), "b", id="an id"),
        pytest.param(
            Hold(kind="image", value="crpold", digest=digest("b")), "b", id="an id that now belongs to another image"
        ),
        pytest.param(Hold(kind="image", value="shop/api"), "ab", id="a path that looks like an id"),
        pytest.param(Hold(kind="image", value="shop"), "", id="a folder is no id"),
    ],
)
def test_a_hold_keeps_the_images_that_it_names(hold, names):
    assert "".join(name for name, row in [("a", A), ("b", B)] if hold.on("shop/api", row)) == names
    assert set(Holds((hold,)).on("shop/api", [A, B])) == {digest(name) for name in names}


@pytest.mark.parametrize(("glob", "held"), [("shop/*", True), ("**", True), ("shop/api", True), ("shop", False)])
def test_a_whole_repository_is_held_by_a_glob(glob, held):
    holds = Holds((Hold(kind="repository", value=glob),))
    assert set(holds.on("shop/api", [A, B])) == ({A.digest, B.digest} if held else set())


def test_a_hold_on_the_image_itself_is_named_before_one_on_its_repository():
    whole, own = Hold(kind="repository", value="**"), Hold(kind="image", value="crpa")
    assert Holds((whole, own)).on("shop/api", [A, B]) == {A.digest: own, B.digest: whole}


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({}, "held"),
        ({"who": "anna"}, "held by anna"),
        ({"until": NOW}, "held until 2026-11-24T03:00:00Z"),
        ({"reason": "trial"}, "held: trial"),
        ({"who": "anna", "until": NOW, "reason": "trial"}, "held by anna until 2026-11-24T03:00:00Z: trial"),
    ],
)
def test_the_reason_of_a_hold_has_person_end_and_cause(facts, sentence):
    assert Hold(kind="image", value="x", **facts).sentence() == sentence


def test_an_index_of_a_held_image_is_held():
    images = [index("outer", lists=["inner"]), index("inner", lists=["b"]), index("other", lists=["a"]), A, B]
    reasons = Holds((Hold(kind="image", value="crpb"),)).reasons("shop/api", images)
    lists = f"lists {digest('b')}, held"
    assert reasons == {digest("b"): "held", digest("inner"): lists, digest("outer"): lists}


def test_without_holds_no_image_is_held():
    assert Holds().on("shop/api", [A]) == Holds().reasons("shop/api", [A]) == {}
    assert Holds((Hold(kind="image", value="crpa", until=NOW),)).at(NOW + DAY).on("shop/api", [A]) == {}
