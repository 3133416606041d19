"""Subjects of untagged images that no listing reports: read before a rule may delete the image."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import Harness, MakeHarness
from tests.support.simulator.client import Simulator
from worker.config.kinds import kind_of
from worker.planning import scan
from worker.planning.planner import Planned, plan
from worker.planning.subjects import plan_with_subjects
from worker.registries import open_registry
from worker.store.manifests import StoredManifests
from worker.store.runs import Run

DAY = timedelta(days=1)
KINDS = ("yandex-container-registry", "yandex-cloud-registry")


@pytest.fixture(params=KINDS)
def sweep(request: pytest.FixtureRequest, simulator: Simulator, tmp_path: Path) -> Iterator[MakeHarness]:
    """A registry of either kind, whose policy deletes old untagged images."""
    made: list[Harness] = []

    def make(**registry: Any) -> Harness:
        cloud = request.param == "yandex-cloud-registry"
        endpoints = simulator.cloud_endpoints() if cloud else simulator.endpoints()
        made.append(Harness(simulator, tmp_path, kind=request.param, endpoints=endpoints, **registry))
        return made[-1]

    yield make
    for run_id in made:
        run_id.store.dispose()


def pushed(simulator: Simulator, *tags: str, subject: str | None = None, repository: str = "shop/api") -> str:
    """An image of a month ago; its digest."""
    return str(simulator.push(repository, tags=tags, age=30 * DAY, subject=subject)["digest"])


def there(simulator: Simulator) -> set[str]:
    return {image["digest"] for image in simulator.images()}


def read(simulator: Simulator, digest: str) -> int:
    """How often its manifest was read."""
    reads = [request for request in simulator.requests("GET") if request["path"].endswith(f"/manifests/{digest}")]
    return sum(request["status"] == 200 for request in reads)


def planned(harness: Harness) -> Planned:
    return scan.plan_live(harness.settings, "production", store=harness.store)


def kept(plan: Planned) -> dict[str, tuple[str, str]]:
    """Cause and reason of each kept image, by digest."""
    decisions = list(plan.decisions.records())
    return {decision.digest: (decision.cause, decision.reason) for decision in decisions if decision.verdict == "keep"}


def message(run: Run) -> str:
    (warning,) = [listed_warning for listed_warning in run.warnings if listed_warning["code"] == "subjects_unknown"]
    return f"{warning['code']}: {warning['message']}"


def test_keeps_a_referrer_of_a_kept_image(simulator: Simulator, sweep: MakeHarness) -> None:
    release, build = pushed(simulator, "v1"), pushed(simulator, "pr-1")
    attestation = pushed(simulator, subject=release)
    its_signature = pushed(simulator, subject=attestation)
    of_build = pushed(simulator, subject=build)
    leftover = pushed(simulator)
    harness = sweep()
    before = planned(harness)

    run = harness.sweep()

    assert there(simulator) == {release, attestation, its_signature}
    assert (run.outcome, run.warnings) == ("succeeded", ())
    assert {planned_item.decision.digest for planned_item in harness.items(run.id)} == {build, of_build, leftover}
    assert kept(before).keys() == {release, attestation, its_signature}
    assert kept(before)[attestation] == ("needed", f"subject {release[:19]}… is kept")


@pytest.mark.parametrize("may_pull", [True, False])
def test_a_referrer_does_not_count_among_the_newest(simulator: Simulator, sweep: MakeHarness, may_pull: bool) -> None:
    rules = [{"name": "newest", "keep": {"newest": 2}}, {"name": "old", "delete": {"older_than": "7d"}}]
    _old, first, second = (pushed(simulator, tag) for tag in ("v1", "v2", "v3"))
    referrers = {pushed(simulator, subject=second) for _ in range(3)}
    simulator.switch(may_pull=may_pull)
    sweep(rules=rules).sweep()
    assert there(simulator) == {first, second, *referrers}


def test_reads_a_manifest_once_and_only_if_it_matters(simulator: Simulator, sweep: MakeHarness) -> None:
    release = pushed(simulator, "v1")
    attestation = pushed(simulator, subject=release)
    young = str(simulator.push("shop/api")["digest"])
    harness = sweep(mode="dry-run")
    for _ in range(3):
        harness.sweep()
        planned(harness)
    assert [read(simulator, digest) for digest in (attestation, release, young)] == [1, 0, 0]


@pytest.mark.parametrize("fault", [{"may_pull": False}, {"ip_rules": "refuse"}])
def test_keeps_images_whose_manifests_may_not_be_read(
    simulator: Simulator, sweep: MakeHarness, fault: dict[str, Any]
) -> None:
    release = pushed(simulator, "v1")
    unread = {pushed(simulator, subject=release), pushed(simulator), pushed(simulator, repository="shop/web")}
    pushed(simulator, "pr-1")
    simulator.switch(**fault)
    harness = sweep()

    run = harness.sweep()

    assert there(simulator) == {release, *unread}
    assert run.outcome == "succeeded"
    assert message(run).startswith("subjects_unknown: 3 untagged images are kept because their manifests could not be")
    assert kind_of(harness.settings.registries["production"].kind).to_read in message(run)
    causes = {kept(planned(harness))[digest] for digest in unread}
    assert causes == {
        (
            "unreadable",
            "its manifest was not read: it may be a signature or an attestation of an image that is kept",
        )
    }
    simulator.switch(may_pull=True, ip_rules="open")
    assert harness.sweep().outcome == "succeeded"
    assert len(there(simulator)) == 2


def test_an_unreadable_manifest_does_not_delay_others(simulator: Simulator, sweep: MakeHarness) -> None:
    odd, leftovers = pushed(simulator), [pushed(simulator) for _ in range(4)]
    simulator.fault("status", method="GET", path=f"/manifests/{odd}", status=404, body="{}")
    run = sweep().sweep()
    assert there(simulator) == {odd}
    assert message(run).startswith("subjects_unknown: 1 untagged image is kept because its manifest could not be read")
    assert run.deleted == len(leftovers)


def test_a_later_scan_reads_manifests_that_one_scan_did_not_reach(simulator: Simulator, sweep: MakeHarness) -> None:
    release = pushed(simulator, "v1")
    attestation, leftover = pushed(simulator, subject=release), pushed(simulator)
    harness = sweep()
    registry = harness.settings.registries["production"]
    inventory = scan.list_live(registry)

    late = plan_with_subjects(
        lambda: plan(inventory, registry, inventory.listed_at),
        lambda: open_registry(registry, manifests=StoredManifests(harness.store, registry.key)),
        seconds=0.0,
    )

    assert kept(late).keys() == {release, attestation, leftover}
    assert "2 untagged images are kept" in late.warnings[0].message
    assert "each scan reads for 10 minutes" in late.warnings[0].message
    assert read(simulator, attestation) == read(simulator, leftover) == 0
    assert (harness.sweep().warnings, there(simulator)) == ((), {release, attestation})


def test_a_new_signature_of_a_planned_image_keeps_it(simulator: Simulator, sweep: MakeHarness) -> None:
    first, second = pushed(simulator, "pr-1"), pushed(simulator, "pr-2")
    harness = sweep()
    run_id, task_calls = harness.plan()
    signature = pushed(simulator, subject=first)

    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {first: ("skipped", "still_needed"), second: ("deleted", None)}
    assert there(simulator) == {first, signature}


def test_an_unreadable_new_image_stops_deletions_in_its_repository(simulator: Simulator, sweep: MakeHarness) -> None:
    build = pushed(simulator, "pr-1")
    harness = sweep()
    run_id, task_calls = harness.plan()
    new = pushed(simulator, subject=build)
    simulator.switch(may_pull=False)

    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {build: ("skipped", "repository_changed")}
    assert there(simulator) == {build, new}


def test_reads_the_images_of_a_fallback_list_of_referrers(simulator: Simulator, sweep: MakeHarness) -> None:
    release = pushed(simulator, "v1")
    referrer = str(simulator.push("shop/api", subject=release)["digest"])
    simulator.push_index("shop/api", [referrer], tags=[release.replace(":", "-")])
    harness = sweep(mode="dry-run")
    images = {
        image.digest: image for repository in planned(harness).inventory.repositories() for image in repository.images
    }
    assert images[referrer].subject == release
