"""A plan of a listed registry: the policies' decisions, the limits of the file, and warnings."""

from collections.abc import Iterable
from typing import Any

import pytest

from policies.image import Image
from policies.limits import Limits
from policies.scan_history import NO_HISTORY, update_history
from tests.planning.rows import Rows
from tests.support.builders import DAY, NOW, digest, image, index, policy, repository
from tests.support.drivers import with_defaults
from tests.support.planning import make_plan
from worker.config.settings import Credentials, RegistrySettings
from worker.planning.inventory import take_inventory
from worker.planning.planner import NEVER_SCANNED, Planned, plan
from worker.registries.errors import RegistryError, UnavailableError
from worker.store.scan_history import LastScan, RegistryHistory

OLD = policy({"name": "old", "delete": {"older_than": "14d"}})
EVERYTHING = policy({"name": "everything", "delete": {"all": True}})
RESTORED = LastScan(NOW - DAY, suspicion="more than half share one push time")
IMAGES = [image(1, "pr-1", days=50), image(2, "v1", days=1)]


def production(**keys: Any) -> RegistrySettings:
    given = {"id": "crp1", "credentials": Credentials(metadata=True), "policy": OLD} | keys
    return with_defaults(**given)


def oci(**keys: Any) -> RegistrySettings:
    return production(kind="oci", id="", url="https://a.example", **keys)


def planned(
    repositories: dict[str, Iterable[Image] | RegistryError],
    registry: RegistrySettings | None = None,
    before: RegistryHistory = NEVER_SCANNED,
) -> Planned:
    inventory = take_inventory(Rows(repositories), now=NOW, concurrency=1)
    return plan(inventory, registry or production(), NOW, before=before)


def test_the_decisions_are_the_policies_decisions() -> None:
    planned_registry = planned({"shop/web": IMAGES, "shop/api": [index(3, "pr-2", lists=[1]), *IMAGES]})
    expected = make_plan(
        [repository("shop/api", index(3, "pr-2", lists=[1]), *IMAGES), repository("shop/web", *IMAGES)], OLD, NOW
    )
    assert tuple(planned_registry.decisions.records()) == expected.decisions
    assert planned_registry.plan.totals == expected.totals
    assert (planned_registry.exceeded, planned_registry.suspicion, planned_registry.unreadable_images) == ((), "", ())


def test_a_plan_over_a_limit_names_the_limit() -> None:
    planned_registry = planned({"shop/api": IMAGES}, production(limits=Limits(max_images=0)))
    assert [(limit.limit, limit.value) for limit in planned_registry.exceeded] == [("max_images", 1)]


def test_an_unlistable_repository_is_not_in_the_plan() -> None:
    planned_registry = planned({"shop/api": IMAGES, "shop/web": UnavailableError("no answer")})
    assert (planned_registry.plan.complete, planned_registry.plan.totals.images) == (False, 2)
    assert [failure.repository for failure in planned_registry.plan.unreadable] == ["shop/web"]


def test_names_an_unreadable_image_unless_the_file_ignores_it() -> None:
    images = [*IMAGES, index(3, lists=None)]
    planned_registry = planned({"shop/api": images})
    assert [unreadable.digest for unreadable in planned_registry.unreadable_images] == [digest(3)]
    assert "unreadable_images" in [warning.code for warning in planned_registry.warnings]
    assert {decision.verdict for decision in planned_registry.decisions.records()} == {"keep"}
    ignoring = planned({"shop/api": images}, production(ignore_unreadable=(digest(3),)))
    assert ignoring.unreadable_images == ()
    assert {decision.digest for decision in ignoring.decisions.records() if decision.verdict == "delete"} == {digest(1)}


def test_keeps_the_newest_images_of_each_repository() -> None:
    planned_registry = planned({"shop/api": IMAGES}, production(policy=EVERYTHING, keep_per_repository=1))
    assert {decision.digest: decision.cause for decision in planned_registry.decisions.records()} == {
        digest(1): "selected", digest(2): "keep_per_repository"
    }  # fmt: skip


def seen(*images: Image, days: float = 30) -> RegistryHistory:
    """An earlier scan that saw these images of shop/api."""
    known = {"shop/api": update_history(NO_HISTORY, images, NOW - days * DAY)}
    return RegistryHistory(seen=known, last_scan=LastScan(NOW - days * DAY))


def test_keeps_images_that_scans_have_not_seen_for_the_settle_time() -> None:
    settled = production(policy=EVERYTHING, settle=7 * DAY)
    causes = {
        decision.digest: decision.cause
        for decision in planned({"shop/api": IMAGES}, settled, seen(IMAGES[0])).decisions.records()
    }
    assert causes == {digest(1): "selected", digest(2): "unsettled"}
    assert {decision.cause for decision in planned({"shop/api": IMAGES}, settled).decisions.records()} == {"unsettled"}


def test_a_mostly_vanished_registry_is_over_a_limit() -> None:
    many = [image(number, f"v{number}", days=1) for number in range(40)]
    planned_registry = planned({"shop/api": many[:10]}, before=seen(*many))
    assert [limit.limit for limit in planned_registry.exceeded] == ["vanished"]
    assert planned_registry.compared.vanished.share == pytest.approx(0.75)


class TestPushTimeTrust:
    def test_a_suspicion_stays_until_a_person_answers_it(self) -> None:
        suspicious = planned({"shop/api": IMAGES}, before=RegistryHistory(last_scan=RESTORED))
        assert suspicious.suspicion == RESTORED.suspicion
        assert {decision.verdict for decision in suspicious.decisions.records()} == {"keep"}
        answered = planned(
            {"shop/api": IMAGES}, production(trust_times_after=NOW - 60 * DAY), RegistryHistory(last_scan=RESTORED)
        )
        assert answered.suspicion == ""
        assert {decision.digest for decision in answered.decisions.records() if decision.verdict == "delete"} == {
            digest(1)
        }

    def test_an_image_pushed_before_the_trusted_instant_has_no_age(self) -> None:
        planned_registry = planned({"shop/api": IMAGES}, production(trust_times_after=NOW - 20 * DAY))
        assert {decision.verdict for decision in planned_registry.decisions.records()} == {"keep"}

    def test_the_store_s_own_times_are_not_suspicious(self) -> None:
        same = [image(number, days=30) for number in range(9)]
        planned_registry = planned({"shop/api": same}, oci(), RegistryHistory(last_scan=RESTORED))
        assert planned_registry.suspicion == ""
        assert planned_registry.plan.plan_context.push_times.first_seen
        assert {decision.verdict for decision in planned_registry.decisions.records()} == {"delete"}
