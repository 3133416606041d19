"""Unlistable repositories stay whole, unreadable indexes keep their children, and an untrustworthy scan fails."""

from datetime import timedelta

import pytest

from tests.support.harness import MakeHarness
from tests.support.simulator.client import Simulator

DAY = timedelta(days=1)


def test_keeps_every_image_of_an_unlistable_repository(simulator: Simulator, make_harness: MakeHarness) -> None:
    hidden = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    seen = simulator.push("shop/web", tags=["pr-1"], age=30 * DAY)
    simulator.fault("html", path="repositoryName=.*api")
    harness = make_harness()

    run = harness.sweep()

    assert harness.outcomes(run.id) == {seen["digest"]: ("deleted", None)}
    assert (run.outcome, run.complete, run.images) == ("partial", False, 1)
    assert [failure["repository"] for failure in run.unreadable] == ["shop/api"]
    assert hidden["digest"] in {image["digest"] for image in simulator.images()}


@pytest.mark.parametrize(
    ("fault", "switches", "says"),
    [
        pytest.param({}, {"clock_skew": 400.0}, "clock", id="a clock six minutes off"),
        pytest.param({"kind": "html", "path": "repositoryName"}, {}, "production", id="no repository is readable"),
        pytest.param({"kind": "broken_utf8", "path": "/repositories"}, {}, "production", id="the list is no text"),
        pytest.param({}, {"may_view": False}, "production", id="no permission"),
    ],
)
def test_an_untrustworthy_scan_fails_the_run(
    simulator: Simulator, make_harness: MakeHarness, fault: dict[str, str], switches: dict[str, object], says: str
) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    simulator.switch(**switches)
    if fault:
        simulator.fault(**fault)
    harness = make_harness()

    run = harness.sweep()

    assert (run.state, run.outcome, run.planned) == ("finished", "failed", 0)
    assert says in (run.message or "")
    assert "\n" not in (run.message or "")
    assert simulator.requests(method="DELETE") == []


def test_an_unreadable_index_keeps_what_could_be_its_child(simulator: Simulator, make_harness: MakeHarness) -> None:
    child = simulator.push("shop/api", age=30 * DAY)
    index = simulator.push_index("shop/api", [child["digest"]], tags=["pr-1"], age=30 * DAY)
    simulator.fault("status", path=f"/v2/.*{index['digest']}", status=404)
    harness = make_harness()

    run = harness.sweep()

    assert (run.planned, run.outcome) == (0, "partial")
    (unreadable,) = run.unreadable_images
    assert (unreadable["repository"], unreadable["digest"]) == ("shop/api", index["digest"])
