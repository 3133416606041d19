"""Deletions in Cloud Registry over real HTTP, with every behaviour of its artifacts that is possible."""

import time
from collections.abc import Iterator

import pytest

from policies.image import Image
from tests.registries.yandex.cloud_registry.tools import LEVEL, deleted, listed, tags_left
from tests.support.drivers import QUICK, key
from tests.support.simulator.client import Simulator
from worker.config.settings import RegistrySettings
from worker.registries import open_registry
from worker.registries.errors import (
    NotFoundError,
    OperationFailedError,
    PermissionDeniedError,
    RateLimitedError,
    RegistryError,
    TooLateError,
    UnavailableError,
    UnsuitableError,
    UsedByImageListsError,
)
from worker.registries.interface import DeletesByParts, Deletion, Registry

DELETE = "/cloud-registry/v1/artifacts/"


def pushed(simulator: Simulator, registry: Registry, *tags: str) -> Image:
    """A new image of shop/api, as the registry lists it."""
    digest = simulator.push("shop/api", tags=tags)["digest"]
    return listed(registry)[digest]


def test_declares_that_it_deletes_by_parts(driver: Registry) -> None:
    assert isinstance(driver, DeletesByParts)


# Every way in which artifacts may go


@pytest.mark.parametrize("tags", [(), ("v1",), ("v1", "v2", "latest")])
@pytest.mark.parametrize(
    "switches",
    [
        pytest.param({}, id="tag by tag"),
        pytest.param({"deleted_artifact": "manifest"}, id="the first takes all"),
        pytest.param({"deleted_artifact": "manifest", "missing_image": "operation_error"}, id="and the others fail"),
        pytest.param({"last_tag": "manifest_stays"}, id="the last leaves an untagged one"),
        pytest.param({"artifacts_of_image": "per_digest"}, id="one artifact for all tags"),
        pytest.param({"artifact_path": "parent", "last_tag": "manifest_stays"}, id="folders as paths"),
        pytest.param({"after_deletion": "status"}, id="deleted artifacts stay visible"),
        pytest.param({"image_vanishes": "at_acceptance"}, id="at once"),
        pytest.param({"operation_seconds_to": 0.0}, id="in no time"),
    ],
)
def test_deletes_an_image_with_all_its_tags_and_nothing_else(
    simulator: Simulator, driver: Registry, switches: dict[str, object], tags: tuple[str, ...]
) -> None:
    simulator.switch(**switches)
    other, bare = pushed(simulator, driver, "v3", "prod"), pushed(simulator, driver)
    image = pushed(simulator, driver, *tags)
    deletion = driver.delete("shop/api", image, key())
    assert deletion.operation_id
    assert not deletion.done
    deletion = driver.follow(deletion, time.monotonic() + 5)
    assert (deletion.done, deletion.raced, deletion.collateral_tags) == (True, (), ())
    assert tags_left(simulator, image.digest) is None
    assert listed(driver).keys() == {other.digest, bare.digest}
    assert tags_left(simulator, other.digest) == {"v3", "prod"}
    assert not any("withHistory" in request["query"] for request in simulator.requests("DELETE"))


def test_each_artifact_has_its_own_stable_key(simulator: Simulator, driver: Registry) -> None:
    simulator.switch(operation_seconds_from=5.0, operation_seconds_to=5.0)  # nothing is gone before it is asked again
    image, same = pushed(simulator, driver, "v1", "v2"), key()
    driver.delete("shop/api", image, same)
    driver.delete("shop/api", image, same)
    keys = [(request["path"], request["key"]) for request in simulator.requests("DELETE")]
    assert len(set(keys)) == 2
    assert len({used for _, used in keys}) == 2
    assert keys[:2] == keys[2:]


def test_a_second_deletion_is_not_found(simulator: Simulator, driver: Registry) -> None:
    pushed(simulator, driver, "other")
    image = pushed(simulator, driver, "v1", "v2")
    assert deleted(driver, image).done
    with pytest.raises(NotFoundError, match=r"production: DELETE shop/api@sha256:.*: no artifact has this digest"):
        driver.delete("shop/api", image, key())


@pytest.mark.parametrize("missing", ["not_found", "operation_error"])
def test_reports_an_image_that_another_client_deleted_first(
    simulator: Simulator, driver: Registry, missing: str
) -> None:
    simulator.switch(missing_image=missing)
    pushed(simulator, driver, "other")
    image = pushed(simulator, driver, "v1", "v2")
    simulator.before("DELETE", DELETE, "remove", image="{image}")
    with pytest.raises(NotFoundError) as failure:
        deleted(driver, image)
    assert not failure.value.maybe_done


# Collateral tags, and pushes during the deletion


@pytest.mark.parametrize("shown", ["full", "parent"])
def test_reports_an_unplanned_tag_that_was_deleted_too(simulator: Simulator, driver: Registry, shown: str) -> None:
    simulator.switch(artifact_path=shown)
    image = pushed(simulator, driver, "v1")
    other = pushed(simulator, driver, "v3", "prod")
    simulator.after("DELETE", DELETE, "remove", image=simulator.artifact("shop/api", "prod")["image"])
    deletion = deleted(driver, image)
    assert (deletion.done, deletion.collateral_tags) == (True, ("prod", "v3"))
    assert other.digest not in listed(driver)


def test_reports_a_deleted_tag_of_another_image(simulator: Simulator, driver: Registry) -> None:
    image = pushed(simulator, driver, "v1")
    pushed(simulator, driver, "v3", "prod")
    simulator.after("DELETE", DELETE, "untag", repository="shop/api", tag="prod")
    assert deleted(driver, image).collateral_tags == ("prod",)


def test_reports_collateral_tags_of_a_failed_deletion(simulator: Simulator, driver: Registry) -> None:
    image = pushed(simulator, driver, "v1", "v2")
    pushed(simulator, driver, "prod")
    simulator.fault("fail_operation", method="DELETE", after=1, code=13, message="broken")
    simulator.after("DELETE", DELETE, "untag", repository="shop/api", tag="prod")
    with pytest.raises(OperationFailedError) as failure:
        deleted(driver, image)
    assert failure.value.collateral_tags == ("prod",)


@pytest.mark.parametrize(("cascade", "collateral_tags"), [("children_stay", False), ("cascade", True)])
def test_reports_an_untagged_child_that_was_deleted_with_its_index(
    simulator: Simulator, driver: Registry, cascade: str, collateral_tags: bool
) -> None:
    simulator.switch(deleted_index=cascade)
    child = simulator.push("shop/api")
    tagged = simulator.push("shop/api", tags=["child"])
    index = simulator.push_index("shop/api", [child["digest"], tagged["digest"]], tags=["multi"])
    deletion = deleted(driver, listed(driver)[index["digest"]])
    assert deletion.collateral_tags == ((child["digest"],) if collateral_tags else ())
    assert (child["digest"] in listed(driver)) is not collateral_tags
    assert tagged["digest"] in listed(driver)


def test_parallel_deletions_are_not_reported_as_collateral(simulator: Simulator, driver: Registry) -> None:
    first, second = pushed(simulator, driver, "v1"), pushed(simulator, driver, "v2")
    both = [driver.delete("shop/api", image, key()) for image in (first, second)]
    ended = [driver.follow(deletion, time.monotonic() + 5) for deletion in both]
    assert [(deletion.done, deletion.collateral_tags) for deletion in ended] == [(True, ()), (True, ())]


@pytest.mark.parametrize("moves", ["same_artifact", "new_artifact"])
def test_reports_a_tag_that_moved_during_the_deletion(simulator: Simulator, driver: Registry, moves: str) -> None:
    """The push comes after the deletion of the tag: the image is kept."""
    simulator.switch(moved_tag=moves, image_vanishes="at_acceptance")
    image = pushed(simulator, driver, "v1", "v2")
    simulator.after("DELETE", DELETE, "push", repository="shop/api", tags=["v1", "v2"], after=1)
    deletion = deleted(driver, image)
    assert (deletion.done, deletion.raced) == (True, ("v1", "v2"))
    (new,) = listed(driver).values()
    assert new.tags == ("v1", "v2")


@pytest.mark.parametrize("moves", ["same_artifact", "new_artifact"])
def test_keeps_a_tag_that_moved_before_a_late_deletion(simulator: Simulator, driver: Registry, moves: str) -> None:
    """Between two artifacts there may be a long wait for the rate: each is looked at again."""
    simulator.switch(moved_tag=moves)
    image = pushed(simulator, driver, "v1", "v2")
    simulator.fault("latency", method="DELETE", seconds=0.4, times=1)
    simulator.after("DELETE", DELETE, "push", repository="shop/api", tags=["v2"])
    deletion = driver.delete("shop/api", image, key(), not_after=time.monotonic() + 0.3)
    deletion = driver.follow(deletion, time.monotonic() + 5)
    assert (deletion.done, deletion.raced) == (True, ("v2",))
    (new,) = listed(driver).values()
    assert new.tags == ("v2",)


def test_sends_the_remaining_artifacts_even_when_late(simulator: Simulator, driver: Registry) -> None:
    image = pushed(simulator, driver, "v1", "v2")
    simulator.fault("latency", method="DELETE", seconds=0.4, times=1)
    deletion = driver.delete("shop/api", image, key(), not_after=time.monotonic() + 0.3)
    assert driver.follow(deletion, time.monotonic() + 5).done
    assert tags_left(simulator, image.digest) is None


@pytest.mark.parametrize("tags", [(), ("v1",)])
def test_keeps_an_image_that_is_pushed_again_during_its_deletion(
    simulator: Simulator, driver: Registry, tags: tuple[str, ...]
) -> None:
    """For example a child of an index that is being pushed."""
    simulator.switch(image_vanishes="at_acceptance")
    digest = simulator.push("shop/api", tags=tags, content="same", age=60)["digest"]
    begun = driver.delete("shop/api", listed(driver)[digest], key())
    assert tags_left(simulator, digest) is None
    simulator.push("shop/api", content="same")
    with pytest.raises(OperationFailedError, match="still exists: it was pushed again during the deletion"):
        driver.follow(begun, time.monotonic() + 5)
    assert digest in listed(driver)


def test_does_not_request_a_deletion_of_a_retagged_image(simulator: Simulator, driver: Registry) -> None:
    image = pushed(simulator, driver, "v1")
    simulator.tag("shop/api", image.digest, "prod")
    listed(driver)
    with pytest.raises(TooLateError, match="the image is now tagged prod"):
        driver.delete("shop/api", image, key())
    assert not simulator.requests("DELETE")


def test_keeps_an_image_that_is_tagged_during_its_deletion(simulator: Simulator, driver: Registry) -> None:
    image = pushed(simulator, driver, "v1")
    simulator.before("DELETE", DELETE, "tag", repository="shop/api", reference="v1", tag="prod")
    with pytest.raises(OperationFailedError, match="the image still exists: it was tagged prod during the deletion"):
        deleted(driver, image)
    assert tags_left(simulator, image.digest) == {"prod"}


# Refusals


def test_reports_a_child_that_the_registry_protects(simulator: Simulator, driver: Registry) -> None:
    child = simulator.push("shop/api")
    simulator.push_index("shop/api", [child["digest"]], tags=["multi"])
    image = listed(driver)[child["digest"]]
    for how in ("refused", "operation_error"):
        simulator.switch(deleted_child=how)
        with pytest.raises(UsedByImageListsError, match=r"FAILED_PRECONDITION: .*are used by image lists"):
            deleted(driver, image)
        assert child["digest"] in listed(driver)
    simulator.switch(deleted_child="accepted")
    assert deleted(driver, image).done


@pytest.mark.parametrize("how", ["refused", "operation_error"])
def test_a_partly_deleted_child_is_a_failure_and_not_a_skip(simulator: Simulator, driver: Registry, how: str) -> None:
    """The registry deletes the first tag, but refuses the last, which would delete the manifest."""
    simulator.switch(deleted_child=how)
    child = simulator.push("shop/api", tags=["a", "b"])
    simulator.push_index("shop/api", [child["digest"]], tags=["multi"])
    image = listed(driver)[child["digest"]]
    simulator.before("DELETE", DELETE, "clock", after=1, forward=60)  # the first has ended by then
    with pytest.raises(OperationFailedError, match=r"deleted a, but not b: .*used by image lists"):
        deleted(driver, image)
    assert tags_left(simulator, child["digest"]) == {"b"}


@pytest.mark.parametrize(
    ("fault", "code", "error", "suspicion"),
    [
        pytest.param("fail_operation", 13, OperationFailedError, False, id="in its operation"),
        pytest.param("fail_operation", 7, PermissionDeniedError, False, id="in its operation, for want of a role"),
        pytest.param("error", 9, OperationFailedError, False, id="at once"),
        pytest.param("error", 7, PermissionDeniedError, False, id="at once, for want of a role"),
        pytest.param("error", 13, UnavailableError, True, id="at once, with an unknown outcome"),
    ],
)
def test_a_partial_deletion_is_a_failure(
    simulator: Simulator, driver: Registry, fault: str, code: int, error: type[RegistryError], suspicion: bool
) -> None:
    image = pushed(simulator, driver, "a", "b", "c")
    simulator.fault(fault, method="DELETE", after=2, code=code, message="broken")
    with pytest.raises(error, match=r"deleted a, b, but not c: .*broken") as failure:
        deleted(driver, image)
    assert failure.value.maybe_done is suspicion
    assert tags_left(simulator, image.digest) == {"c"}


@pytest.mark.parametrize("shown", ["denied", "not_found"])
def test_names_the_role_that_a_deletion_needs(simulator: Simulator, driver: Registry, shown: str) -> None:
    simulator.switch(may_delete=False, lacking_role=shown)
    image = pushed(simulator, driver, "v1", "v2")
    with pytest.raises(PermissionDeniedError, match=r"artifacts\.pusher, or cloud-registry\.admin if that is refused"):
        driver.delete("shop/api", image, key())


def test_deletes_from_a_transitional_registry_only_if_configured(
    simulator: Simulator, settings: RegistrySettings
) -> None:
    simulator.set_registry(type="TRANSITIONAL")
    with open_registry(settings, retries=QUICK) as registry:
        image = pushed(simulator, registry, "v1")
        for _ in range(2):
            with pytest.raises(UnsuitableError, match=r"production: .*write transitional: true"):
                registry.delete("shop/api", image, key())
        assert not simulator.requests("DELETE")
    with open_registry(settings.model_copy(update={"transitional": True}), retries=QUICK) as registry:
        assert deleted(registry, image).done


@pytest.mark.parametrize("type_", ["REMOTE", "VIRTUAL"])
def test_refuses_deletions_in_a_registry_without_own_images(simulator: Simulator, driver: Registry, type_: str) -> None:
    image = pushed(simulator, driver, "v1")
    simulator.set_registry(type=type_)
    with pytest.raises(UnsuitableError):
        driver.delete("shop/api", image, key())
    assert not simulator.requests("DELETE")


def test_reports_a_registry_that_still_migrates(simulator: Simulator, settings: RegistrySettings) -> None:
    simulator.switch(migration="unfinished", retry_after=30)
    with open_registry(settings, retries=QUICK) as registry:
        image = pushed(simulator, registry, "v1")
        with pytest.raises(RateLimitedError, match="being migrated"):
            registry.delete("shop/api", image, key())


def test_does_not_send_a_late_deletion(simulator: Simulator, driver: Registry) -> None:
    image = pushed(simulator, driver, "v1")
    with pytest.raises(TooLateError) as failure:
        driver.delete("shop/api", image, key(), not_after=time.monotonic())
    assert not failure.value.maybe_done
    assert not simulator.requests("DELETE")


# Following


@pytest.fixture
def another(settings: RegistrySettings) -> Iterator[Registry]:
    """Another process, which follows the deletion of the first."""
    with open_registry(settings, retries=QUICK) as registry:
        yield registry


@pytest.mark.parametrize(
    "switches",
    [{}, {"last_tag": "manifest_stays"}, {"artifacts_of_image": "per_digest"}, {"deleted_artifact": "manifest"}],
)
def test_another_process_follows_the_deletion(
    simulator: Simulator, driver: Registry, another: Registry, switches: dict[str, str]
) -> None:
    simulator.switch(**switches)
    pushed(simulator, driver, "other")
    image = pushed(simulator, driver, "v1", "v2")
    begun = driver.delete("shop/api", image, key())
    of = ("shop/api", image)
    ended = another.follow(Deletion(begun.operation_id, done=False, target=of), time.monotonic() + 5)
    assert ended.done
    assert tags_left(simulator, image.digest) is None


def test_completes_a_deletion_after_a_crash(simulator: Simulator, driver: Registry, another: Registry) -> None:
    image, same = pushed(simulator, driver, "v1", "v2"), key()
    simulator.untag("shop/api", "v1")  # all that the first has come to
    now = another.get("shop/api", image)
    assert (now.digest, now.tags) == (image.digest, ("v2",))
    ended = another.follow(another.delete("shop/api", image, same), time.monotonic() + 5)
    assert (ended.done, ended.raced, ended.collateral_tags) == (True, (), ())
    assert tags_left(simulator, image.digest) is None


def test_returns_an_unfinished_deletion_at_the_deadline(simulator: Simulator, driver: Registry) -> None:
    simulator.switch(operations="never_done")
    image = pushed(simulator, driver, "v1")
    begun = driver.delete("shop/api", image, key())
    assert driver.follow(begun, time.monotonic()) == begun
    assert tags_left(simulator, image.digest) == {"v1"}


def test_an_operation_without_effect_is_not_a_deletion(simulator: Simulator, driver: Registry) -> None:
    image = pushed(simulator, driver, "v1")
    begun = driver.delete("shop/api", image, key())
    simulator.before("GET", LEVEL, "push", times=None, repository="shop/api", tags=["v1"], content="again")
    again = simulator.push("shop/api", tags=["v1"], content="again")
    assert again["digest"] != image.digest
    ended = driver.follow(begun, time.monotonic() + 5)
    assert (ended.done, ended.raced) == (True, ("v1",))


def test_a_failed_listing_leaves_the_outcome_unknown(simulator: Simulator, driver: Registry) -> None:
    image = pushed(simulator, driver, "v1")
    begun = driver.delete("shop/api", image, key())
    simulator.fault("error", path=LEVEL, code=7, message="not now")
    with pytest.raises(PermissionDeniedError) as failure:
        driver.follow(begun, time.monotonic() + 5)
    assert failure.value.maybe_done


def test_a_listing_decides_about_an_unknown_operation(simulator: Simulator, driver: Registry) -> None:
    image, kept = pushed(simulator, driver, "v1"), pushed(simulator, driver, "v2")
    driver.follow(driver.delete("shop/api", image, key()), time.monotonic() + 5)
    gone = Deletion("crpunknown0000000000", done=False, target=("shop/api", image))
    assert driver.follow(gone, time.monotonic() + 5).done
    there = Deletion("crpunknown0000000000", done=False, target=("shop/api", kept))
    with pytest.raises(RegistryError, match="crpunknown") as failure:
        driver.follow(there, time.monotonic() + 5)
    assert failure.value.maybe_done
    assert not isinstance(failure.value, NotFoundError)


def test_repeats_a_deletion_whose_response_was_lost(simulator: Simulator, driver: Registry) -> None:
    image = pushed(simulator, driver, "v1", "v2")
    simulator.fault("reply_lost", method="DELETE", times=1)
    assert deleted(driver, image).done
    assert set(simulator.state()["deletes"].values()) == {1, 2}  # the same key: done once
