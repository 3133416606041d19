"""Decisions by holds and evidence of use, for images, indexes, their children and referrers."""

import pytest

from policies.context import Evidence, PlanContext
from policies.holds import Hold, Holds
from policies.image import Blob
from tests.support.builders import DAY, NOW, digest, image, index, policy, repository
from tests.support.planning import make_plan

ALL = policy({"delete": {"all": True}})
NO_TAGS = policy({"delete": {"untagged": True}})


def kept(images, plan_context, rules=ALL):
    """Cause and reason of each kept image, by name."""
    plan = make_plan([repository("shop/api", *images)], rules, NOW, plan_context=plan_context)
    names = {row.digest: row.id.removeprefix("crp") for row in images}
    return {
        names[decision.digest]: (decision.cause, decision.reason)
        for decision in plan.decisions
        if decision.verdict == "keep"
    }


ONE = Hold(kind="tag", repository="shop/api", value="pr-1", who="anna", reason="trial")


@pytest.mark.parametrize(
    ("hold", "names"),
    [
        pytest.param(ONE, {"a"}, id="a tag, as it is now"),
        pytest.param(
            Hold(kind="tag", repository="shop/api", value="gone", digest=digest("b")), {"b"}, id="what it was"
        ),
        pytest.param(Hold(kind="tag", repository="shop/web", value="pr-1", digest=digest("a")), set(), id="elsewhere"),
        pytest.param(Hold(kind="digest", repository="shop/api", value=digest("b")), {"b"}, id="a digest"),
        pytest.param(Hold(kind="digest", value=digest("b")), {"b"}, id="a digest anywhere"),
        pytest.param(Hold(kind="image", value="crpb"), {"b"}, id="an id"),
        pytest.param(Hold(kind="repository", value="shop/*"), {"a", "b"}, id="a glob"),
        pytest.param(Hold(kind="repository", value="shop"), set(), id="a folder is no repository"),
    ],
)
def test_a_hold_keeps_the_images_that_it_names(hold, names):
    kept_images = kept([image("a", "pr-1"), image("b")], PlanContext(holds=Holds((hold,))))
    assert set(kept_images) == names
    assert {cause for cause, _ in kept_images.values()} <= {"held"}


def test_a_held_index_keeps_its_children_and_its_signature():
    images = [index("i", "v1", lists=["c"]), image("c"), image("s", subject=digest("i"))]
    kept_images = kept(images, PlanContext(holds=Holds((Hold(kind="image", value="crpi"),))))
    assert {name: cause for name, (cause, _) in kept_images.items()} == {"i": "held", "c": "needed", "s": "needed"}


@pytest.mark.parametrize(
    "hold",
    [
        Hold(kind="image", value="crpc"),
        Hold(kind="digest", value=digest("c")),
        Hold(kind="tag", repository="shop/api", value="arm64"),
    ],
)
def test_a_held_child_keeps_its_indexes_however_deep(hold):
    images = [
        index("outer", "v1", lists=["inner"]), index("inner", lists=["c", "d"]), image("c", "arm64"), image("d"),
        index("other", "v2", lists=["d"]),
    ]  # fmt: skip
    kept_images = kept(images, PlanContext(holds=Holds((hold,))))
    lists = ("held", f"lists {digest('c')}, held")
    assert kept_images["c"] == ("held", "held")
    assert kept_images["outer"] == kept_images["inner"] == lists
    assert {name: cause for name, (cause, _) in kept_images.items()} == {
        "c": "held", "inner": "held", "outer": "held", "d": "needed"
    }  # fmt: skip


def test_the_reason_of_a_hold_has_person_end_and_cause():
    until = Hold(kind="image", value="crpa", who="anna", until=NOW + DAY, reason="trial")
    assert kept([image("a")], PlanContext(holds=Holds((until,))))["a"] == (
        "held",
        "held by anna until 2026-11-25T03:00:00Z: trial",
    )


@pytest.mark.parametrize(
    ("evidence", "reasons"),
    [
        pytest.param(Evidence({digest("c"): "pod w"}), {"c": "in use by pod w"}, id="a digest"),
        pytest.param(Evidence({digest("config"): "pod w"}), {"c": "in use by pod w"}, id="the digest of its config"),
        pytest.param(Evidence(tags={("shop/api", "pr-1"): "pod w"}), {"t": "in use by pod w"}, id="a tag"),
        pytest.param(Evidence(tags={("shop/web", "pr-1"): "pod w"}), {}, id="a tag elsewhere"),
        pytest.param(Evidence({digest("nowhere"): "pod w"}), {}, id="what is not here"),
    ],
)
def test_keeps_images_in_use(evidence, reasons):
    images = [image("c", config=Blob(digest("config"), 5)), image("t", "pr-1"), image("o")]
    kept_images = kept(images, PlanContext(evidence=evidence))
    assert {name: reason for name, (_, reason) in kept_images.items()} == reasons
    assert {cause for cause, _ in kept_images.values()} <= {"in_use"}


def test_a_child_in_use_keeps_its_indexes_and_their_other_children():
    images = [
        index("outer", "v1", lists=["inner", "other"]),
        index("inner", lists=["c", "d"]),
        image("c"),
        image("d"),
        image("other"),
        image("alone"),
        image("signature", subject=digest("outer")),
    ]
    kept_images = kept(images, PlanContext(evidence=Evidence({digest("c"): "pod w"})))
    assert {name: cause for name, (cause, _) in kept_images.items()} == {
        "c": "in_use", "inner": "in_use", "outer": "in_use", "d": "needed", "other": "needed", "signature": "needed",
    }  # fmt: skip
    assert kept_images["outer"][1] == f"lists {digest('c')}, in use by pod w"


def test_indexes_in_a_circle_are_decided():
    images = [index("one", lists=["two"]), index("two", lists=["one", "c"]), image("c")]
    assert set(kept(images, PlanContext(evidence=Evidence({digest("c"): "pod w"})))) == {"one", "two", "c"}


def test_no_hold_and_no_evidence_change_nothing():
    images = [image("a", "pr-1"), image("b")]
    assert kept(images, PlanContext(), NO_TAGS) == {"a": ("no_rule", "no rule selects it")}
