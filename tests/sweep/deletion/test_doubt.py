"""Between our reading, our asking and the registry's doing anything may happen: what goes is right, and counted."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from tests.support.night import Night
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.registries.http.redis_limit import RedisLimiter
from worker.runs import lifecycle
from worker.runs.lifecycle import Bell
from worker.store import StoreError, looks, sweeping
from worker.store import runs as run_rows
from worker.store.tables import audit, batch, item, repository, run
from worker.sweep import batches

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MakeNight = Callable[..., Night]
SLOWLY = {"requests_per_second": 500, "concurrency": 1}


def write(night: Night, statement: Any) -> None:
    with night.store.write() as connection:
        connection.execute(statement)


def ready(night: Night) -> tuple[str, list[Bell]]:
    """A planned run, looked at: its batches' bells."""
    run_id, bells = night.plan()
    bells = night.ring(bells, until="gc.delete_batch")
    return run_id, bells


def go_on(night: Night, run_id: str) -> None:
    """Let every mark of a ringing run out, and carry on, a few times over: as minutes of reconcile would."""
    for _ in range(6):
        write(night, update(batch).values(rung_at=None))
        night.ring(lifecycle.ring(night.store, run_id, datetime.now(UTC)))


def deletes(simulator: Simulator) -> list[dict[str, Any]]:
    return simulator.requests(method="DELETE")


def asked_for(simulator: Simulator, image_id: str) -> list[dict[str, Any]]:
    return [one for one in simulator.requests(method="GET") if one["path"].endswith(image_id)]


def listings(simulator: Simulator) -> list[dict[str, Any]]:
    """Requests for pages of images."""
    return [one for one in simulator.requests(method="GET") if one["path"].endswith("/images")]


class TestAChangeAfterTheReading:
    def test_while_the_registry_asks_for_a_pause(self, simulator: Simulator, night: MakeNight) -> None:
        image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        tonight = night()
        run_id, bells = ready(tonight)
        simulator.fault("error", method="DELETE", times=1, code=8, message="slow down", retry_after=4)
        simulator.after("DELETE", image["id"], "tag", repository="shop/api", reference=image["digest"], tag="stable")

        tonight.ring(bells)
        go_on(tonight, run_id)

        assert image["digest"] in {one["digest"] for one in simulator.images()}
        assert len(deletes(simulator)) == 1
        assert tonight.outcomes(run_id)[image["digest"]] == ("failed", "rate_limited")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            pytest.param("createdAt", "2026-02-03T04:05:06Z", id="push time"),
            pytest.param("digest", "sha256:" + "0" * 64, id="digest"),
            pytest.param("tags", ["pr-1", "pr-2"], id="tags"),
        ],
    )
    def test_in_any_fact_that_was_planned(
        self, simulator: Simulator, night: MakeNight, field: str, value: object
    ) -> None:
        image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        tonight = night()
        run_id, bells = ready(tonight)
        simulator.fault("wrong_types", method="GET", path=f"/images/{image['id']}", set={field: value})

        tonight.ring(bells)

        assert tonight.outcomes(run_id) == {image["digest"]: ("skipped", "changed")}
        assert deletes(simulator) == []


class TestADeletionLeftInDoubt:
    """Its DELETEs were answered 503 until the reading was too old: it may have been carried out."""

    def left(self, simulator: Simulator, night: MakeNight, **pushed: Any) -> tuple[Night, str, dict[str, Any]]:
        image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY, **pushed)
        tonight = night()
        run_id, bells = ready(tonight)
        simulator.fault("status", method="DELETE", status=503)
        tonight.ring(bells)
        simulator.no_faults()
        assert tonight.outcomes(run_id) == {image["digest"]: ("intent", None)}
        return tonight, run_id, image

    def test_is_asked_for_again_with_the_same_key(self, simulator: Simulator, night: MakeNight) -> None:
        tonight, run_id, image = self.left(simulator, night)
        before = len(deletes(simulator))

        go_on(tonight, run_id)

        assert tonight.outcomes(run_id) == {image["digest"]: ("deleted", None)}
        assert len(deletes(simulator)) == before + 1
        assert len({one["key"] for one in deletes(simulator)}) == 1

    def test_is_not_asked_for_again_when_something_needs_it_by_now(
        self, simulator: Simulator, night: MakeNight
    ) -> None:
        tonight, run_id, image = self.left(simulator, night)
        before = len(deletes(simulator))
        simulator.sign("shop/api", image["digest"])
        write(tonight, update(repository).values(looked_at=None))

        go_on(tonight, run_id)

        assert tonight.outcomes(run_id) == {image["digest"]: ("failed", "unconfirmed")}
        assert len(deletes(simulator)) == before

    def test_is_ours_when_it_is_gone(self, simulator: Simulator, night: MakeNight) -> None:
        simulator.push("shop/lib", tags=["v1"], age=30 * DAY, layers=[7])
        tonight, run_id, image = self.left(simulator, night)
        simulator.remove(image["id"])  # as if one of the lost DELETEs had done it

        go_on(tonight, run_id)

        assert tonight.outcomes(run_id) == {image["digest"]: ("deleted", None)}
        assert tonight.run(run_id).reclaimed_bytes == simulator.state()["lost_bytes"] > 0

    @pytest.mark.parametrize("way", ["dry-run", "invalid"])
    def test_is_unconfirmed_when_deleting_is_switched_off(
        self, simulator: Simulator, night: MakeNight, way: str
    ) -> None:
        tonight, run_id, image = self.left(simulator, night)
        if way == "dry-run":
            tonight.rewrite(mode="dry-run")
        else:
            tonight.path.write_text("{")

        go_on(tonight, run_id)

        assert tonight.outcomes(run_id) == {image["digest"]: ("failed", "unconfirmed")}
        assert tonight.run(run_id).outcome == "partial"

    def test_is_resolved_before_its_batch_is_poison(self, simulator: Simulator, night: MakeNight) -> None:
        other = simulator.push("shop/api", tags=["pr-2"], age=30 * DAY)
        simulator.push("shop/lib", tags=["v1"], age=30 * DAY, layers=[7])
        tonight = night()
        run_id, bells = ready(tonight)
        mine = simulator.push("shop/web", tags=["pr-1"])
        done = simulator.fault("hang_operation", method="DELETE", path=other["id"])
        tonight.do(bells[0])
        assert (mine["digest"] != other["digest"], done) == (True, None)
        assert tonight.outcomes(run_id)[other["digest"]] == ("accepted", None)
        simulator.remove(other["id"])
        write(tonight, update(batch).values(takeovers=batches.TAKEOVERS, rung_at=None))
        simulator.fault("error", method="GET", path="/operations/", code=5, message="no such operation")

        go_on(tonight, run_id)

        assert tonight.outcomes(run_id) == {other["digest"]: ("deleted", None)}

    def test_ends_after_three_attempts(self, simulator: Simulator, night: MakeNight) -> None:
        tonight, run_id, image = self.left(simulator, night)
        simulator.fault("status", method="DELETE", status=503)

        go_on(tonight, run_id)

        assert tonight.outcomes(run_id) == {image["digest"]: ("failed", "unconfirmed")}
        assert [one.attempts for one in tonight.items(run_id)] == [3]


def test_what_was_never_begun_of_a_poisonous_batch_is_given_up(simulator: Simulator, night: MakeNight) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, bells = ready(tonight)
    write(tonight, update(batch).values(takeovers=batches.TAKEOVERS))

    tonight.ring(bells)

    assert tonight.outcomes(run_id) == {image["digest"]: ("failed", "poison")}
    assert deletes(simulator) == []


class TestAnAnswerThatSaysNothingOfTheImage:
    def test_no_permission_to_ask_for_the_operation(self, simulator: Simulator, night: MakeNight) -> None:
        image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        tonight = night()
        run_id, bells = ready(tonight)
        simulator.fault("error", method="GET", path="/operations/", times=1, code=7, message="no")

        tonight.ring(bells)
        assert tonight.outcomes(run_id) == {image["digest"]: ("accepted", None)}
        go_on(tonight, run_id)

        assert tonight.outcomes(run_id) == {image["digest"]: ("deleted", None)}
        assert tonight.run(run_id).reclaimed_bytes == simulator.state()["lost_bytes"] > 0

    def test_an_operation_that_is_forgotten(self, simulator: Simulator, night: MakeNight) -> None:
        simulator.switch(image_vanishes="at_acceptance")
        image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        simulator.push("shop/lib", tags=["v1"], age=30 * DAY, layers=[7])
        tonight = night()
        run_id, bells = ready(tonight)
        simulator.fault("error", method="GET", path="/operations/", code=5, message="no such operation")

        tonight.ring(bells)

        assert tonight.outcomes(run_id) == {image["digest"]: ("deleted", None)}
        assert tonight.run(run_id).reclaimed_bytes == simulator.state()["lost_bytes"] > 0

    def test_a_reading_that_failed_before_somebody_else_deleted_it(
        self, simulator: Simulator, night: MakeNight
    ) -> None:
        image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        simulator.push("shop/lib", tags=["v1"], age=30 * DAY, layers=[7])
        tonight = night()
        run_id, bells = ready(tonight)
        simulator.fault("status", method="GET", path=f"/images/{image['id']}", times=1, status=503)
        simulator.after("GET", f"/images/{image['id']}", "remove", image=image["id"])

        tonight.ring(bells)

        assert tonight.outcomes(run_id) == {image["digest"]: ("gone", None)}
        assert (tonight.run(run_id).reclaimed_bytes, deletes(simulator)) == (0, [])


def test_a_stale_worker_says_nothing_of_what_another_is_deleting(simulator: Simulator, night: MakeNight) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, bells = ready(tonight)
    simulator.fault("latency", method="GET", path=f"/images/{image['id']}", times=1, seconds=1.5)
    stale = threading.Thread(target=tonight.do, args=(bells[0],))
    stale.start()
    until(lambda: asked_for(simulator, image["id"]), what="the first worker's reading")
    past = datetime.now(UTC) - HOUR
    write(tonight, update(batch).values(lease_until=past))  # it sleeps past its lease
    tonight.ring(bells)
    stale.join()

    assert tonight.outcomes(run_id) == {image["digest"]: ("deleted", None)}
    assert tonight.run(run_id).reclaimed_bytes == simulator.state()["lost_bytes"] > 0


def test_what_we_deleted_and_somebody_pushed_again_is_new(simulator: Simulator, night: MakeNight) -> None:
    pushed = {"tags": ["pr-1"], "layers": [4000], "content": "the same"}
    image = simulator.push("shop/api", age=30 * DAY, **pushed)
    signature = simulator.sign("shop/api", image["digest"], age=30 * DAY)
    tonight = night()
    run_id, bells = ready(tonight)
    tonight.do(bells[0])  # the first wave
    assert tonight.outcomes(run_id)[image["digest"]] == ("deleted", None)
    again = simulator.push("shop/api", **{**pushed, "tags": ["v2"]})
    assert again["digest"] == image["digest"]
    write(tonight, update(repository).values(looked_at=None))

    go_on(tonight, run_id)

    assert tonight.outcomes(run_id)[signature["digest"]] == ("skipped", "still_needed")


def test_a_sweep_stops_when_the_store_is_ill(simulator: Simulator, night: MakeNight) -> None:
    for number in range(5):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    tonight = night(rate=SLOWLY)
    _, bells = ready(tonight)
    with tonight.store.write() as connection:
        audit.drop(connection)  # no outcome can be written any more

    with pytest.raises(StoreError):
        tonight.do(bells[0])

    assert len(deletes(simulator)) == 1


def test_without_the_shared_limit_nothing_is_asked(simulator: Simulator, night: MakeNight) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, bells = ready(tonight)
    before = len(simulator.requests())
    limiter = RedisLimiter("redis://127.0.0.1:1/0", "nowhere", 10.0)

    rung = batches.delete_batch(tonight.store, tonight.watch, run_id, int(bells[0].args[1]), limiter=limiter)

    assert (rung, len(simulator.requests())) == ((), before)  # nor is it rung again at once
    assert {state for state, _ in tonight.outcomes(run_id).values()} == {"planned"}


class TestALook:
    def test_that_is_too_old_is_done_again_before_anything_goes(self, simulator: Simulator, night: MakeNight) -> None:
        simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        tonight = night()
        run_id, bells = ready(tonight)
        write(tonight, update(repository).values(looked_at=datetime.now(UTC) - timedelta(minutes=11)))

        assert tonight.do(bells[0]) == (Bell("gc.look", (run_id, "shop/api")),)
        assert deletes(simulator) == []

    def test_is_done_once_for_all_batches_that_ask_for_it(self, simulator: Simulator, night: MakeNight) -> None:
        for number in range(205):
            simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
        tonight = night()
        run_id, bells = ready(tonight)
        assert len(bells) == 3
        write(tonight, update(repository).values(looked_at=None))
        before = len(listings(simulator))
        asked = [bell for one in bells for bell in tonight.do(one)]

        rung = [bell for one in asked for bell in tonight.do(one)]

        assert asked == [Bell("gc.look", (run_id, "shop/api"))] * 3
        assert len(listings(simulator)) == before + 1
        assert sorted(bell.args[1] for bell in rung) == [0, 1, 2]

    @pytest.mark.parametrize("fault", ["no permission", "no JSON"])
    def test_that_fails_for_every_repository_ends_the_run(
        self, simulator: Simulator, night: MakeNight, fault: str
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


def test_refusals_between_healthy_answers_are_no_streak(simulator: Simulator, night: MakeNight) -> None:
    images = [simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY) for number in range(24)]
    tonight = night(rate=SLOWLY)
    run_id, bells = ready(tonight)
    for number, image in enumerate(images):
        if number % 2:
            simulator.fault("error", method="DELETE", path=image["id"], code=9, message="the registry is read-only")
        else:
            simulator.tag("shop/api", f"pr-{number}", f"kept-{number}")

    tonight.ring(bells)

    finished = tonight.run(run_id)
    assert (finished.failed, finished.skipped, finished.outcome) == (12, 12, "partial")


def test_operations_that_all_break_are_a_streak(simulator: Simulator, night: MakeNight) -> None:
    for number in range(30):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    tonight = night(rate=SLOWLY)
    run_id, bells = ready(tonight)
    simulator.fault("fail_operation", method="DELETE", code=13, message="storage is ill")

    tonight.ring(bells)

    finished = tonight.run(run_id)
    assert (finished.outcome, finished.failed) == ("failed", 10)


def test_nothing_is_intended_once_the_plan_is_too_old(simulator: Simulator, night: MakeNight) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, bells = ready(tonight)
    write(tonight, update(run).values(started_at=datetime.now(UTC) - 25 * HOUR))

    tonight.ring(bells)

    finished = tonight.run(run_id)
    assert (finished.state, finished.outcome, finished.deleted) == ("finished", "partial", 0)
    assert deletes(simulator) == []


def test_an_abort_while_the_plan_becomes_one_is_not_lost(simulator: Simulator, night: MakeNight) -> None:
    tonight = night()
    run_id = tonight.open()
    with tonight.store.write() as connection:
        now = tonight.store.now(connection)
        run_rows.claim_scan(connection, run_id, owner="x", now=now, until=now + HOUR, most=3)
    aborting = threading.Thread(target=lifecycle.abort, args=(tonight.store, run_id, datetime.now(UTC)))
    with tonight.store.write() as connection:
        run_rows.change(connection, run_id, ["planning"], state="planned")
        aborting.start()
        aborting.join(0.3)  # it waits for this transaction
        assert aborting.is_alive()
    aborting.join()
    lifecycle.advance(tonight.store, run_id, datetime.now(UTC))

    finished = tonight.run(run_id)
    assert (finished.state, finished.outcome) == ("finished", "aborted")
    with pytest.raises(lifecycle.NothingToStopError, match="aborted already: nothing was stopped"):
        lifecycle.abort(tonight.store, run_id, datetime.now(UTC))


def test_a_scan_that_lost_its_lease_stores_nothing(simulator: Simulator, night: MakeNight) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    simulator.fault("latency", path="repositoryName", seconds=1.0)
    tonight = night()
    run_id = tonight.open()
    scanning = threading.Thread(target=tonight.do, args=(Bell("gc.scan", (run_id,)),))
    scanning.start()
    until(lambda: tonight.run(run_id).state == "planning", what="the scan's claim")
    write(tonight, update(run).values(fence=run.c.fence + 1))
    scanning.join()

    assert (tonight.run(run_id).state, tonight.items(run_id)) == ("planning", [])


def test_leases_and_waves(simulator: Simulator, night: MakeNight) -> None:
    child = simulator.push("shop/api", age=30 * DAY)
    simulator.push_index("shop/api", [child["digest"]], tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, _ = ready(tonight)

    def claim(number: int) -> sweeping.Claim | None:
        with tonight.store.write() as connection:
            now = tonight.store.now(connection)
            return sweeping.claim(connection, run_id, number, owner="x", now=now, until=now + HOUR)

    assert claim(1) is None  # the second wave, before the first is done
    held = claim(0)
    assert held is not None
    assert claim(0) is None
    with tonight.store.write() as connection:
        connection.execute(update(batch).values(fence=batch.c.fence + 1))
        sweeping.release(connection, held, None)
        with pytest.raises(sweeping.LeaseLostError):
            sweeping.renew(connection, held, datetime.now(UTC), datetime.now(UTC) + HOUR)
    assert claim(0) is None  # a lost lease is not given back


def test_no_more_than_so_many_batches_are_rung_at_once(simulator: Simulator, night: MakeNight) -> None:
    for number in range(sweeping.MOST_RUNG + 5):
        simulator.push(f"shop/api{number}", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, bells = tonight.plan()

    assert len(bells) == sweeping.MOST_RUNG
    assert lifecycle.ring(tonight.store, run_id, datetime.now(UTC)) == ()
    tonight.ring(bells)
    assert tonight.run(run_id).deleted == sweeping.MOST_RUNG + 5


def test_the_audit_adds_up(simulator: Simulator, night: MakeNight) -> None:
    for number in range(4):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY, layers=["base:9000", number + 1])
    tonight = night()
    finished = tonight.sweep()
    with tonight.store.read() as connection:
        rows, freed = connection.execute(select(func.count(), func.sum(audit.c.reclaimed_bytes))).one()
    assert (rows, freed) == (4, finished.reclaimed_bytes)
    assert finished.reclaimed_bytes == simulator.state()["lost_bytes"]


def test_an_outcome_is_the_first_and_only(simulator: Simulator, night: MakeNight) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    finished = tonight.sweep()
    with tonight.store.write() as connection:
        row = connection.execute(select(*sweeping.ITEM_COLUMNS)).one()
        now = datetime.now(UTC)
        late = sweeping.item_of(row), sweeping.Outcome("failed", "other", "late")
        assert sweeping.record_outcomes(connection, finished.id, [late], now) == []
    after = tonight.run(finished.id)
    assert (after.deleted, after.failed, after.reclaimed_bytes) == (1, 0, finished.reclaimed_bytes)


def test_a_name_that_means_another_registry_deletes_nothing_there(simulator: Simulator, night: MakeNight) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, bells = ready(tonight)
    tonight.path.write_text(tonight.path.read_text().replace(simulator.registry_id, "crpzzzzzzzzzzzzzzzzz"))

    tonight.ring(bells)

    assert set(tonight.outcomes(run_id).values()) == {("skipped", "mode")}
    assert deletes(simulator) == []


def test_one_look_at_a_time(simulator: Simulator, night: MakeNight) -> None:
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


def test_what_a_look_finds_against_a_begun_deletion_binds_who_holds_it(simulator: Simulator, night: MakeNight) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, bells = ready(tonight)
    simulator.fault("status", method="DELETE", status=503)
    tonight.ring(bells)
    before = len(deletes(simulator))
    simulator.no_faults()
    simulator.sign("shop/api", image["digest"])
    write(tonight, update(batch).values(lease_until=datetime.now(UTC) + HOUR))  # its worker is still at it
    write(tonight, update(repository).values(looked_at=None))
    tonight.do(Bell("gc.look", (run_id, "shop/api")))
    assert tonight.outcomes(run_id) == {image["digest"]: ("intent", None)}
    write(tonight, update(batch).values(lease_until=None))

    go_on(tonight, run_id)

    assert tonight.outcomes(run_id) == {image["digest"]: ("failed", "unconfirmed")}
    assert len(deletes(simulator)) == before


def test_an_intent_is_taken_back_only_as_it_was_claimed(simulator: Simulator, night: MakeNight) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, _ = ready(tonight)
    now = datetime.now(UTC)
    with tonight.store.write() as connection:
        (planned,) = sweeping.unfinished_items(connection, run_id, 0)
        sweeping.record_intents(connection, [(planned, "a key")], now)
        (begun,) = sweeping.unfinished_items(connection, run_id, 0)
        assert (begun.state, begun.idempotency_key, begun.attempts, begun.intent_at) == ("intent", "a key", 1, now)
        sweeping.record_intents(connection, [(begun, "a key")], now + HOUR)
        sweeping.withdraw_intents(connection, [begun])
        assert sweeping.unfinished_items(connection, run_id, 0) == [begun]  # still in doubt
        sweeping.withdraw_intents(connection, [planned])
        assert sweeping.unfinished_items(connection, run_id, 0) == [planned]


def test_a_look_settles_nothing_in_a_run_that_was_stopped_meanwhile(simulator: Simulator, night: MakeNight) -> None:
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


def test_a_repository_that_cannot_be_looked_at_keeps_no_other_waiting(simulator: Simulator, night: MakeNight) -> None:
    tonight = night()
    now = datetime.now(UTC)
    first = [sweeping.Ready(number, "shop/api", None) for number in range(50)]
    others = [sweeping.Ready(50, "shop/web", None), *(sweeping.Ready(51 + one, "shop/cart", now) for one in range(40))]
    chosen = sweeping.fair([*first, *others], sweeping.MOST_RUNG, now - HOUR)
    assert [one.batch for one in chosen] == [0, 50, *range(51, 51 + sweeping.MOST_RUNG - 2)]
    assert tonight.store is not None


def test_a_scan_keeps_its_lease_while_it_stores_the_plan(simulator: Simulator, night: MakeNight) -> None:
    tonight = night()
    run_id, _ = tonight.plan()
    with tonight.store.read() as connection:
        lease_until = connection.execute(select(run.c.lease_until).where(run.c.id == run_id)).scalar_one()
    planned_at = tonight.run(run_id).planned_at
    assert planned_at is not None
    assert lease_until > planned_at
