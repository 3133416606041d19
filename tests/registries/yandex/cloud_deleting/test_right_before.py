"""Each artifact is reread right before its deletion: a tag that moved since its reading is kept."""

import time
from datetime import timedelta

import pytest

from policies.image import Image
from tests.registries.yandex.cloud_registry.tools import deleted, listed, tags_left
from tests.support.drivers import QUICK, key
from tests.support.simulator.client import Simulator
from worker.config.settings import RegistrySettings
from worker.registries import open_registry
from worker.registries.errors import NotFoundError, TooLateError
from worker.registries.interface import Deletion, Registry

MONTH = timedelta(days=30)


DELETE = "/cloud-registry/v1/artifacts/"


def pushed(simulator: Simulator, registry: Registry, *tags: str) -> Image:
    """An image of a month ago in shop/api, as the registry lists it."""
    digest = simulator.push("shop/api", tags=tags, age=MONTH)["digest"]
    return listed(registry)[digest]


@pytest.mark.parametrize("moves", ["same_artifact", "new_artifact"])
@pytest.mark.parametrize("artifacts", ["per_tag", "per_digest"])
def test_keeps_both_images_of_a_tag_that_moved_since_its_reading(
    simulator: Simulator, driver: Registry, moves: str, artifacts: str
) -> None:
    """A moved tag may keep its artifact's id: its deletion would remove the new push."""
    simulator.switch(moved_tag=moves, artifacts_of_image=artifacts, image_vanishes="at_acceptance")
    old = simulator.push("shop/api", tags=["latest"], age=MONTH)["digest"]
    planned = listed(driver)[old]
    assert driver.get("shop/api", planned) == planned
    new = simulator.push("shop/api", tags=["latest"])["digest"]
    if artifacts == "per_digest":
        simulator.tag("shop/api", old, "kept")  # the old one's only artifact would go, whatever tags it has by now
    with pytest.raises((TooLateError, NotFoundError)) as failure:
        driver.delete("shop/api", planned, key())
    assert not failure.value.maybe_done
    assert not simulator.requests("DELETE")
    assert (tags_left(simulator, new), tags_left(simulator, old) is None) == ({"latest"}, False)


def test_the_next_read_sees_the_changed_tag(simulator: Simulator, driver: Registry) -> None:
    """At once, though listings are shared for a second: the sweep skips the image as changed."""
    old = simulator.push("shop/api", tags=["latest"], age=MONTH)["digest"]
    planned = listed(driver)[old]
    simulator.push("shop/api", tags=["latest"])
    assert driver.get("shop/api", planned) == planned
    with pytest.raises(TooLateError, match=r"production: DELETE shop/api@sha256:.*: latest now has the digest sha256:"):
        driver.delete("shop/api", planned, key())
    assert driver.get("shop/api", planned).tags == ()


def test_keeps_a_tag_that_moved_away_and_back_since_its_reading(simulator: Simulator, driver: Registry) -> None:
    """The same digest under the same tag, but of today."""
    planned = pushed(simulator, driver, "v1")
    simulator.push("shop/api", tags=["v1"])
    simulator.tag("shop/api", planned.digest, "v1")
    with pytest.raises(TooLateError, match="v1 was modified at"):
        driver.delete("shop/api", planned, key())
    assert tags_left(simulator, planned.digest) == {"v1"}


def test_rereads_each_artifact_right_before_its_deletion(simulator: Simulator, driver: Registry) -> None:
    """An artifact that changed during the deletion of another is kept."""
    simulator.switch(image_vanishes="at_acceptance")
    planned = pushed(simulator, driver, "a", "b")
    simulator.after("DELETE", DELETE, "push", repository="shop/api", tags=["b"])
    deletion = deleted(driver, planned)
    assert (deletion.done, deletion.raced) == (True, ("b",))
    (new,) = listed(driver).values()
    assert new.tags == ("b",)


@pytest.mark.parametrize("status", ["CREATING", "DELETING"])
def test_does_not_delete_an_artifact_that_is_being_pushed_or_deleted(
    simulator: Simulator, driver: Registry, status: str
) -> None:
    planned = pushed(simulator, driver, "v1")
    simulator.set_artifact(simulator.artifact("shop/api", "v1")["id"], status)
    error = NotFoundError if status == "DELETING" else TooLateError
    with pytest.raises(error) as failure:
        driver.delete("shop/api", planned, key())
    assert not failure.value.maybe_done
    assert not simulator.requests("DELETE")


def test_another_process_reports_tags_that_moved_during_the_deletion(
    simulator: Simulator, driver: Registry, settings: RegistrySettings
) -> None:
    simulator.switch(image_vanishes="at_acceptance")
    image = pushed(simulator, driver, "v1", "v2")
    begun = driver.delete("shop/api", image, key())
    simulator.push("shop/api", tags=["v2"])
    with open_registry(settings, retries=QUICK) as another:
        known = Deletion(begun.operation_id, done=False, target=("shop/api", image))
        ended = another.follow(known, time.monotonic() + 5)
    assert (ended.done, ended.raced) == (True, ("v2",))
