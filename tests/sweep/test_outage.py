"""Registries that delete in a later task, restart during a run, or are away for some seconds."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import Harness
from tests.support.oci.fake import FakeRegistry
from tests.support.oci.real_runs import served
from tests.support.waiting import until
from worker.registries import open_registry
from worker.registries.http.messages import Retries
from worker.store.runs import Run
from worker.sweep.outage import OutageWait

OLD = [{"name": "old", "delete": {"tags": ["t0*"]}}]


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.push("shop/api", "v1")
        yield registry
        assert registry.refused == []


@pytest.fixture
def harness(fake: FakeRegistry, tmp_path: Path) -> Iterator[Harness]:
    keys: dict[str, Any] = {"rules": OLD, "rate": {"requests_per_second": 1000, "concurrency": 8}, "mode": "delete"}
    made = Harness(served(fake), tmp_path, **keys)  # type: ignore[arg-type]  # a registry's url is all that is taken of it
    yield made
    made.store.dispose()


def finished(harness: Harness) -> Run:
    """A whole run. On a busy machine a lease may expire; reconcile then publishes the remaining task calls."""
    run_id, task_calls = harness.plan()
    harness.carry_out(task_calls)

    def over() -> bool:
        return harness.run(run_id).state == "finished" or bool(harness.carry_out(harness.reconcile()))

    until(over, timeout=60, what="the end of the run", every=0.2)
    return harness.run(run_id)


def test_polls_a_deletion_that_the_registry_carries_out_later(fake: FakeRegistry, harness: Harness) -> None:
    """Longer than a claim waits, one after the other: nothing waits for a lease to run out."""
    fake.switches.deletion_seconds = 0.4
    fake.fill("shop/api", 12)

    run = harness.sweep()

    assert (run.outcome, run.deleted, run.failed) == ("succeeded", 12, 0)
    assert len(fake.lines("DELETE")) == 12


@pytest.mark.parametrize("when", ["HEAD", "DELETE"])
def test_a_restart_of_the_registry_fails_no_image(fake: FakeRegistry, harness: Harness, when: str) -> None:
    fake.fill("shop/api", 30)
    fake.before(when, "/manifests/sha256:", lambda: fake.restart(5.0), after=5)

    run = finished(harness)

    assert (run.outcome, run.deleted, run.failed, run.gone) == ("succeeded", 30, 0, 0)
    assert run.systemic_failures == 0


def test_a_restart_during_a_recheck_skips_no_repository(fake: FakeRegistry, harness: Harness) -> None:
    fake.fill("shop/api", 3)
    run_id, task_calls = harness.plan()
    fake.before("GET", "/tags/list", lambda: fake.restart(4.0))

    harness.carry_out(task_calls)

    assert harness.run(run_id).deleted == 3


@pytest.mark.parametrize("seconds", [4.0, 12.0])
def test_waits_once_for_a_proxy_without_its_registry(fake: FakeRegistry, harness: Harness, seconds: float) -> None:
    fake.fill("shop/api", 30)
    run_id, task_calls = harness.plan_and_recheck()
    fake.fault("status", status=502, times=None)
    threading.Timer(seconds, fake.heal).start()
    began = time.monotonic()

    harness.carry_out(task_calls)

    run = harness.run(run_id)
    assert (run.outcome, run.deleted, run.failed) == ("succeeded", 30, 0)
    assert time.monotonic() - began < 60


def test_all_threads_wait_once_for_a_lasting_outage(fake: FakeRegistry, harness: Harness) -> None:
    fake.fault("status", status=502, times=None)
    with open_registry(harness.settings.registries["production"], retries=Retries(attempts=1)) as driver:
        outage = OutageWait(driver)
        began = time.monotonic()
        assert not outage.is_over(began, began + 1.0)
        assert time.monotonic() - began >= 0.5
        fake.heal()
        assert not outage.is_over(time.monotonic(), time.monotonic() + 60.0)
