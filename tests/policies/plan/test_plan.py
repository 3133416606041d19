"""Verdicts, causes and reasons, case by case; counts; limits; the JSON of a plan."""

from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from msgspec import UNSET
from msgspec.structs import replace

from policies.decide import SUBJECT_UNKNOWN
from policies.image import Image, Repository, Unreadable
from policies.limits import Exceeded, Limits, Totals
from policies.plan import Decision, RegistrySummary
from policies.rules import Policy
from tests.support.builders import DAY, NOW, digest, image, index, policy, repository, signature
from tests.support.planning import decide, make_plan

PR = {"name": "pull requests", "delete": {"tags": ["pr-*"], "older_than": "14d"}}
LEFTOVERS = {"name": "leftovers", "delete": {"untagged": True, "older_than": "7d"}}
EVERYTHING = {"name": "everything", "delete": {"all": True}}
RELEASES = {"name": "releases", "keep": {"tags": ["v*"]}}


def decisions(rules: Policy, *images: Image, **more: Any) -> dict[str, Decision]:
    """By the name an image was built of."""
    return {
        decision.id.removeprefix("crp"): decision
        for decision in make_plan([repository("shop/api", *images)], rules, NOW, **more).decisions
    }


def said(decision: Decision) -> tuple[str, str, str | None, str]:
    return decision.verdict, decision.cause, decision.rule, decision.reason


SHORT_1, SHORT_2 = f"sha256:{digest(1)[7:19]}…", f"sha256:{digest(2)[7:19]}…"
CASES: list[Any] = [
    pytest.param(
        [PR],
        [image(1, "pr-7", days=52)],
        ("delete", "selected", "pull requests", "every tag matches pr-*; 52 days old, at least 14"),
        id="selected",
    ),
    pytest.param([PR], [image(1, "pr-7", days=13)], ("keep", "no_rule", None, "no rule selects it"), id="no rule"),
    pytest.param([], [image(1)], ("keep", "no_rule", None, "no rule selects it"), id="no rules at all"),
    pytest.param(
        [PR],
        [image(1, "pr-7", days=None)],
        ("keep", "no_rule", None, "no rule selects it; pull requests: its push time is unknown"),
        id="unknown does not select",
    ),
    pytest.param(
        [EVERYTHING, RELEASES],
        [image(1, "v1", "x")],
        ("keep", "kept_by_rule", "releases", "tag v1 matches v*"),
        id="keep beats select, whatever the order",
    ),
    pytest.param(
        [EVERYTHING, {"name": "new", "keep": {"newer_than": "1d"}}],
        [image(1, days=None)],
        ("keep", "kept_by_rule", "new", "its push time is unknown"),
        id="unknown keeps",
    ),
    pytest.param(
        [EVERYTHING, {"name": "small", "keep": {"tagged": True, "smaller_than": "1MB"}}],
        [image(1, "a", size=None)],
        ("keep", "kept_by_rule", "small", "its size is unknown"),
        id="the unknown fact is named",
    ),
    pytest.param(
        [PR, {"name": "second", "delete": {"all": True}}],
        [image(1, "pr-1")],
        ("delete", "selected", "pull requests", "every tag matches pr-*; 50 days old, at least 14"),
        id="the first rule of the file",
    ),
    pytest.param(
        [EVERYTHING], [image(1, locked=True)], ("keep", "locked", None, "locked in the registry"), id="locked"
    ),
    pytest.param(
        [EVERYTHING, RELEASES],
        [image(1, "v1", locked=True)],
        ("keep", "locked", None, "locked in the registry"),
        id="locked comes before kept by rule",
    ),
    pytest.param(
        [EVERYTHING],
        [index(1, lists=None)],
        ("keep", "unreadable", None, "the children of this index could not be read"),
        id="an unreadable index",
    ),
    pytest.param(
        [EVERYTHING],
        [image(1), index(2, lists=None)],
        ("keep", "unreadable", None, f"index {SHORT_2} could not be read and may list it"),
        id="an image in the repository of an unreadable index",
    ),
    pytest.param(
        [EVERYTHING, RELEASES],
        [image(1, "v1"), index(2, lists=None)],
        ("keep", "kept_by_rule", "releases", "tag v1 matches v*"),
        id="a keep rule precedes an unreadable index",
    ),
    pytest.param(
        [LEFTOVERS],
        [image(1), index(2, "v1", lists=[1])],
        ("keep", "needed", None, f"index {SHORT_2} is kept"),
        id="a child of a kept index",
    ),
    pytest.param(
        [PR],
        [image(1), index(2, "pr-1", lists=[1])],
        ("delete", "follows", "pull requests", f"its index {SHORT_2} is deleted"),
        id="an untagged child is deleted with its index",
    ),
    pytest.param(
        [PR, LEFTOVERS],
        [image(1), index(2, "pr-1", lists=[1])],
        ("delete", "selected", "leftovers", "untagged; 50 days old, at least 7"),
        id="a child that its own rule selects names this rule",
    ),
    pytest.param(
        [PR],
        [image(1, "main"), index(2, "pr-1", lists=[1])],
        ("keep", "no_rule", None, "no rule selects it"),
        id="a tagged child needs a rule of its own",
    ),
    pytest.param(
        [PR],
        [image(1), index(2, "pr-1", lists=[1]), index(3, "pr-2", lists=[1], days=3)],
        ("keep", "needed", None, f"index sha256:{digest(3)[7:19]}… is kept"),
        id="one of two indexes is kept",
    ),
    pytest.param(
        [PR, RELEASES],
        [image(1, days=3), index(2, "pr-1", lists=[1]), image(9, "v1", subject=digest(1))],
        ("delete", "follows", "pull requests", f"its index {SHORT_2} is deleted"),
        id="a referrer does not keep its subject",
    ),
    pytest.param(
        [EVERYTHING],
        [image(1, children=(digest(1),))],
        ("keep", "needed", None, f"index {SHORT_1} is kept"),
        id="an index that lists itself",
    ),
    pytest.param(
        [EVERYTHING],
        [index(1, lists=[2]), index(2, lists=[1])],
        ("keep", "needed", None, f"index {SHORT_2} is kept"),
        id="two indexes that list each other",
    ),
    pytest.param(
        [EVERYTHING],
        [image(1), index(2, lists=[3, 1]), index(3, lists=[2])],
        ("keep", "needed", None, f"index {SHORT_2} is kept"),
        id="a child of two indexes that list each other",
    ),
    pytest.param(
        [{"name": "old", "delete": {"older_than": "30d"}}],
        [image(1, subject=digest(2)), image(2, days=3)],
        ("keep", "needed", None, f"subject {SHORT_2} is kept"),
        id="a referrer is kept with its subject",
    ),
    pytest.param(
        [PR],
        [image(1, subject=digest(2), days=0), image(2, "pr-1")],
        ("delete", "follows", "pull requests", f"its subject {SHORT_2} is deleted"),
        id="a referrer is deleted with its subject",
    ),
    pytest.param(
        [PR],
        [image(1, "sbom", subject=digest(2), days=0), image(2, "pr-1")],
        ("delete", "follows", "pull requests", f"its subject {SHORT_2} is deleted"),
        id="a tagged referrer is deleted with its subject",
    ),
    pytest.param(
        [PR],
        [image(1, "sbom", subject=digest(2)), image(2, "pr-1"), index(3, "pr-2", lists=[1])],
        ("keep", "no_rule", None, "no rule selects it"),
        id="a referrer that is a tagged child is kept",
    ),
    pytest.param(
        [PR],
        [image(1, subject=None), image(2, "pr-1")],
        ("keep", "no_rule", None, "no rule selects it"),
        id="unknown subject",
    ),
    pytest.param(
        [LEFTOVERS],
        [image(1, subject=None)],
        ("keep", "unreadable", None, SUBJECT_UNKNOWN),
        id="untagged, subject not reported",
    ),
    pytest.param(
        [PR],
        [image(1, "pr-1", subject=None)],
        ("delete", "selected", "pull requests", "every tag matches pr-*; 50 days old, at least 14"),
        id="tagged, subject not reported",
    ),
    pytest.param(
        [LEFTOVERS],
        [image(1, subject=digest(2)), image(2, subject=None)],
        ("keep", "needed", None, f"subject {SHORT_2} is kept"),
        id="a referrer of an image that is kept because of its unreported subject",
    ),
    pytest.param(
        [LEFTOVERS, PR],
        [image(1, subject=None), index(2, "v1", lists=[1])],
        ("keep", "needed", None, f"index {SHORT_2} is kept"),
        id="the subject of a child of a kept index does not matter",
    ),
    pytest.param(
        [PR, {"name": "sigs", "keep": {"digests": [digest(1)]}}],
        [image(1, subject=digest(2)), image(2, "pr-1")],
        ("keep", "kept_by_rule", "sigs", "its digest is listed"),
        id="a keep rule on a referrer still keeps it",
    ),
    pytest.param(
        [EVERYTHING],
        [image(1, subject=digest("nowhere"))],
        ("delete", "selected", "everything", "every image"),
        id="an orphan is ordinary",
    ),
]


@pytest.mark.parametrize(("rules", "images", "expected"), CASES)
def test_each_verdict_has_its_cause_rule_and_reason(
    rules: list[dict[str, Any]], images: list[Image], expected: tuple[str, str, str | None, str]
) -> None:
    assert said(decisions(policy(*rules), *images)["1"]) == expected


def test_needed_by_names_all_kept_owners() -> None:
    made = decisions(
        policy(PR), image(1), index(2, "v1", lists=[1]), index(3, "v2", lists=[1]), index(4, "pr-1", lists=[1])
    )
    assert made["1"].needed_by == tuple(sorted([digest(2), digest(3)]))
    assert made["1"].reason.endswith("is kept, and 1 more")


@pytest.mark.parametrize("kind", ["sig", "att", "sbom"])
def test_signatures_share_the_verdict_of_their_subject(kind: str) -> None:
    made = decisions(policy(PR), image(1, "pr-1"), signature(1, kind, days=0), image(2, "v1"), signature(2, kind))
    assert (made[f"{kind} of 1"].cause, made[f"{kind} of 2"].cause) == ("follows", "needed")


@pytest.mark.parametrize(
    "tags",
    [
        [f"sha256-{digest(1)[7:]}.sig", "extra"],
        [f"sha256-{digest(1)[7:]}.txt"],
        [f"sha256-{digest(1)[7:70]}.sig"],
        [f"sha256-{digest(1)[7:].upper()}.sig"],
        [f"sha512-{digest(1)[7:]}.sig"],
        [f"sha256-{digest(1)[7:]}"],
    ],
)
def test_an_image_that_only_resembles_a_signature_is_ordinary(tags: list[str]) -> None:
    made = decisions(policy(PR), image(1, "pr-1"), image(2, *tags))
    assert (made["1"].verdict, made["2"].cause) == ("delete", "no_rule")


def test_a_signature_of_two_images_is_deleted_with_the_last() -> None:
    tags = [f"sha256-{digest(of)[7:]}.sig" for of in (1, 2)]
    both = decisions(policy(PR), image(1, "pr-1"), image(2, "pr-2"), image(3, *tags))
    tagged = decisions(policy(PR), image(1, "pr-1"), image(2, "v2"), image(3, *tags))
    assert (both["3"].cause, tagged["3"].cause, tagged["3"].needed_by) == ("follows", "needed", (digest(2),))


def test_keeps_a_referrer_whose_subject_is_in_another_repository() -> None:
    here, there = repository("signatures", signature(1)), repository("shop/api", image(1, "v1"))
    kept = make_plan([here, there], policy(EVERYTHING), NOW).decisions[-1]
    assert (kept.repository, kept.cause, kept.needed_by) == ("signatures", "needed", (digest(1),))
    assert kept.reason == f"subject {SHORT_1} is in another repository"
    failed = [Unreadable(repository="shop/api", reason="a time-out")]
    assert make_plan([here, there], policy(EVERYTHING), NOW, unreadable=failed).decisions[-1].verdict == "delete"
    assert make_plan([here], policy(EVERYTHING), NOW).decisions[-1].verdict == "delete"


def test_an_image_is_deleted_in_a_wave_after_its_owners() -> None:
    """An index of an index, its child, and the child's signature: each is deleted after its owners."""
    images = [
        image(1),
        index(2, lists=[1]),
        index(3, "pr-1", lists=[2]),
        signature(1),
        image(5, "pr-2"),
        image(6, "v1"),
    ]
    plan = decide(repository("a", *images), policy(PR), NOW, RegistrySummary())
    waves = {deletion.image.id: (deletion.wave, deletion.owners) for deletion in plan.deletions}
    assert waves == {
        "crp3": (0, ()),
        "crp5": (0, ()),
        "crp2": (1, (digest(3),)),
        "crp1": (2, (digest(2),)),
        "crpsig of 1": (3, (digest(1),)),
    }
    assert plan.rule_selected == {"pull requests": 2}


def test_a_wave_comes_after_the_last_of_its_owners() -> None:
    images = [index(1, "pr-1", lists=[2, 3]), index(2, lists=[3]), image(3)]
    plan = decide(repository("a", *images), policy(PR), NOW, RegistrySummary())
    assert {deletion.image.id: deletion.wave for deletion in plan.deletions} == {"crp1": 0, "crp2": 1, "crp3": 2}


SIZES = [
    pytest.param(
        [index(1, lists=[2, 3], size=None), image(2, layers={"a": 60, "b": 30}), image(3, layers={"a": 60, "c": 11})],
        "delete",
        id="shared blobs once: 101",
    ),
    pytest.param(
        [index(1, lists=[2, 3], size=None), image(2, layers={"a": 60, "b": 30}), image(3, layers={"a": 60, "c": 10})],
        "keep",
        id="100 is not larger than 100",
    ),
    pytest.param(
        [index(1, lists=[2], size=999), image(2, size=None, layers={"a": 500})],
        "keep",
        id="the size of a child is unknown",
    ),
    pytest.param([index(1, lists=[2, "nowhere"]), image(2, layers={"a": 500})], "keep", id="a child is not there"),
    pytest.param([index(1, lists=[2]), index(2, lists=[3]), image(3, layers={"a": 101})], "delete", id="however deep"),
    pytest.param(
        [index(1, lists=[2], layers={"own": 1}), image(2, layers={"a": 100})], "delete", id="its own blobs too"
    ),
    pytest.param([index(1, lists=[2]), image(2, size=101)], "delete", id="a child without blobs has a known size"),
    pytest.param([index(1, lists=[], size=500)], "keep", id="an index without children"),
]


@pytest.mark.parametrize(("images", "verdict"), SIZES)
def test_larger_than_counts_the_children_of_an_index(images: list[Image], verdict: str) -> None:
    made = decisions(policy({"delete": {"larger_than": "100B", "digests": [digest(1)]}}), *images)
    assert made["1"].verdict == verdict


DAYS = {"a": 1, "b": 2, "c": 3, "d": 4}


@pytest.mark.parametrize(
    ("rule", "stay"),
    [
        ({"keep": {"newest": 2}}, "ab"),
        ({"keep": {"newest": 0}}, ""),
        ({"keep": {"newest": 9}}, "abcd"),
        ({"keep": {"newest": 1, "older_than": "2d"}}, "b"),
        ({"keep": {"newest": 1, "untagged": True}}, ""),
        ({"keep": {"newest": 2}, "repositories": ["other"]}, ""),
        ({"keep": {"newest": 2, "newer_than": "1d"}}, ""),
    ],
)
def test_keeps_the_newest(rule: dict[str, Any], stay: str) -> None:
    made = decisions(policy(EVERYTHING, rule), *(image(name, "x", days=days) for name, days in DAYS.items()))
    assert "".join(name for name in DAYS if made[name].verdict == "keep") == stay


@pytest.mark.parametrize(
    ("conditions", "go"),
    [
        ({"beyond_newest": 2}, "cd"),
        ({"beyond_newest": 0}, "abcd"),
        ({"beyond_newest": 4}, ""),
        ({"beyond_newest": 1, "older_than": "2d"}, "cd"),
    ],
)
def test_deletes_images_beyond_the_newest(conditions: dict[str, Any], go: str) -> None:
    made = decisions(policy({"delete": conditions}), *(image(name, "x", days=days) for name, days in DAYS.items()))
    assert "".join(name for name in DAYS if made[name].verdict == "delete") == go
    assert all(made[name].reason.endswith(f"not one of the {conditions['beyond_newest']} newest") for name in go)


def test_of_equal_times_the_lower_digest_is_the_newer() -> None:
    first, second = sorted([image("a"), image("b")], key=lambda row: row.digest)
    made = decisions(policy(EVERYTHING, {"keep": {"newest": 1}}), second, first)
    assert (made[first.id[3:]].verdict, made[second.id[3:]].verdict) == ("keep", "delete")


def test_keeps_an_image_without_a_push_time_and_does_not_count_it() -> None:
    images = [image("a", days=None), image("b", days=2), image("c", days=3)]
    made = decisions(policy(EVERYTHING, {"keep": {"newest": 1}}), *images)
    assert {name: decision.verdict for name, decision in made.items()} == {"a": "keep", "b": "keep", "c": "delete"}
    made = decisions(policy({"delete": {"beyond_newest": 0}}), *images)
    assert {name: decision.verdict for name, decision in made.items()} == {"a": "keep", "b": "delete", "c": "delete"}


def test_keeps_an_image_that_may_match_only_if_it_could_be_among_the_newest() -> None:
    """`b` may be small: it is kept while fewer than two that surely are rank before it."""
    rule = {"keep": {"newest": 2, "smaller_than": "1MB"}}
    room = decisions(
        policy(EVERYTHING, rule),
        image("a", days=1),
        image("b", days=2, size=None),
        image("c", days=3),
        image("d", days=4),
    )
    full = decisions(
        policy(EVERYTHING, rule),
        image("a", days=1),
        image("b", days=3, size=None),
        image("c", days=2),
        image("d", days=4),
    )
    assert "".join(name for name, decision in sorted(room.items()) if decision.verdict == "keep") == "abc"
    assert "".join(name for name, decision in sorted(full.items()) if decision.verdict == "keep") == "ac"


def test_children_referrers_and_locked_images_are_not_counted() -> None:
    images = [
        image("child", days=0),
        index("index", "pr-1", lists=["child"], days=1),
        signature("index", days=0),
        image("locked", days=0, locked=True),
        image("old", days=9),
    ]
    kept = decisions(policy(EVERYTHING, {"name": "newest", "keep": {"newest": 2}}), *images)
    assert {name: decision.cause for name, decision in kept.items()} == {
        "child": "needed",
        "index": "kept_by_rule",
        "sig of index": "needed",
        "locked": "locked",
        "old": "kept_by_rule",
    }
    gone = decisions(policy({"name": "beyond", "delete": {"beyond_newest": 0}}), *images)
    assert {name: decision.cause for name, decision in gone.items()} == {
        "child": "follows",
        "index": "selected",
        "sig of index": "follows",
        "locked": "locked",
        "old": "selected",
    }


def test_per_registry_counts_a_digest_once_at_its_newest_time() -> None:
    repositories = [
        repository("a", image("shared", days=9), image("x", days=3)),
        repository("b", image("shared", days=1), image("y", days=2), image("z", days=4)),
    ]
    plan = make_plan(repositories, policy(EVERYTHING, {"keep": {"newest": 3, "per": "registry"}}), NOW)
    assert {(decision.repository, decision.id): decision.verdict for decision in plan.decisions} == {
        ("a", "crpshared"): "keep",
        ("a", "crpx"): "keep",
        ("b", "crpshared"): "keep",
        ("b", "crpy"): "keep",
        ("b", "crpz"): "delete",
    }
    assert plan.decisions[0].reason == "one of the 3 newest of the registry"


def test_per_registry_counts_no_referrer_whose_subject_is_elsewhere() -> None:
    repositories = [repository("a", signature(1, days=0)), repository("b", image(1, days=2), image(2, days=3))]
    plan = make_plan(repositories, policy(EVERYTHING, {"keep": {"newest": 2, "per": "registry"}}), NOW)
    assert [decision.cause for decision in plan.decisions] == ["needed", "kept_by_rule", "kept_by_rule"]


def test_every_repository_keeps_its_newest() -> None:
    images = [
        image("a", days=None),
        image("b", "x", days=2, locked=True),
        image("c", days=3),
        image("child", days=0),
        index("d", lists=["child"], days=1),
    ]
    made = decisions(policy(EVERYTHING), *images, keep_per_repository=2)
    assert {name: decision.cause for name, decision in made.items()} == {
        "a": "keep_per_repository",
        "b": "locked",
        "c": "selected",
        "d": "keep_per_repository",
        "child": "needed",
    }
    assert made["d"].reason == "one of the 2 newest of its repository"


def test_rows_of_one_digest_are_one_image() -> None:
    same = image(1, "pr-1", "pr-0")
    assert decisions(policy(PR), same, same)["1"].tags == ("pr-1", "pr-0")
    apart = decisions(policy(PR), same, msgspec.structs.replace(same, id="crp0", tags=("v1",)))
    assert (apart["0"].tags, apart["0"].verdict) == (("pr-0", "pr-1", "v1"), "keep")
    undated = decisions(policy(EVERYTHING, {"keep": {"newer_than": "1d"}}), same, image(1, "pr-1", "pr-0", days=3))["1"]
    assert (undated.created_at, undated.verdict) == (None, "keep")
    children = decisions(policy(EVERYTHING), image(1), index(1, lists=[2]), image(2))
    assert (children["1"].cause, children["2"].cause) == ("unreadable", "unreadable")
    assert decisions(policy(EVERYTHING), image(1), image(1, locked=True))["1"].cause == "locked"


def test_an_unreadable_repository_is_in_no_total_and_keeps_its_blobs() -> None:
    shared = {"base": 70}
    repositories = [repository("a", image(1, layers=shared | {"own": 5})), repository("b", image(2, layers=shared))]
    plan = make_plan(
        repositories, policy(EVERYTHING), NOW, unreadable=[Unreadable(repository="b", reason="a time-out")]
    )
    assert plan.totals == Totals(images=1, keep=0, delete=1, selected_bytes=100, reclaimable_bytes=5, registry_bytes=75)
    assert said(plan.decisions[1]) == ("keep", "unreadable", None, "the repository could not be listed: a time-out")
    assert not plan.complete


def test_decisions_are_newest_first_in_every_repository() -> None:
    later, sooner = sorted([image("p"), image("q")], key=lambda row: row.digest)
    plan = make_plan(
        [repository("b", image(1)), repository("a", sooner, image(2, days=None), later, image(3, days=1))],
        policy(PR),
        NOW,
    )
    assert [(decision.repository, decision.id) for decision in plan.decisions] == [
        ("a", "crp3"),
        ("a", later.id),
        ("a", sooner.id),
        ("a", "crp2"),
        ("b", "crp1"),
    ]


def test_the_json_is_the_contract() -> None:
    moscow = timezone(timedelta(hours=3))
    record = msgspec.structs.replace(image(1, "pr-7", size=300), created_at=datetime(2026, 10, 1, 15, tzinfo=moscow))
    plan = make_plan(
        [Repository(path="shop/api", images=(record,))], policy(PR), NOW.astimezone(moscow), registry="production"
    )
    assert msgspec.json.encode(plan).decode() == (
        '{"registry":"production","policy":"test","now":"2026-11-24T03:00:00Z","complete":true,"unreadable":[],'
        '"totals":{"images":1,"keep":0,"delete":1,"selected_bytes":300,"reclaimable_bytes":0,"registry_bytes":0},"exceeded":[],'
        '"warnings":[],"undecidable":0,"unreadable_images":[],'
        f'"decisions":[{{"id":"crp1","repository":"shop/api","digest":"{digest(1)}","tags":["pr-7"],'
        '"created_at":"2026-10-01T12:00:00Z","size":300,"verdict":"delete","cause":"selected","rule":"pull requests",'
        '"needed_by":[],"reason":"every tag matches pr-*; 53 days old, at least 14"}]}'
    )


def test_limits_apply_to_a_plan() -> None:
    plan = make_plan([repository("a", image(1))], policy(EVERYTHING), NOW, limits=Limits(max_images=0))
    assert plan.exceeded == (Exceeded("max_images", 1, 0),)
    assert make_plan([repository("a", image(1))], policy(EVERYTHING), NOW).exceeded == ()


def test_ages_are_relative_to_now() -> None:
    listed = repository("a", image(1, "pr-1", days=13.5))
    verdicts = [make_plan([listed], policy(PR), NOW + hours).decisions[0].verdict for hours in (timedelta(0), DAY / 2)]
    assert verdicts == ["keep", "delete"]


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        pytest.param({"name": "newest", "keep": {"newest": 1}}, {}, id="of the repository"),
        pytest.param({"name": "newest", "keep": {"newest": 1, "per": "registry"}}, {}, id="of the registry"),
        pytest.param(None, {"keep_per_repository": 1}, id="always kept"),
    ],
)
def test_does_not_count_a_possible_referrer(rule: dict[str, Any] | None, options: dict[str, Any]) -> None:
    rules = policy(EVERYTHING, *([rule] if rule else []))
    images = [image(1, "v2", days=5), image(2, "v1", days=6)]
    unread = [image(number, days=1, subject=None) for number in (3, 4)]
    verdicts = {name: decision.verdict for name, decision in decisions(rules, *images, *unread, **options).items()}
    assert verdicts == {"1": "keep", "2": "delete", "3": "keep", "4": "keep"}
    read = [replace(row, subject=digest(1)) for row in unread[:1]] + [replace(row, subject=UNSET) for row in unread[1:]]
    verdicts = {name: decision.verdict for name, decision in decisions(rules, *images, *read, **options).items()}
    assert verdicts == {"1": "delete", "2": "delete", "3": "delete", "4": "keep"}


def test_beyond_newest_does_not_count_a_possible_referrer() -> None:
    rules = policy({"name": "beyond", "delete": {"beyond_newest": 1}})
    made = decisions(rules, image(1, "v2", days=5), image(2, "v1", days=6), image(3, days=1, subject=None))
    assert {name: decision.verdict for name, decision in made.items()} == {"1": "keep", "2": "delete", "3": "keep"}
