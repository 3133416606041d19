"""The warnings of a plan: keep rules that keep nothing, counts without an order."""

from typing import Any

import pytest

from policies.context import EMPTY_CONTEXT, PlanContext
from policies.holds import Hold, Holds
from policies.image import Image
from policies.warnings import keeps_nothing, undecidable
from tests.support.builders import NOW, image, index, policy, repository
from tests.support.planning import summary_of


def keeping(*rules: dict[str, Any], images: tuple[Image, ...], plan_context: PlanContext = EMPTY_CONTEXT) -> set[str]:
    """The keep rules that keep something in one of two repositories."""
    parsed = policy(*rules)
    whole = [repository("a", *images), repository("b", image("other", "other", days=1))]
    return set(summary_of(whole, parsed, NOW, plan_context=plan_context).keeping)


@pytest.mark.parametrize(
    ("conditions", "keeps"),
    [
        pytest.param({"tags": ["v*"]}, True, id="a tag"),
        pytest.param({"tags": ["release-*"]}, False, id="no tag"),
        pytest.param({"tags": ["other"]}, True, id="a tag of another repository"),
        pytest.param({"newest": 1}, True, id="a count"),
        pytest.param({"newest": 1, "per": "registry"}, True, id="a count of the registry"),
        pytest.param({"newest": 0}, False, id="the newest none"),
        pytest.param({"larger_than": "1KiB"}, True, id="an image with an unknown fact is kept"),
        pytest.param({"larger_than": "1KiB", "tags": ["v1"]}, False, id="too small"),
    ],
)
def test_warns_of_a_keep_rule_that_matches_no_image(conditions: dict[str, Any], keeps: bool) -> None:
    images = image(1, "v1", size=100), image(2, size=None)
    rule = {"name": "kept", "keep": conditions}
    assert keeping(rule, images=images) == ({"kept"} if keeps else set())


def test_a_keep_rule_also_keeps_images_that_have_another_cause() -> None:
    rules = {"name": "all", "keep": {"all": True}}, {"name": "v", "keep": {"tags": ["v*"]}}
    assert keeping(*rules, images=(image(1, "v1"),)) == {"all", "v"}
    held = PlanContext(holds=Holds((Hold(kind="repository", value="**"),)))
    assert keeping(*rules, images=(image(1, "v1", locked=True),), plan_context=held) == {"all", "v"}
    unreadable = image(1, "v1"), index(2, lists=None)
    assert keeping(*rules, images=unreadable) == {"all", "v"}


def test_a_rule_for_other_repositories_keeps_nothing() -> None:
    rule = {"name": "elsewhere", "keep": {"all": True}, "repositories": ["ml/**"]}
    assert keeping(rule, images=(image(1),)) == set()


def test_a_warning_names_its_rule_or_count() -> None:
    assert list(undecidable(0)) == []
    assert next(undecidable(1)).message.startswith("1 image is kept because its rank in a count is unknown")
    assert [(warning.code, warning.message) for warning in keeps_nothing(["a", "b"], {"a"})] == [
        (
            "keep_rule_matches_nothing",
            "The keep rule 'b' matches no image of the registry, so it protects nothing; compare its conditions and"
            " repositories with what `registry-gc inventory` shows, or remove it.",
        )
    ]
