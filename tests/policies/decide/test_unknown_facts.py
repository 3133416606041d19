"""An unknown fact never selects an image for deletion, and always keeps it."""

from typing import Any

import pytest

from policies.image import Image
from policies.plan import Decision
from tests.support.builders import NOW, image, index, policy, repository
from tests.support.planning import make_plan

DELETE_ALL = {"name": "everything", "delete": {"all": True}}
UNTIMED, UNSIZED, UNSEEN = image(1, "v1", days=None), image(1, "v1", size=None), image(1)
OF_UNKNOWN_CHILDREN = index(1, "v1", lists=[2])

UNKNOWN = [
    pytest.param({"older_than": "1s"}, UNTIMED, "its push time is unknown", id="older-than-without-push-time"),
    pytest.param({"newer_than": "90d"}, UNTIMED, "its push time is unknown", id="newer-than-without-push-time"),
    pytest.param({"larger_than": "0B"}, UNSIZED, "its size is unknown", id="larger-than-without-size"),
    pytest.param({"smaller_than": "1TiB"}, UNSIZED, "its size is unknown", id="smaller-than-without-size"),
    pytest.param({"larger_than": "0B"}, OF_UNKNOWN_CHILDREN, "its size is unknown", id="index-of-an-absent-child"),
    pytest.param(
        {"untagged_for": "1s"},
        UNSEEN,
        "no earlier complete scan has seen it untagged",
        id="untagged-for-at-a-first-scan",
    ),
]


def decided(images: list[Image], *rules: dict[str, Any]) -> list[Decision]:
    return list(make_plan([repository("shop/api", *images)], policy(*rules), NOW).decisions)


@pytest.mark.parametrize(("condition", "unknown", "fact"), UNKNOWN)
def test_an_unknown_fact_does_not_select_an_image(condition: dict[str, Any], unknown: Image, fact: str) -> None:
    (decision,) = decided([unknown], {"name": "candidates", "delete": condition})
    assert (decision.verdict, decision.cause, decision.rule) == ("keep", "no_rule", None)
    assert decision.reason == f"no rule selects it; candidates: {fact}"


@pytest.mark.parametrize(("condition", "unknown", "fact"), UNKNOWN)
def test_an_unknown_fact_keeps_an_image(condition: dict[str, Any], unknown: Image, fact: str) -> None:
    (decision,) = decided([unknown], DELETE_ALL, {"name": "protected", "keep": condition})
    assert (decision.verdict, decision.cause, decision.rule) == ("keep", "kept_by_rule", "protected")
    assert decision.reason == fact


def test_beyond_newest_does_not_select_an_image_without_a_push_time() -> None:
    decisions = decided([UNTIMED, image(2), image(3)], {"name": "old", "delete": {"beyond_newest": 0}})
    assert [(decision.verdict, decision.cause) for decision in decisions] == [
        ("delete", "selected"),
        ("delete", "selected"),
        ("keep", "no_rule"),
    ]
    assert decisions[-1].reason == "no rule selects it; old: its push time is unknown"


def test_newest_keeps_an_image_without_a_push_time_beside_the_counted_images() -> None:
    decisions = decided([UNTIMED, image(2, days=1), image(3)], DELETE_ALL, {"name": "latest", "keep": {"newest": 1}})
    assert [decision.verdict for decision in decisions] == ["keep", "delete", "keep"]
    assert decisions[-1].reason == "its push time is unknown"


def test_an_image_that_is_unknown_to_one_rule_is_deleted_by_another_rule() -> None:
    (decision,) = decided([UNTIMED], {"name": "old", "delete": {"older_than": "1s"}}, DELETE_ALL)
    assert (decision.verdict, decision.rule) == ("delete", "everything")


def test_a_failed_condition_outweighs_an_unknown_condition() -> None:
    (decision,) = decided([UNTIMED], {"name": "old", "delete": {"older_than": "1s", "larger_than": "1GB"}})
    assert (decision.verdict, decision.reason) == ("keep", "no rule selects it")
    (decision,) = decided([UNTIMED], DELETE_ALL, {"name": "new", "keep": {"newer_than": "1s", "larger_than": "1GB"}})
    assert (decision.verdict, decision.cause) == ("delete", "selected")
