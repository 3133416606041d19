"""A recheck: once for all batches that wait for it, by one at a time, and what it finds binds who deletes."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.support.harness import Harness, MakeHarness
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.runs import checkpoints, lifecycle
from worker.runs.lifecycle import Bell
from worker.store import looks
from worker.store.tables import batch, item, repository

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def go_on(night: Harness, run_id: str) -> None:
    """Let every mark of a ringing run out, and carry on, a few times over: as minutes of reconcile would."""
    for _ in range(6):
        night.write(update(batch).values(rung_at=None))
        night.ring(lifecycle.ring(night.store, run_id, datetime.now(UTC)))


def listings(simulator: Simulator) -> list[dict[str, Any]]:
    """Requests for pages of images."""
    return [one for one in simulator.requests(method="GET") if one["path"].endswith("/images")]


class TestALook:
    def test_that_is_too_old_is_done_again_before_anything_goes(self, simulator: Simulator, night: MakeHarness) -> None:
        simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        tonight = night()
        run_id, bells = tonight.plan_and_recheck()
        tonight.write(update(repository).values(looked_at=datetime.now(UTC) - timedelta(minutes=11)))

        assert tonight.do(bells[0]) == (Bell("gc.look", (run_id, "shop/api")),)
        assert simulator.requests("DELETE") == []

    def test_is_done_once_for_all_batches_that_ask_for_it(self, simulator: Simulator, night: MakeHarness) -> None:
        for number in range(205):
            simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
        tonight = night()
        run_id, bells = tonight.plan_and_recheck()
        assert len(bells) == 3
        tonight.write(update(repository).values(looked_at=None))
        before = len(listings(simulator))
        asked = [bell for one in bells for bell in tonight.do(one)]

        rung = [bell for one in asked for bell in tonight.do(one)]

        assert asked == [Bell("gc.look", (run_id, "shop/api"))] * 3
        assert len(listings(simulator)) == before + 1
        assert sorted(bell.args[1] for bell in rung) == [0, 1, 2]

    @pytest.mark.parametrize("fault", ["no permission", "no JSON"])
    def test_that_fails_for_every_repository_ends_the_run(
        self, simulator: Simulator, night: MakeHarness, fault: str
    ) -> None:
        for number in range(12):
            simulator.push(f"shop/api{number}", tags=["pr-1"], age=30 * DAY)
        tonight = night()
        run_id, bells = tonight.plan()
        if fault == "no permission":
            simulator.switch(may_view=False)
        else:
            simulator.fault("status", path="repositoryName", status=200, body="<html>sign in</html>")

        tonight.ring(bells)

        finished = tonight.run(run_id)
        assert (finished.state, finished.outcome, finished.deleted) == ("finished", "failed", 0)
        assert "10 failures in a row" in (finished.message or "")
        assert {state for state, _ in tonight.outcomes(run_id).values()} == {"planned"}


def test_one_look_at_a_time(simulator: Simulator, night: MakeHarness) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, _ = tonight.plan()
    with tonight.store.write() as connection:
        now = tonight.store.now(connection)
        times = {"now": now, "until": now + HOUR, "fresh": now - lifecycle.LOOK_IS_GOOD}
        assert looks.claim(connection, run_id, "shop/api", owner="one", **times)
        assert not looks.claim(connection, run_id, "shop/api", owner="another", **times)
    assert tonight.do(Bell("gc.look", (run_id, "shop/api"))) == ()
    assert listings(simulator)[1:] == []
    with tonight.store.read() as connection:
        assert connection.execute(select(item.c.state)).scalars().all() == ["planned"]


def test_what_a_look_finds_against_a_begun_deletion_binds_who_holds_it(
    simulator: Simulator, night: MakeHarness
) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, bells = tonight.plan_and_recheck()
    simulator.fault("status", method="DELETE", status=503)
    tonight.ring(bells)
    before = len(simulator.requests("DELETE"))
    simulator.no_faults()
    simulator.sign("shop/api", image["digest"])
    tonight.write(update(batch).values(lease_until=datetime.now(UTC) + HOUR))  # its worker is still at it
    tonight.write(update(repository).values(looked_at=None))
    tonight.do(Bell("gc.look", (run_id, "shop/api")))
    assert tonight.outcomes(run_id) == {image["digest"]: ("intent", None)}
    tonight.write(update(batch).values(lease_until=None))

    go_on(tonight, run_id)

    assert tonight.outcomes(run_id) == {image["digest"]: ("failed", "unconfirmed")}
    assert len(simulator.requests("DELETE")) == before


def test_a_look_settles_nothing_in_a_run_that_was_stopped_meanwhile(simulator: Simulator, night: MakeHarness) -> None:
    kept = simulator.push("shop/api", tags=["v1"], age=30 * DAY)
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, bells = tonight.plan()
    simulator.remove(kept["id"])
    simulator.fault("latency", path="repositoryName", seconds=1.0)
    listed = len(listings(simulator))
    looking = threading.Thread(target=tonight.do, args=(bells[0],))
    looking.start()
    until(lambda: len(listings(simulator)) > listed, what="the look's listing")
    lifecycle.abort(tonight.store, run_id, datetime.now(UTC))
    looking.join()

    assert tonight.run(run_id).outcome == "aborted"
    assert {state for state, _ in tonight.outcomes(run_id).values()} == {"planned"}


def test_a_recheck_that_lost_its_lease_records_nothing(simulator: Simulator, night: MakeHarness) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, bells = tonight.plan()
    simulator.tag("shop/api", "pr-1", "stable")

    def take_over(point: str) -> None:
        if point == "look_claimed":
            with tonight.store.write() as connection:
                connection.execute(update(repository).values(fence=repository.c.fence + 1, owner="another"))

    checkpoints.visitors.append(take_over)
    try:
        tonight.do(bells[0])
    finally:
        checkpoints.visitors.remove(take_over)

    assert bells[0].task == "gc.look"
    assert tonight.outcomes(run_id) == {image["digest"]: ("planned", None)}
    with tonight.store.read() as connection:
        assert connection.execute(select(repository.c.looked_at)).scalars().all() == [None]
