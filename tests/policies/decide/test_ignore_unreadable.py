"""An unreadable image that a person ignores: it is kept, and the rules decide about the images that it may list."""

import pytest

from policies.context import PlanContext
from policies.image import Image
from tests.support.builders import NOW, digest, image, index, policy, repository
from tests.support.planning import make_plan

EVERYTHING = {"name": "all", "delete": {"all": True}}


def verdicts(*images: Image, rule: dict = EVERYTHING, ignored: str = "ab") -> dict[str, tuple[str, str, str]]:
    plan_context = PlanContext(ignore_unreadable=frozenset(map(digest, ignored)))
    plan = make_plan([repository("shop/api", *images)], policy(rule), NOW, plan_context=plan_context)
    return {decision.digest: (decision.verdict, decision.cause, decision.reason) for decision in plan.decisions}


def test_an_ignored_index_is_kept_and_keeps_no_other_image() -> None:
    made = verdicts(index("a", "v1", lists=None), image("x", "pr-1"), image("y"))
    assert made[digest("a")][:2] == ("keep", "unreadable")
    assert "ignore_unreadable names it" in made[digest("a")][2]
    assert {made[digest(name)][0] for name in "xy"} == {"delete"}


def test_another_unreadable_image_still_keeps_its_repository() -> None:
    made = verdicts(index("a", lists=None), index("z", lists=None), image("x"))
    assert {cause for _, cause, _ in made.values()} == {"unreadable"}
    assert "may list it" in made[digest("x")][2]
    assert "ignore_unreadable names it" in made[digest("a")][2]


def test_an_ignored_index_that_is_readable_again_keeps_its_children() -> None:
    made = verdicts(index("a", "pr-1", lists="x"), image("x"), image("y", "pr-2"))
    assert made[digest("a")][:2] == ("keep", "unreadable")
    assert "ignore_unreadable names it: it is kept, although it can be read now" in made[digest("a")][2]
    assert made[digest("x")][:2] == ("keep", "needed")
    assert made[digest("y")][0] == "delete"


def test_an_ignored_index_still_keeps_its_subject_and_its_referrers() -> None:
    made = verdicts(index("a", lists=None), image("x", subject=digest("a")))
    assert made[digest("x")][:2] == ("keep", "needed")


@pytest.mark.parametrize("per", ["repository", "registry"])
@pytest.mark.parametrize("lists", [None, ()], ids=["unreadable", "readable now"])
def test_an_ignored_index_is_not_counted(per: str, lists: tuple[str, ...] | None) -> None:
    rule = {"name": "beyond", "delete": {"beyond_newest": 1, "per": per}}
    made = verdicts(index("a", lists=lists, days=1), image("x", days=2), image("y", days=3), rule=rule)
    assert [made[digest(name)][0] for name in "axy"] == ["keep", "keep", "delete"]
