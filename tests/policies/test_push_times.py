"""Push times that many images share, and counts where equal times have no order: the newest image is unknown."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from policies.context import PlanContext
from policies.image import Image, Repository
from policies.push_times import (
    FIRST_SEEN_TIMES,
    TRUSTED,
    PushTimeTrust,
    day_in_tag,
    push_seconds,
    shared_time,
    trusted_after,
)
from tests.policies.plan.test_properties import deleted
from tests.support.builders import DAY, NOW, image, policy, repository
from tests.support.planning import make_plan, summary_of
from tests.support.strategies import documents, keep_rules, registries

FIRST_SEEN = PlanContext(push_times=FIRST_SEEN_TIMES)
EVERYTHING = {"name": "everything", "delete": {"all": True}}
TIED = "first seen at 2026-10-05T03:00:00Z together with other images, in an unknown order"
OLDER, NEWER = [image(f"old {n}", days=90) for n in range(2)], [image(f"new {n}", days=1) for n in range(2)]
SAME = [image(f"same {n}", days=50) for n in range(3)]


def kept(rules: list[dict[str, Any]], *repositories: Repository, keep: int = 0, **plan_context: Any) -> set[str]:
    """The ids of the kept images."""
    plan = make_plan(
        repositories, policy(*rules), NOW, keep_per_repository=keep, plan_context=plan_context.get("at", FIRST_SEEN)
    )
    return {decision.id.removeprefix("crp") for decision in plan.decisions if decision.verdict == "keep"}


def ids(*images: Image) -> set[str]:
    return {image_.id.removeprefix("crp") for image_ in images}


def counted(n: int, way: str) -> dict[str, Any]:
    """The rules, and keep_per_repository, that keep N in some way."""
    per = "registry" if way.endswith("registry") else "repository"
    if way.startswith("newest"):
        return {"rules": [EVERYTHING, {"name": "count", "keep": {"newest": n, "per": per}}]}
    if way.startswith("beyond"):
        return {"rules": [{"name": "count", "delete": {"beyond_newest": n, "per": per}}]}
    return {"rules": [EVERYTHING], "keep": n}


WAYS = ["newest", "beyond", "newest per registry", "beyond per registry", "keep_per_repository"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("n", "stay"),
    [
        pytest.param(0, [], id="none is asked for"),
        pytest.param(1, NEWER, id="the border is among the newest"),
        pytest.param(2, NEWER, id="the border is after the newest"),
        pytest.param(3, NEWER + SAME, id="the first of those that tie"),
        pytest.param(5, NEWER + SAME, id="the border is after those that tie"),
        pytest.param(6, NEWER + SAME + OLDER, id="the border is among the oldest"),
        pytest.param(99, NEWER + SAME + OLDER, id="more than there are"),
    ],
)
def test_keeps_all_images_that_tie_at_the_nth_place(way: str, n: int, stay: list[Image]) -> None:
    asked = counted(n, way)
    whole = repository("a", *OLDER, *SAME, *NEWER)
    assert kept(asked["rules"], whole, keep=asked.get("keep", 0)) == ids(*stay)


@pytest.mark.parametrize("way", WAYS)
def test_times_of_the_registry_keep_their_order_by_digest(way: str) -> None:
    asked = counted(1, way)
    lowest = min(SAME, key=lambda row: row.digest)
    stay = kept(asked["rules"], repository("a", *SAME), keep=asked.get("keep", 0), at=PlanContext())
    assert stay == ids(lowest)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("newest", TIED),
        ("beyond per registry", f"no rule selects it; count: {TIED}"),
        ("keep_per_repository", f"perhaps one of the 4 newest of its repository: {TIED}"),
    ],
)
def test_the_reason_says_that_the_order_is_unknown(way: str, reason: str) -> None:
    asked = counted(4, way)
    plan = make_plan(
        [repository("a", *NEWER, *SAME)],
        policy(*asked["rules"]),
        NOW,
        keep_per_repository=asked.get("keep", 0),
        plan_context=FIRST_SEEN,
    )
    assert {decision.reason for decision in plan.decisions if decision.digest in {same.digest for same in SAME}} == {
        reason
    }


def undecidable(rules: list[dict[str, Any]], *repositories: Repository, keep: int = 0) -> int:
    return summary_of(repositories, policy(*rules), NOW, keep_per_repository=keep, plan_context=FIRST_SEEN).undecidable


@pytest.mark.parametrize(("n", "count"), [(0, 0), (2, 0), (3, 3), (4, 3), (5, 0), (6, 2), (7, 0)])
@pytest.mark.parametrize("way", WAYS)
def test_each_undecidable_image_counts_once(way: str, n: int, count: int) -> None:
    asked = counted(n, way)
    rules = [*asked["rules"], {"name": "the same again", "keep": {"newest": n}}]
    whole = repository("a", *OLDER, *SAME, *NEWER)
    assert undecidable(rules, whole, keep=asked.get("keep", 0)) == count


def test_a_deleted_image_is_not_undecidable() -> None:
    rules = [{"name": "count", "delete": {"beyond_newest": 1}}, {"name": "some", "delete": {"tags": ["pr-*"]}}]
    assert undecidable(rules, repository("a", image(1, "pr-1"), image(2, "v2"), image(3, "v3"))) == 2


def test_undecidable_images_of_all_repositories_are_added_up() -> None:
    """A digest that shares its push time in one repository is not beyond in another, where an earlier scan saw it."""
    promoted = image("promoted", days=50)
    here = repository("a", *SAME, promoted)
    there = repository("b", replace(promoted, created_at=NOW - 70 * DAY), image("old", days=80))
    rules = counted(2, "beyond per registry")["rules"]
    assert kept(rules, here, there) == ids(*SAME, promoted)
    assert undecidable(rules, here, there) == 5  # 4 in the one repository, 1 in the other


def test_an_image_that_may_match_ties_as_well() -> None:
    rules = [EVERYTHING, {"name": "count", "keep": {"newest": 1, "larger_than": "10B"}}]
    unsized = image("unsized", days=50, size=None)
    for sized in (image(1, days=50), image(2, days=50)):
        assert kept(rules, repository("a", sized, unsized)) == ids(sized, unsized)
    assert kept(rules, repository("a", image(1, days=49), unsized)) == {"1"}


def test_trusted_first_seen_times_still_have_no_order() -> None:
    at = PlanContext(push_times=trusted_after(NOW - 60 * DAY, first_seen=True))
    assert kept(counted(1, "beyond")["rules"], repository("a", *SAME), at=at) == ids(*SAME)


@given(registries(), documents(), st.randoms(use_true_random=False), st.integers(0, 2))
def test_the_order_of_images_never_matters(
    repositories: list[Repository], rules: list[dict[str, object]], random: Any, keep: int
) -> None:
    made = make_plan(repositories, policy(*rules), NOW, keep_per_repository=keep, plan_context=FIRST_SEEN)
    shuffled = [replace(repo, images=tuple(random.sample(repo.images, len(repo.images)))) for repo in repositories]
    random.shuffle(shuffled)
    assert make_plan(shuffled, policy(*rules), NOW, keep_per_repository=keep, plan_context=FIRST_SEEN) == made


@given(registries(), documents(), keep_rules(), st.integers(0, 2))
def test_one_more_keep_rule_never_deletes_more(
    repositories: list[Repository], rules: list[dict[str, object]], more: dict[str, object], keep: int
) -> None:
    def gone(*document: dict[str, object]) -> set[tuple[str, str]]:
        named = [rule | {"name": str(number)} for number, rule in enumerate(document)]
        return deleted(make_plan(repositories, policy(*named), NOW, keep_per_repository=keep, plan_context=FIRST_SEEN))

    assert gone(more, *rules) <= gone(*rules)


@given(registries(), documents(), st.integers(0, 2))
def test_without_an_order_no_more_images_are_deleted(
    repositories: list[Repository], rules: list[dict[str, object]], keep: int
) -> None:
    def gone(plan_context: PlanContext) -> set[tuple[str, str]]:
        return deleted(
            make_plan(repositories, policy(*rules), NOW, keep_per_repository=keep, plan_context=plan_context)
        )

    assert gone(FIRST_SEEN) <= gone(PlanContext())


@pytest.mark.parametrize(
    ("seconds", "images", "share"),
    [
        pytest.param([], 0, None, id="nothing"),
        pytest.param([5.0], 1, None, id="one"),
        pytest.param([0.0, 60.0], 2, 1.0, id="a minute apart is within a minute"),
        pytest.param([0.0, 60.1], 2, None, id="more than a minute"),
        pytest.param([0.0, 30.0, 60.0, 90.0], 4, 1.0, id="windows that overlap"),
        pytest.param([0.0, 1.0, 2.0, 500.0, 900.0], 5, 0.6, id="three of five"),
        pytest.param([0.0, 1.0, 2.0], 6, None, id="three of six"),
    ],
)
def test_finds_a_push_time_that_more_than_half_share(seconds: list[float], images: int, share: float | None) -> None:
    column = push_seconds(
        [replace(image(n), created_at=NOW + timedelta(seconds=second)) for n, second in enumerate(seconds)]
    )
    shared = shared_time([column[:1], column[1:]], images)
    assert (shared.share if shared else None) == share


def test_reads_a_day_in_a_tag() -> None:
    assert day_in_tag("v1.2.3") is None
    assert day_in_tag("2024-05-01_2024-06-01") == datetime.fromisoformat("2024-06-01T00:00:00Z")
    assert day_in_tag("2024-0501") is None


def test_trusts_all_push_times_by_default() -> None:
    assert PushTimeTrust() == TRUSTED
    assert TRUSTED.all_trusted
