"""The scan history decides along with the rules: no unsettled image is deleted, no suspicious push time is trusted."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from policies.context import PlanContext
from policies.graph import merge_rows
from policies.image import Image, Repository
from policies.plan import Decision
from policies.push_times import distrust, trusted_after
from policies.rules import Policy
from policies.scan_history import NO_HISTORY, RepositoryHistory, update_history
from tests.policies.plan.test_properties import by_key, deleted, owners
from tests.support.builders import DAY, NOW, digest, image, index, policy, repository, signature
from tests.support.planning import WholePlan, make_plan
from tests.support.strategies import documents, policies, registries

EVERYTHING = {"name": "everything", "delete": {"all": True}}
PR = {"name": "pull requests", "delete": {"tags": ["pr-*"]}}
A, B, C = image(1), image(2), image(3)
LONG = 10 * DAY  # for how long scans have seen a settled image


def seen(*images: Image, since: timedelta = LONG) -> RepositoryHistory:
    return update_history(NO_HISTORY, images, NOW - since)


def plan_context(*known: Image, settle: timedelta = DAY, since: timedelta = LONG) -> PlanContext:
    return PlanContext(history={"shop/api": seen(*known, since=since)}, settle=settle)


def decided(rules: Policy, images: Iterable[Image], context: PlanContext, **more: Any) -> dict[str, Decision]:
    """By the name an image was built of."""
    plan = make_plan([repository("shop/api", *images)], rules, NOW, plan_context=context, **more)
    return {decision.id.removeprefix("crp"): decision for decision in plan.decisions}


@pytest.mark.parametrize(
    ("known", "verdict", "reason"),
    [
        pytest.param([], "keep", "no rule selects it; r: no earlier complete scan has seen it untagged", id="never"),
        pytest.param([image(1)], "delete", "seen untagged for 10 days, at least 7", id="long enough"),
        pytest.param([image(1, "latest")], "keep", "no rule selects it", id="tagged when it was last seen"),
        pytest.param([B], "keep", "no rule selects it; r: no earlier complete scan has seen it untagged", id="other"),
    ],
)  # fmt: skip
def test_untagged_for_reads_the_scan_history(known: list[Image], verdict: str, reason: str) -> None:
    rules = policy({"name": "r", "delete": {"untagged_for": "7d"}})
    decision = decided(rules, [image(1)], plan_context(*known, settle=0 * DAY))["1"]
    assert (decision.verdict, decision.reason) == (verdict, reason)


def test_counts_per_registry_use_the_scan_history_of_every_repository() -> None:
    rules = policy(EVERYTHING, {"name": "newest", "keep": {"newest": 1, "per": "registry", "untagged_for": "7d"}})
    old, new = image(1, days=60), image(2, days=50)
    known = {"a": seen(old), "b": seen(new)}
    plan = make_plan([repository("a", old), repository("b", new)], rules, NOW, plan_context=PlanContext(history=known))
    assert [decision.verdict for decision in plan.decisions] == ["delete", "keep"]


def test_a_keep_rule_keeps_an_image_that_no_scan_has_seen() -> None:
    rules = policy(EVERYTHING, {"name": "kept", "keep": {"untagged_for": "7d"}})
    assert decided(rules, [image(1)], PlanContext())["1"].cause == "kept_by_rule"
    assert decided(rules, [image(1)], plan_context(image(1), since=DAY))["1"].verdict == "delete"


CASES: list[Any] = [
    pytest.param([A], [], {"1": "unsettled"}, id="never seen"),
    pytest.param([A], [A], {"1": "selected"}, id="seen long ago"),
    pytest.param([image(1, "pr-1")], [A], {"1": "unsettled"}, id="seen with other tags"),
    pytest.param([image(1, "pr-2", "pr-1")], [image(1, "pr-1", "pr-2")], {"1": "selected"}, id="tags in any order"),
    pytest.param(
        [index(9, "pr-1", lists=[1, 2]), A, B],
        [index(9, "pr-1", lists=[1, 2]), A],
        {"9": "unsettled", "1": "needed", "2": "unsettled"},
        id="a child that is not settled keeps its index, and that the other child",
    ),
    pytest.param(
        [index(9, "pr-1", lists=[1]), A],
        [A],
        {"9": "unsettled", "1": "needed"},
        id="an index that is not settled keeps its child",
    ),
    pytest.param(
        [index(9, "pr-1", lists=[8]), index(8, lists=[1]), A],
        [index(9, "pr-1", lists=[8]), index(8, lists=[1])],
        {"9": "unsettled", "8": "unsettled", "1": "unsettled"},
        id="through an index of an index",
    ),
    pytest.param(
        [index(9, "pr-1", lists=[1, 2]), index(8, "pr-2", lists=[2, 3]), A, B, C],
        [index(9, "pr-1", lists=[1, 2]), index(8, "pr-2", lists=[2, 3]), B, C],
        {"9": "unsettled", "1": "unsettled", "2": "needed", "8": "selected", "3": "selected"},
        id="images of the other index of a shared child are deleted",
    ),
    pytest.param(
        [image(1, "pr-1"), signature(1)],
        [image(1, "pr-1")],
        {"1": "unsettled", "sig of 1": "unsettled"},
        id="a signature that is not settled keeps its subject",
    ),
    pytest.param(
        [index(9, "pr-1", lists=[1]), image(1, "pr-2")],
        [index(9, "pr-1", lists=[1])],
        {"9": "selected", "1": "unsettled"},
        id="a tagged child is an image of its own",
    ),
]


@pytest.mark.parametrize(("images", "known", "causes"), CASES)
def test_keeps_unsettled_images_and_all_that_they_need(
    images: list[Image], known: list[Image], causes: dict[str, str]
) -> None:
    decisions = decided(policy(EVERYTHING), images, plan_context(*known))
    assert {name: decision.cause for name, decision in decisions.items()} == causes
    assert all(
        (decision.verdict == "delete") is (decision.cause in ("selected", "follows")) for decision in decisions.values()
    )


@pytest.mark.parametrize(
    ("of", "known", "since", "reason"),
    [
        (A, [], LONG, "no earlier complete scan has seen it; settle requires 36 hours"),
        (image(1, "a"), [A], LONG, "the last complete scan saw it with other tags; settle requires 36 hours"),
        (A, [A], DAY, "seen with these tags since 2026-11-23T03:00:00Z; settle requires 36 hours"),
    ],
    ids=["never", "tags", "since"],
)
def test_the_reason_says_since_when_an_image_is_unsettled(
    of: Image, known: list[Image], since: timedelta, reason: str
) -> None:
    context = plan_context(*known, settle=timedelta(hours=36), since=since)
    assert decided(policy(EVERYTHING), [of], context)["1"].reason == reason


def test_the_reason_names_the_unsettled_child_that_keeps_an_index() -> None:
    images = [index(9, "pr-1", lists=[1]), A]
    decisions = decided(policy(PR), images, plan_context(images[0]))
    assert decisions["9"].reason == (
        f"an image that would be deleted with it is not settled: sha256:{digest(1)[7:19]}…, "
        "no earlier complete scan has seen it; settle requires 1 day"
    )


def test_settle_applies_after_all_other_causes() -> None:
    rules = policy(EVERYTHING, {"name": "kept", "keep": {"tags": ["v1"]}})
    images = [image(1, "v1"), image(2, locked=True), image(3)]
    causes = {name: decision.cause for name, decision in decided(rules, images, plan_context()).items()}
    assert causes == {"1": "kept_by_rule", "2": "locked", "3": "unsettled"}


def test_settle_of_zero_keeps_nothing() -> None:
    assert decided(policy(EVERYTHING), [A], plan_context(settle=0 * DAY))["1"].cause == "selected"


def remembering(data: st.DataObject, repositories: list[Repository]) -> dict[str, RepositoryHistory]:
    """A scan history of some of the images: seen long ago, lately, or with other tags."""
    kinds = st.sampled_from(["never", "long", "lately", "retagged"])
    history = {}
    for repo in repositories:
        before, by_kind = NO_HISTORY, {"long": [], "lately": [], "retagged": []}
        for row in merge_rows(repo.images):
            kind = data.draw(kinds)
            if kind != "never":
                by_kind[kind].append(replace(row, tags=("other",)) if kind == "retagged" else row)
        before = update_history(before, [*by_kind["long"], *by_kind["retagged"]], NOW - LONG)
        history[repo.path] = update_history(before, [row for rows in by_kind.values() for row in rows], NOW - DAY / 2)
    return history


@settings(max_examples=50, deadline=None)
@given(registries(), policies(), st.data())
def test_settle_deletes_no_owned_image_without_its_owners(
    repositories: list[Repository], rules: Policy, data: st.DataObject
) -> None:
    history = remembering(data, repositories)
    context = PlanContext(history=history, settle=DAY)
    without = deleted(make_plan(repositories, rules, NOW, plan_context=PlanContext(history=history)))
    plan = make_plan(repositories, rules, NOW, plan_context=context)
    gone, decisions = deleted(plan), by_key(plan)
    assert gone <= without
    for repo in repositories:
        images = {row.digest: row for row in merge_rows(repo.images)}
        unsettled = context.unsettled(repo.path, list(images.values()), NOW)
        needs = owners(repo)
        for name, row in images.items():
            if (repo.path, name) in gone:
                assert name not in unsettled
                assert all((repo.path, owner) in gone for owner in needs[name] if owner in images)
            elif (repo.path, name) in without:
                assert decisions[repo.path, name].cause in ("unsettled", "needed")
                # An untagged child or a referrer would be deleted with its owners, so its owners are kept as well.
                is_child = any(name in (images[owner].children or ()) for owner in needs[name])
                if name in unsettled and (not row.tags if is_child else needs[name]):
                    assert not any((repo.path, owner) in gone for owner in needs[name])


@settings(max_examples=50, deadline=None)
@given(registries(), policies())
def test_settle_changes_nothing_if_every_image_is_settled(repositories: list[Repository], rules: Policy) -> None:
    history = {repo.path: update_history(NO_HISTORY, merge_rows(repo.images), NOW - LONG) for repo in repositories}
    plan = make_plan(repositories, rules, NOW, plan_context=PlanContext(history=history))
    assert make_plan(repositories, rules, NOW, plan_context=PlanContext(history=history, settle=LONG)) == plan


@settings(max_examples=50, deadline=None)
@given(registries(), documents(), st.randoms(use_true_random=False), st.data())
def test_the_order_never_matters(
    repositories: list[Repository], rules: list[dict[str, object]], random: Any, data: st.DataObject
) -> None:
    context = PlanContext(history=remembering(data, repositories), settle=DAY)
    shuffled = [replace(repo, images=tuple(random.sample(repo.images, len(repo.images)))) for repo in repositories]
    random.shuffle(shuffled)
    plan = make_plan(repositories, policy(*rules), NOW, plan_context=context)
    assert make_plan(shuffled, policy(*rules), NOW, plan_context=context) == plan


def untimed(repositories: list[Repository], before: datetime | None) -> list[Repository]:
    """The same, without the push times before an instant; None: without any."""

    def forget(row: Image) -> Image:
        early = row.created_at is not None and (before is None or row.created_at < before)
        return replace(row, created_at=None) if early else row

    return [
        replace(repository, images=tuple(forget(row) for row in merge_rows(repository.images)))
        for repository in repositories
    ]


def essence(plan: WholePlan) -> dict[tuple[str, str], tuple[object, ...]]:
    return {
        key: (decision.verdict, decision.cause, decision.rule, decision.needed_by)
        for key, decision in by_key(plan).items()
    }


@settings(max_examples=50, deadline=None)
@given(registries(), policies(), st.integers(0, 2), st.one_of(st.none(), st.integers(0, 60)))
def test_an_untrusted_push_time_decides_like_an_unknown_one(
    repositories: list[Repository], rules: Policy, keep: int, days: int | None
) -> None:
    times = distrust("a restore") if days is None else trusted_after(NOW - days * DAY)
    before = None if days is None else NOW - days * DAY
    untrusted = make_plan(
        repositories, rules, NOW, keep_per_repository=keep, plan_context=PlanContext(push_times=times)
    )
    without = make_plan(untimed(repositories, before), rules, NOW, keep_per_repository=keep)
    assert essence(untrusted) == essence(without)
    assert untrusted.totals == without.totals
    order = [
        (decision.repository, decision.digest, decision.created_at)
        for decision in make_plan(repositories, rules, NOW).decisions
    ]
    assert [(decision.repository, decision.digest, decision.created_at) for decision in untrusted.decisions] == order


def test_reasons_quote_the_suspicion() -> None:
    rules = policy(
        {"name": "old", "delete": {"older_than": "7d"}}, {"name": "n", "keep": {"newest": 1, "tagged": True}}
    )
    decisions = decided(rules, [image(1), image(2, "v1")], PlanContext(push_times=distrust("it was restored")))
    assert decisions["1"].reason == "no rule selects it; old: its push time is not trusted: it was restored"
    assert decisions["2"].reason == "its push time is not trusted: it was restored"
    trusted = PlanContext(push_times=trusted_after(NOW - 20 * DAY))
    early = decided(rules, [image(1), image(3, days=10)], trusted)
    assert early["1"].reason == (
        "no rule selects it; old: its push time is not trusted: it is before trust_times_after, 2026-11-04T03:00:00Z"
    )
    assert early["3"].verdict == "delete"


def test_keeps_every_image_whose_rank_is_unknown_for_keep_per_repository() -> None:
    decisions = decided(policy(EVERYTHING), [A, B], PlanContext(push_times=distrust("restored")), keep_per_repository=1)
    assert {decision.cause for decision in decisions.values()} == {"keep_per_repository"}
    assert decisions["1"].reason == (
        "perhaps one of the 1 newest of its repository: its push time is not trusted: restored"
    )


RESTORED = policy({"name": "old", "delete": {"older_than": "7d"}})
AT = 20.0  # days ago


@pytest.mark.parametrize(
    ("images", "known", "trusted"),
    [
        pytest.param([image(n, f"v{n}", days=AT) for n in range(4)], [], True, id="no fact contradicts it"),
        pytest.param([image(n, "2024-05-01", days=AT) for n in range(4)], [], False, id="tags name an earlier day"),
        pytest.param([image(n, "20261104", days=AT) for n in range(4)], [], True, id="the same day"),
        pytest.param([image(n, "nightly.2026.11.03-x", days=AT) for n in range(4)], [], False, id="the day before"),
        pytest.param([image(n, "2026-13-01", "20240230", days=AT) for n in range(4)], [], True, id="no days"),
        pytest.param([image(n, "120240501", days=AT) for n in range(4)], [], True, id="a number"),
        pytest.param([image(n, days=AT) for n in range(4)], [image(3)], False, id="one image was seen before"),
        pytest.param([image(1, "2024-05-01", days=AT)], [], True, id="a single image"),
        pytest.param([image(n, "2024-05-01", days=AT + n) for n in range(4)], [], True, id="pushed on different days"),
        pytest.param(
            [image(n, "2024-05-01", days=AT) for n in range(2)] + [image(n, days=AT + n) for n in range(2, 4)],
            [],
            True,
            id="half is not more than half",
        ),
        pytest.param(
            [image(n, "2024-05-01", days=AT) for n in range(3)] + [image(n, days=None) for n in range(3, 5)],
            [],
            False,
            id="more than half, with those of unknown push time",
        ),
        pytest.param(
            [image(n, days=AT) for n in range(3)] + [image(n, "2024-05-01", days=AT + n) for n in range(3, 5)],
            [],
            True,
            id="the tag is of another push",
        ),
    ],
)
def test_distrusts_a_shared_push_time_that_a_fact_contradicts(
    images: list[Image], known: list[Image], trusted: bool
) -> None:
    context = PlanContext(history={"shop/api": seen(*known, since=30 * DAY)})
    decisions = decided(RESTORED, images, context).values()
    assert all("not trusted" not in decision.reason for decision in decisions) is trusted
    assert any(decision.verdict == "delete" for decision in decisions) is trusted


@pytest.mark.parametrize(
    ("moved", "stayed", "new", "trusted"),
    [
        pytest.param(4, 0, 0, False, id="all were seen long before"),
        pytest.param(3, 2, 0, False, id="more than half"),
        pytest.param(2, 2, 0, True, id="half is not more than half"),
        pytest.param(3, 0, 3, True, id="images that no scan saw count as well"),
        pytest.param(1, 0, 0, True, id="a single image was pushed again"),
    ],
)
def test_distrusts_push_times_after_the_first_sight(moved: int, stayed: int, new: int, trusted: bool) -> None:
    known = [image(n, days=AT) for n in range(moved + stayed)]
    hours_apart = [replace(row, created_at=NOW - AT * DAY + n * timedelta(hours=3)) for n, row in enumerate(known)]
    images = [*hours_apart[:moved], *(image(n, days=40 + n) for n in range(moved, moved + stayed))]
    images += [image(n, days=n) for n in range(100, 100 + new)]
    decisions = decided(RESTORED, images, PlanContext(history={"shop/api": seen(*known, since=30 * DAY)})).values()
    suspicions = {decision.reason for decision in decisions if "an earlier scan saw them" in decision.reason}
    assert bool(suspicions) is not trusted
    assert any(decision.verdict == "delete" for decision in decisions) is trusted
