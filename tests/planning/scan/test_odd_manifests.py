"""Runs on registries with incomplete manifests: which images stay, with which reason, and which are deleted."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.harness import Harness
from tests.support.oci import manifests as m
from tests.support.oci.fake import FakeRegistry
from tests.support.oci.real_runs import served

PULL_REQUESTS = [{"name": "pull requests", "delete": {"tags": ["pr-*"]}}]


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        yield fake
        assert fake.refused == []


def push_unreadable(registry: FakeRegistry, *tags: str) -> str:
    """A manifest with the media type of an image that lists manifests."""
    inner = registry.push("shop/api", layers=[b"inner"])
    body = json.dumps({"schemaVersion": 2, "mediaType": m.IMAGE, "manifests": [inner.descriptor.document()]})
    return registry.put("shop/api", body.encode(), m.IMAGE, *tags).digest


def test_names_an_unreadable_image_that_the_file_can_ignore(registry: FakeRegistry, tmp_path: Path) -> None:
    old = registry.push("shop/api", "pr-1", layers=[b"old"])
    registry.push("shop/web", "v1")
    odd = push_unreadable(registry, "pr-2")
    harness = Harness(served(registry), tmp_path, rules=PULL_REQUESTS)

    run = harness.sweep()
    assert (run.outcome, run.planned, registry.deleted) == ("partial", 0, [])
    assert [(unreadable["repository"], unreadable["digest"]) for unreadable in run.unreadable_images] == [
        ("shop/api", odd)
    ]
    assert "unreadable_images" in [warning["code"] for warning in run.warnings]

    harness.rewrite(rules=PULL_REQUESTS, ignore_unreadable=[odd])
    run = harness.sweep()
    assert (run.outcome, run.unreadable_images) == ("succeeded", ())
    assert registry.deleted == [("shop/api", old.digest)]


def test_explains_why_an_image_is_unreadable(registry: FakeRegistry, tmp_path: Path) -> None:
    inner, broken, whole = (registry.push("shop/api", tag, layers=[tag.encode()]) for tag in ("a", "b", "c"))
    odd = push_unreadable(registry, "d")
    registry.fault("status", "GET", f"/manifests/{inner.digest}", times=None, status=400, code="MANIFEST_INVALID")
    registry.fault("html", "GET", f"/manifests/{broken.digest}", times=None, status=200)
    run = Harness(served(registry), tmp_path, rules=PULL_REQUESTS).sweep()
    reasons = {unreadable["digest"]: unreadable["reason"] for unreadable in run.unreadable_images}
    assert set(reasons) == {inner.digest, broken.digest, odd}
    assert "could not be read (HTTP 400: MANIFEST_INVALID" in reasons[inner.digest]
    assert f"(the manifest does not have the digest {broken.digest})" in reasons[broken.digest]
    assert f"(the manifest lists manifests, but its type is '{m.IMAGE}')" in reasons[odd]
    assert whole.digest not in reasons


def test_an_unreadable_image_pushed_after_the_plan_stops_its_repository_unless_ignored(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    old = registry.push("shop/api", "pr-1", layers=[b"old"])
    harness = Harness(served(registry), tmp_path, rules=PULL_REQUESTS)
    run_id, task_calls = harness.plan()
    odd = push_unreadable(registry, "new")
    harness.carry_out(task_calls)
    assert [item.outcome_cause for item in harness.items(run_id)] == ["repository_changed"]

    registry.untag("shop/api", "new")
    harness.rewrite(rules=PULL_REQUESTS, ignore_unreadable=[odd])
    run_id, task_calls = harness.plan()
    registry.move_tag("shop/api", "newer", odd)
    harness.carry_out(task_calls)
    assert harness.run(run_id).outcome == "succeeded"
    assert registry.deleted == [("shop/api", old.digest)]


@pytest.mark.parametrize(
    ("layers", "size", "reclaimed"),
    [
        pytest.param(2, 2**63 - 1, range(1, 2000), id="impossible sizes"),
        pytest.param(9000, 2**50, range(2**53, 2**53 + 1), id="possible sizes whose sum no column holds"),
    ],
)
@pytest.mark.parametrize("tag", ["pr-1", "kept"])
def test_invented_sizes_do_not_fail_a_run(
    registry: FakeRegistry, tmp_path: Path, layers: int, size: int, reclaimed: range, tag: str
) -> None:
    registry.push("shop/api", tag, layers=[(m.digest_of(b"%d" % number), size) for number in range(layers)])
    honest = registry.push("shop/web", "pr-2", layers=[b"honest"])
    harness = Harness(served(registry), tmp_path, rules=PULL_REQUESTS)
    run = harness.sweep()
    assert (run.outcome, run.deleted) == ("succeeded", 2 if tag == "pr-1" else 1)
    assert ("shop/web", honest.digest) in registry.deleted
    assert "unknown_sizes" in [warning["code"] for warning in run.warnings]
    assert run.reclaimed_bytes in (reclaimed if tag == "pr-1" else range(1, 2000))
    assert run.reclaimable_bytes >= run.reclaimed_bytes


@pytest.mark.parametrize("capitals", [True, False])
def test_an_invalid_repository_name_does_not_fail_a_run(registry: FakeRegistry, tmp_path: Path, capitals: bool) -> None:
    old, other = registry.push("shop/api", "pr-1"), registry.push("Team/App", "pr-1", layers=[b"other"])
    registry.empty("Bad//name")
    registry.switches.capitals = capitals
    run = Harness(served(registry), tmp_path, rules=PULL_REQUESTS).sweep()
    assert run.outcome == "partial"
    unreadable = ["Bad//name"] if capitals else ["Bad//name", "Team/App"]
    assert [failure["repository"] for failure in run.unreadable] == unreadable
    expected = [("Team/App", other.digest)] if capitals else []
    assert sorted(registry.deleted) == [*expected, ("shop/api", old.digest)]


@pytest.mark.parametrize("beside", ["nothing", "an empty repository"])
def test_a_registry_with_only_unserved_names_does_not_fail_a_run(
    registry: FakeRegistry, tmp_path: Path, beside: str
) -> None:
    registry.push("Team/App", "pr-1")
    registry.empty("Bad//name")
    if beside != "nothing":
        registry.empty("shop/api")
    run = Harness(served(registry), tmp_path, rules=PULL_REQUESTS).sweep()
    assert (run.outcome, run.planned, run.complete) == ("partial", 0, False)
    reasons = {failure["repository"]: failure["reason"] for failure in run.unreadable}
    assert sorted(reasons) == ["Bad//name", "Team/App"]
    assert "the catalog lists an invalid repository name: 'Bad//name'" in reasons["Bad//name"]
    assert "no specification allows the repository name 'Team/App'" in reasons["Team/App"]
    assert registry.deleted == []


@pytest.mark.parametrize("path", ["/shop/api/tags/", "/tags/"], ids=["the others", "all that are asked for"])
def test_an_unlistable_registry_fails_the_run_despite_unserved_names(
    registry: FakeRegistry, tmp_path: Path, path: str
) -> None:
    registry.push("shop/api", "pr-1")
    registry.push("Team/App", "pr-1", layers=[b"other"])
    registry.empty("Bad//name")
    registry.fault("status", "GET", path, times=None, status=503, headers={"Retry-After": "0"})
    run = Harness(served(registry), tmp_path, rules=PULL_REQUESTS).sweep()
    assert (run.outcome, run.planned) == ("failed", 0)
    assert "503" in run.message
