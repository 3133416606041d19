"""The answers of rules about images: yes, no or unknown, and the images that a count includes."""

from typing import Any

import pytest

from policies.conditions import ConditionContext
from policies.image import Image
from policies.rules import Newest, RuleMatches, newest_first, ranks_before
from tests.support.builders import DAY, NOW, digest, image, index, policy, repository, signature
from tests.support.planning import make_plan

EVERYTHING = {"name": "everything", "delete": {"all": True}}


@pytest.mark.parametrize(
    ("conditions", "of", "answer"),
    [
        pytest.param({"older_than": "7d", "larger_than": "10B"}, image(1), "yes", id="yes and yes"),
        pytest.param({"older_than": "7d", "larger_than": "1MB"}, image(1), "no", id="yes and no"),
        pytest.param({"older_than": "7d", "larger_than": "10B"}, image(1, days=None), "unknown", id="unknown and yes"),
        pytest.param({"older_than": "7d", "larger_than": "10B"}, image(1, size=None), "unknown", id="yes and unknown"),
        pytest.param({"older_than": "7d", "larger_than": "1MB"}, image(1, days=None), "no", id="unknown and no"),
        pytest.param({"older_than": "90d", "larger_than": "1B"}, image(1, size=None), "no", id="no and unknown"),
        pytest.param(
            {"older_than": "7d", "larger_than": "1B"}, image(1, days=None, size=None), "unknown", id="both unknown"
        ),
    ],
)
@pytest.mark.parametrize("kind", ["delete", "keep"])
def test_all_conditions_must_hold(kind: str, conditions: dict[str, Any], of: Image, answer: str) -> None:
    rule = policy({kind: conditions}).rules[0]
    expected = RuleMatches([of] if answer == "yes" else [], [of] if answer == "unknown" else [])
    assert rule.match([of], ConditionContext(NOW)) == expected


A, B, C = sorted([digest(1), digest(2), digest(3)])
TODAY, YESTERDAY = NOW, NOW - DAY


def test_newer_images_rank_first_and_then_lower_digests() -> None:
    assert ranks_before((TODAY, B), (YESTERDAY, A))
    assert ranks_before((TODAY, A), (TODAY, B))
    assert not ranks_before((TODAY, B), (TODAY, A))
    assert not ranks_before((TODAY, A), (TODAY, A))
    assert newest_first([(YESTERDAY, A), (TODAY, C), (TODAY, B)]) == [(TODAY, B), (TODAY, C), (YESTERDAY, A)]


def test_counts_a_digest_once_at_its_newest_time() -> None:
    places = [(TODAY, B), (YESTERDAY, B), (YESTERDAY, C)]
    assert Newest.of(1, places) == Newest(1, frozenset([B]), (TODAY, B))
    assert Newest.of(2, [(TODAY, A), (TODAY, B), (YESTERDAY, B)]) == Newest(2, frozenset([A, B]), (TODAY, B))
    assert Newest.of(3, places) == Newest(3, frozenset([B, C]), (YESTERDAY, C))
    assert Newest.of(3, [(TODAY, B), (YESTERDAY, B)]) == Newest(3, frozenset([B]), (TODAY, B))
    assert Newest.of(0, places) == Newest(0)


@pytest.mark.parametrize(
    ("n", "perhaps", "kept"),
    [
        pytest.param(2, (TODAY, A), True, id="before both"),
        pytest.param(2, (YESTERDAY, A), True, id="of equal times, the lower digest"),
        pytest.param(2, (YESTERDAY, C), False, id="of equal times, the higher digest"),
        pytest.param(3, (YESTERDAY - DAY, A), True, id="older than both of three to keep"),
        pytest.param(0, (TODAY, A), False, id="none to keep"),
    ],
)
def test_keeps_an_image_that_may_match_if_fewer_than_n_rank_before_it(n: int, perhaps: Any, kept: bool) -> None:
    top = Newest.of(n, [(TODAY, B), (YESTERDAY, B + "x")][: max(n, 0)])
    candidate = Image(digest=perhaps[1], created_at=perhaps[0])
    assert top.narrow(RuleMatches([], [candidate]), beyond=False) == RuleMatches([], [candidate] if kept else [])
    assert top.narrow(RuleMatches([], [candidate]), beyond=True) == RuleMatches([], [candidate])


def causes(n: int, *images: Image) -> dict[str, str]:
    """The decisions about the images of `a`, with one more in `b`, if the newest N of the registry are kept."""
    rules = policy(EVERYTHING, {"name": "newest", "keep": {"newest": n, "per": "registry"}})
    plan = make_plan([repository("a", *images), repository("b", image("b", days=5))], rules, NOW)
    return {decision.id.removeprefix("crp"): decision.cause for decision in plan.decisions}


def test_counts_per_registry() -> None:
    assert causes(1, image(1, days=9))["b"] == "kept_by_rule"
    assert causes(1, image(1, days=1))["b"] == "selected"
    assert causes(1, image(1, days=1, locked=True))["b"] == "kept_by_rule"
    assert causes(1, image(1, days=None)) == {"1": "kept_by_rule", "b": "kept_by_rule"}
    assert causes(1, index(1, days=1, lists=None))["b"] == "kept_by_rule"  # perhaps it is a child: it takes none
    assert causes(1, image(1, days=9), signature(1, days=1))["b"] == "kept_by_rule"
    assert causes(1, signature("b", days=1))["b"] == "kept_by_rule"
    assert causes(1, signature("nowhere", days=1)) == {"sig of nowhere": "kept_by_rule", "b": "selected"}
