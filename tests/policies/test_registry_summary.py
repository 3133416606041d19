"""The summary of a registry: subjects in other repositories, and its newest images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.context import PlanContext
from policies.graph import build_graph
from policies.image import Image
from policies.registry_summary import RegistrySummary, Survey, summarize, survey_of
from policies.rules import Policy
from tests.support.builders import DAY, NOW, digest, image, index, policy, repository

NO_COUNT = policy({"delete": {"all": True}})
NEWEST = policy({"name": "newest", "keep": {"newest": 2, "per": "registry"}}, {"delete": {"all": True}})


def surveys(rules: Policy, *repositories: list[Image], plan_context: PlanContext | None = None) -> list[Survey]:
    plan_context = plan_context or PlanContext()
    named = [repository(f"r{number}", *images) for number, images in enumerate(repositories)]
    return [survey_of(build_graph(listed), rules, NOW, plan_context) for listed in named]


def summary(rules: Policy, *repositories: list[Image]) -> RegistrySummary:
    return summarize(surveys(rules, *repositories), rules)


@pytest.mark.parametrize(
    ("others", "somewhere"),
    [
        pytest.param([[image("subject")]], True, id="in another repository"),
        pytest.param([[image(1)], [image("subject", "v1"), image(2)]], True, id="in the last of several"),
        pytest.param([[image(1)]], False, id="nowhere"),
        pytest.param([[]], False, id="an empty repository"),
        pytest.param([[image(1, subject=digest("subject"))]], False, id="named once more, and nowhere"),
    ],
)
def test_finds_a_subject_in_another_repository(others: list[list[Image]], somewhere: bool) -> None:
    summarized = summary(NO_COUNT, [image("sbom", subject=digest("subject"))], *others)
    assert summarized.foreign_subjects == (frozenset([digest("subject")]) if somewhere else frozenset())


def test_a_subject_in_the_same_repository_is_not_foreign() -> None:
    here = [image("subject"), image("sbom", subject=digest("subject"))]
    assert summary(NO_COUNT, here, [image("subject")]).foreign_subjects == frozenset()


def test_finds_subjects_that_are_not_sha256() -> None:
    odd = "sha512:" + "a" * 128
    there = Image(digest=odd)
    assert summary(NO_COUNT, [image("sbom", subject=odd)], [there]).foreign_subjects == {odd}


def test_the_newest_are_those_of_all_repositories() -> None:
    summarized = summary(NEWEST, [image(1, days=1), image(2, days=8)], [image(3, days=2), image(4, days=3)])
    assert summarized.newest["newest"].digests == {digest(1), digest(3)}
    assert summarized.newest["newest"].last == (NOW - 2 * DAY, digest(3))


def test_counts_a_digest_in_two_repositories_once() -> None:
    summarized = summary(NEWEST, [image(1, days=1)], [image(1, days=2)], [image(2, days=3), image(3, days=4)])
    assert summarized.newest["newest"].digests == {digest(1), digest(2)}


def test_counts_a_referrer_only_if_no_repository_has_its_subject() -> None:
    referrer = image("sbom", days=1, subject=digest("subject"))
    others = [image(2, days=3), image(3, days=4)]
    assert summary(NEWEST, [referrer], others).newest["newest"].digests == {digest("sbom"), digest(2)}
    with_subject = summary(NEWEST, [referrer], [*others, image("subject", days=9)])
    assert with_subject.newest["newest"].digests == {digest(2), digest(3)}


def test_does_not_count_children_and_locked_images() -> None:
    images = [index(1, "v1", days=5, lists=[2]), image(2, days=1), image(3, days=2, locked=True), image(4, days=6)]
    assert summary(NEWEST, images).newest["newest"].digests == {digest(1), digest(4)}


def test_does_not_count_a_repository_with_an_unreadable_index() -> None:
    frozen = [image(1, days=1), index(2, days=1, lists=None)]
    assert summary(NEWEST, frozen, [image(3, days=9)]).newest["newest"].digests == {digest(3)}
    ignoring = surveys(NEWEST, frozen, plan_context=PlanContext(ignore_unreadable=frozenset([digest(2)])))
    assert summarize(ignoring, NEWEST).newest["newest"].digests == {digest(1)}


def test_does_not_count_a_repository_to_which_the_rule_does_not_apply() -> None:
    rules = policy({"name": "newest", "keep": {"newest": 1, "per": "registry"}, "repositories": ["r1"]})
    assert summary(rules, [image(1, days=1)], [image(2, days=9)]).newest["newest"].digests == {digest(2)}


def test_without_an_order_images_with_the_nth_push_time_are_tied() -> None:
    parts = surveys(NEWEST, [image(1, days=1), image(2, days=2)], [image(3, days=2)])
    assert summarize(parts, NEWEST, ordered=False).newest["newest"].tied == {digest(2), digest(3)}
    assert summarize(parts, NEWEST).newest["newest"].tied == frozenset()


def test_a_rule_of_each_repository_needs_no_summary() -> None:
    rules = policy({"name": "newest", "keep": {"newest": 2}})
    assert summary(rules, [image(1)], [image(2)]) == RegistrySummary()


def test_an_empty_registry_has_no_newest() -> None:
    assert summary(NEWEST).newest["newest"].last is None
    assert summarize([], NO_COUNT) == RegistrySummary()


DAYS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), max_size=8)


@given(st.lists(DAYS, max_size=4), st.randoms(use_true_random=False))
def test_the_summary_equals_one_ranking_in_any_order(repositories, random) -> None:
    parts = surveys(NEWEST, *([image(of, days=days) for of, days in dict(rows).items()] for rows in repositories))
    newest = dict[str, int]()
    for rows in repositories:
        for of, days in dict(rows).items():
            newest[digest(of)] = min(days, newest.get(digest(of), days))
    expected = sorted(newest, key=lambda key: (newest[key], key))[:2]
    assert summarize(parts, NEWEST).newest["newest"].digests == set(expected)
    random.shuffle(parts)
    assert summarize(parts, NEWEST).newest["newest"].digests == set(expected)
