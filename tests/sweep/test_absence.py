"""Credentials that lose their rights during a run see 404 and empty lists: no image counts as deleted by that."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.support.harness import Harness, MakeHarness
from tests.support.oci.fake import BasicAuth, FakeRegistry, UserListAuth
from tests.support.oci.real_runs import served
from tests.support.simulator.client import Simulator
from worker.store.tables import audit, item

DAY = timedelta(days=1)
IMAGES = r"/container-registry/v1/images/"
LISTS = r"/container-registry/v1/images\?"
PULLS = [{"name": "pull requests", "delete": {"tags": ["pr-*"]}}]


def audited(harness: Harness) -> list[str]:
    with harness.store.read() as connection:
        return list(connection.execute(select(audit.c.outcome)).scalars())


def crash_after_the_intent(harness: Harness) -> None:
    """As a worker leaves the store that dies between its intents and its DELETEs."""
    with harness.store.write() as connection:
        values = {"state": "intent", "attempts": 1, "idempotency_key": "k", "intent_at": datetime.now(UTC)}
        connection.execute(update(item).values(**values))


def listed_again(harness: Harness) -> tuple[str, list]:
    run_id, task_calls = harness.plan()
    while task_calls and task_calls[0].task == "gc.recheck":
        task_calls = [*task_calls[1:], *harness.do(task_calls[0])]
    return run_id, task_calls


@pytest.mark.parametrize("keeps", ["here", "elsewhere", "nothing"])
@pytest.mark.parametrize("crashed", [False, True])
def test_an_empty_list_confirms_no_404(
    simulator: Simulator, make_harness: MakeHarness, keeps: str, crashed: bool
) -> None:
    for number in range(6):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY, layers=[1000 * (number + 1)])
    if keeps != "nothing":
        simulator.push("shop/api" if keeps == "here" else "shop/web", tags=["v1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = listed_again(harness)
    if crashed:
        crash_after_the_intent(harness)
    simulator.fault("error", method="GET", path=IMAGES, code=5, message="Image not found")
    simulator.fault("status", method="GET", path=LISTS, status=200, body="{}")

    harness.carry_out(task_calls)

    run = harness.run(run_id)
    assert set(harness.outcomes(run_id).values()) == {("failed", "unconfirmed")}
    assert (run.outcome, run.gone, run.deleted, run.reclaimed_bytes) == ("partial", 0, 0, 0)
    assert "not trusted" in (run.message or "")
    assert audited(harness) == []

    simulator.no_faults()
    again = harness.sweep()

    assert (again.outcome, again.deleted) == ("succeeded", 6)
    assert again.reclaimed_bytes == simulator.state()["lost_bytes"]


@pytest.mark.parametrize("keeps", ["here", "elsewhere"])
def test_trusts_a_404_while_the_registry_lists_kept_images(
    simulator: Simulator, make_harness: MakeHarness, keeps: str
) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    simulator.push("shop/api" if keeps == "here" else "shop/web", tags=["v1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = listed_again(harness)
    simulator.switch(missing_repository="empty")
    simulator.remove(image["id"])

    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {image["digest"]: ("gone", None)}
    assert harness.run(run_id).outcome == "succeeded"


@pytest.mark.parametrize("keeps", ["shop/api", "shop/web", ""])
def test_reads_kept_images_by_digest_where_only_tags_are_listed(fake: FakeRegistry, tmp_path: Path, keeps: str) -> None:
    fake.fill("shop/api", 3, prefix="pr-")
    if keeps:
        fake.push(keeps, "v1")
    keys: dict[str, Any] = {"rules": PULLS, "rate": {"requests_per_second": 1000, "concurrency": 4}}
    harness = Harness(served(fake), tmp_path, **keys)  # type: ignore[arg-type]  # a registry's url is all that is taken of it
    run_id, task_calls = listed_again(harness)
    fake.fault("status", path="/manifests/", status=404, times=None)

    harness.carry_out(task_calls)

    assert set(harness.outcomes(run_id).values()) == {
        ("skipped", "repository_changed")
    }  # the tags are listed, and name nothing
    harness.store.dispose()


@pytest.mark.parametrize(("witness", "state", "cause"), [("b/kept", "gone", None), ("a/kept", "failed", "unconfirmed")])
def test_only_what_the_same_credentials_read_confirms_a_404(
    tmp_path: Path, witness: str, state: str, cause: str | None
) -> None:
    users = {BasicAuth("robot-a", "sesame"): ("a/kept",), BasicAuth("robot-b", "poppy"): ("b/api", "b/kept")}
    ways = []
    for user in users:
        (tmp_path / user.user).write_text(user.password)
        password = {"file": str(tmp_path / user.user)}
        ways.append({"repositories": [f"{user.user[-1]}/**"], "username": user.user, "password": password})
    with FakeRegistry(UserListAuth(users, catalog=("robot-a", "robot-b"))) as registry:
        registry.fill("b/api", 3, prefix="pr-")
        registry.push(witness, "v1")
        keys: dict[str, Any] = {"rules": PULLS, "rate": {"requests_per_second": 1000, "concurrency": 4}}
        harness = Harness(served(registry, credentials=ways), tmp_path, **keys)
        run_id, task_calls = listed_again(harness)
        registry.fault("status", path="/b/api/manifests/", status=404, times=None)
        for number in range(3):
            registry.untag("b/api", f"pr-{number:05}")

        harness.carry_out(task_calls)

        assert set(harness.outcomes(run_id).values()) == {(state, cause)}
        assert harness.run(run_id).outcome == ("succeeded" if state == "gone" else "partial")
        harness.store.dispose()
