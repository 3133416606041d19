"""A listed registry planned: the policies' decisions, limits of the file, what else a person should know."""

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


def test_the_decisions_are_those_of_the_policies() -> None:
    found = planned({"shop/web": IMAGES, "shop/api": [index(3, "pr-2", lists=[1]), *IMAGES]})
    expected = make_plan(
        [repository("shop/api", index(3, "pr-2", lists=[1]), *IMAGES), repository("shop/web", *IMAGES)], OLD, NOW
    )
    assert tuple(found.decisions.records()) == expected.decisions
    assert found.plan.totals == expected.totals
    assert (found.exceeded, found.suspicion, found.unreadable_images) == ((), "", ())


def test_a_plan_over_the_limits_of_the_file_says_so() -> None:
    found = planned({"shop/api": IMAGES}, production(limits=Limits(max_images=0)))
    assert [(one.limit, one.value) for one in found.exceeded] == [("max_images", 1)]


def test_a_repository_that_cannot_be_listed_is_outside_the_plan() -> None:
    found = planned({"shop/api": IMAGES, "shop/web": UnavailableError("no answer")})
    assert (found.plan.complete, found.plan.totals.images) == (False, 2)
    assert [one.repository for one in found.plan.unreadable] == ["shop/web"]


def test_an_unreadable_image_is_named_unless_the_file_sets_it_aside() -> None:
    images = [*IMAGES, index(3, lists=None)]
    found = planned({"shop/api": images})
    assert [one.digest for one in found.unreadable_images] == [digest(3)]
    assert "unreadable_images" in [one.code for one in found.warnings]
    assert {one.verdict for one in found.decisions.records()} == {"keep"}
    ignoring = planned({"shop/api": images}, production(ignore_unreadable=(digest(3),)))
    assert ignoring.unreadable_images == ()
    assert {one.digest for one in ignoring.decisions.records() if one.verdict == "delete"} == {digest(1)}


def test_the_newest_of_each_repository_stay_where_the_file_says_so() -> None:
    found = planned({"shop/api": IMAGES}, production(policy=EVERYTHING, keep_per_repository=1))
    assert {one.digest: one.cause for one in found.decisions.records()} == {
        digest(1): "selected", digest(2): "keep_per_repository"
    }  # fmt: skip


def seen(*images: Image, days: float = 30) -> RegistryHistory:
    """An earlier scan that saw these images of shop/api."""
    known = {"shop/api": update_history(NO_HISTORY, images, NOW - days * DAY)}
    return RegistryHistory(seen=known, last_scan=LastScan(NOW - days * DAY))


def test_nothing_goes_that_no_scan_has_seen_for_as_long_as_the_file_asks() -> None:
    settled = production(policy=EVERYTHING, settle=7 * DAY)
    causes = {
        one.digest: one.cause for one in planned({"shop/api": IMAGES}, settled, seen(IMAGES[0])).decisions.records()
    }
    assert causes == {digest(1): "selected", digest(2): "unsettled"}
    assert {one.cause for one in planned({"shop/api": IMAGES}, settled).decisions.records()} == {"unsettled"}


def test_that_most_of_a_registry_has_vanished_is_over_a_limit() -> None:
    many = [image(number, f"v{number}", days=1) for number in range(40)]
    found = planned({"shop/api": many[:10]}, before=seen(*many))
    assert [one.limit for one in found.exceeded] == ["vanished"]
    assert found.compared.vanished.share == pytest.approx(0.75)


class TestPushTimes:
    def test_a_doubt_stays_until_a_person_answers_it(self) -> None:
        suspicious = planned({"shop/api": IMAGES}, before=RegistryHistory(last_scan=RESTORED))
        assert suspicious.suspicion == RESTORED.suspicion
        assert {one.verdict for one in suspicious.decisions.records()} == {"keep"}
        answered = planned(
            {"shop/api": IMAGES}, production(trust_times_after=NOW - 60 * DAY), RegistryHistory(last_scan=RESTORED)
        )
        assert answered.suspicion == ""
        assert {one.digest for one in answered.decisions.records() if one.verdict == "delete"} == {digest(1)}

    def test_what_was_pushed_before_the_trusted_instant_has_no_age(self) -> None:
        found = planned({"shop/api": IMAGES}, production(trust_times_after=NOW - 20 * DAY))
        assert {one.verdict for one in found.decisions.records()} == {"keep"}

    def test_times_of_this_stores_own_are_no_doubt(self) -> None:
        same = [image(number, days=30) for number in range(9)]
        found = planned({"shop/api": same}, oci(), RegistryHistory(last_scan=RESTORED))
        assert found.suspicion == ""
        assert found.plan.plan_context.push_times.first_seen
        assert {one.verdict for one in found.decisions.records()} == {"delete"}
