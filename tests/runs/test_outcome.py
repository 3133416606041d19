"""The outcome of a run, and its message about skipped and unreadable images."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.harness import Harness
from tests.support.simulator.client import Simulator
from worker.runs.outcome import message_of, outcome_of
from worker.store.runs import Run
from worker.store.verification import Unsuccessful

DAY = timedelta(days=1)
X = {"repository": "shop/x", "reason": "HTTP 500: no"}
IMAGE = {"repository": "shop/y", "digest": "sha256:ab", "reason": "it is no manifest"}


@pytest.fixture
def run(simulator: Simulator, make_harness: Callable[..., Harness]) -> Run:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    simulator.push("shop/api", tags=["v1"], age=30 * DAY)
    run = make_harness().sweep()
    assert (run.outcome, run.message) == ("succeeded", None)
    return run


def skipped(cause: str, state: str = "skipped") -> Unsuccessful:
    return Unsuccessful(state, cause, 1, "shop/api", "sha256:cd", "the reason")


@pytest.mark.parametrize(
    ("cause", "outcome"),
    [("repository_changed", "partial"), ("mode", "partial"), ("changed", "succeeded"), ("locked", "succeeded")],
)
def test_the_outcome_of_a_run_with_a_skip(run: Run, cause: str, outcome: str) -> None:
    assert outcome_of(run, [skipped(cause)]) == outcome


def test_the_message_names_what_could_not_be_read(run: Run) -> None:
    unreadable = replace(run, unreadable=(X,), complete=False)
    assert outcome_of(unreadable, []) == "partial"
    assert message_of(unreadable, []) == "1 repository could not be read: shop/x: HTTP 500: no"
    assert message_of(unreadable, [skipped("locked")]) == message_of(unreadable, [])
    assert (message_of(unreadable, [skipped("other", "failed")]) or "").startswith("1 of 1 image failed (other)")

    two = replace(run, unreadable=(X, X), complete=False)
    assert (message_of(two, []) or "").startswith("2 repositories could not be read, the first: shop/x: HTTP 500: no;")

    image = replace(run, unreadable_images=(IMAGE,))
    assert outcome_of(image, []) == "partial"
    assert message_of(image, []) == "1 image could not be read: shop/y@sha256:ab: it is no manifest"
