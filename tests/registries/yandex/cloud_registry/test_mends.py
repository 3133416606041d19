"""What is looked at once more: artifacts right before they go, folders of folders, artifacts that lie nowhere."""

import time
from datetime import timedelta

import pytest

from policies.image import Image
from tests.registries.yandex.cloud_registry.tools import FLAT, LEVEL, deleted, listed, tags_left
from tests.support.drivers import QUICK, key
from tests.support.simulator.client import Simulator
from worker.config.settings import RegistrySettings
from worker.registries import open_registry
from worker.registries.errors import BadAnswerError, NotFoundError, TooLateError
from worker.registries.interface import Deletion, Registry
from worker.registries.yandex.cloud_listing import Pile
from worker.registries.yandex.cloud_protocol import WireArtifact, WireContent, WireDocker

MONTH = timedelta(days=30)
DELETE = "/cloud-registry/v1/artifacts/"
DIGEST = f"sha256:{'7' * 64}"


def pushed(simulator: Simulator, registry: Registry, *tags: str) -> Image:
    """An image of a month ago in shop/api, as the registry lists it."""
    digest = simulator.push("shop/api", tags=tags, age=MONTH)["digest"]
    return listed(registry)[digest]


# Right before an artifact goes


@pytest.mark.parametrize("moves", ["same_artifact", "new_artifact"])
@pytest.mark.parametrize("artifacts", ["per_tag", "per_digest"])
def test_a_tag_that_moved_since_it_was_read_stays_with_both_images(
    simulator: Simulator, driver: Registry, moves: str, artifacts: str
) -> None:
    """A moved tag may keep its artifact's id: deleting that would take away what was just pushed."""
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


def test_whoever_reads_again_after_that_sees_it(simulator: Simulator, driver: Registry) -> None:
    """At once, though listings are shared for a second: the sweep skips the image as changed."""
    old = simulator.push("shop/api", tags=["latest"], age=MONTH)["digest"]
    planned = listed(driver)[old]
    simulator.push("shop/api", tags=["latest"])
    assert driver.get("shop/api", planned) == planned
    with pytest.raises(TooLateError, match=r"production: DELETE shop/api@sha256:.*: latest is sha256:.* by now"):
        driver.delete("shop/api", planned, key())
    assert driver.get("shop/api", planned).tags == ()


def test_a_tag_that_moved_away_and_back_since_it_was_read_stays(simulator: Simulator, driver: Registry) -> None:
    """The same digest under the same tag, but of today."""
    planned = pushed(simulator, driver, "v1")
    simulator.push("shop/api", tags=["v1"])
    simulator.tag("shop/api", planned.digest, "v1")
    with pytest.raises(TooLateError, match="v1 was modified at"):
        driver.delete("shop/api", planned, key())
    assert tags_left(simulator, planned.digest) == {"v1"}


def test_each_artifact_is_looked_at_however_early_it_is(simulator: Simulator, driver: Registry) -> None:
    """One that moved on while another went is left alone."""
    simulator.switch(image_vanishes="at_acceptance")
    planned = pushed(simulator, driver, "a", "b")
    simulator.after("DELETE", DELETE, "push", repository="shop/api", tags=["b"])
    deletion = deleted(driver, planned)
    assert (deletion.done, deletion.raced) == (True, ("b",))
    (new,) = listed(driver).values()
    assert new.tags == ("b",)


@pytest.mark.parametrize("status", ["CREATING", "DELETING"])
def test_what_is_being_pushed_or_going_is_not_asked_for(simulator: Simulator, driver: Registry, status: str) -> None:
    planned = pushed(simulator, driver, "v1")
    simulator.set_artifact(simulator.artifact("shop/api", "v1")["id"], status)
    error = NotFoundError if status == "DELETING" else TooLateError
    with pytest.raises(error) as failure:
        driver.delete("shop/api", planned, key())
    assert not failure.value.maybe_done
    assert not simulator.requests("DELETE")


def test_another_process_tells_of_tags_that_moved_meanwhile(
    simulator: Simulator, driver: Registry, settings: RegistrySettings
) -> None:
    simulator.switch(image_vanishes="at_acceptance")
    image = pushed(simulator, driver, "v1", "v2")
    begun = driver.delete("shop/api", image, key())
    simulator.push("shop/api", tags=["v2"])
    with open_registry(settings, patience=QUICK) as another:
        known = Deletion(begun.operation_id, done=False, of=("shop/api", image))
        ended = another.follow(known, time.monotonic() + 5)
    assert (ended.done, ended.raced) == (True, ("v2",))


# Folders of folders


def flat_listings(simulator: Simulator, since: int) -> int:
    path = "/cloud-registry/v1/artifacts"
    return sum(request["path"] == path for request in simulator.requests("GET", path, since=since))


def test_emptying_a_folder_with_folders_in_it_does_not_list_the_registry(
    simulator: Simulator, driver: Registry
) -> None:
    simulator.push("shop/api", tags=["v1"])
    digest = simulator.push("shop", tags=["v1"])["digest"]
    since = len(simulator.requests())
    planned = listed(driver, "shop")[digest]
    assert deleted(driver, planned, "shop").done
    for _ in range(3):
        assert driver.images("shop") == ()
    with pytest.raises(NotFoundError):
        driver.get("shop", planned)
    assert flat_listings(simulator, since) == 0


def test_a_folder_that_never_showed_any_is_looked_for_in_the_registry_once(
    simulator: Simulator, driver: Registry
) -> None:
    simulator.push("shop/api", tags=["v1"])
    since = len(simulator.requests())
    for _ in range(3):
        assert driver.images("shop") == ()
    assert flat_listings(simulator, since) == 1


def test_what_a_folders_listing_hides_is_found_each_time(simulator: Simulator, driver: Registry) -> None:
    digest = simulator.push("shop/api", tags=["v1"])["digest"]
    simulator.fault("wrong_types", path=LEVEL, set={"kind": "FOLDER"})
    for _ in range(2):
        assert listed(driver).keys() == {digest}


# What lies nowhere


def row(number: int, path: str, name: str) -> WireArtifact:
    content = WireContent(docker=WireDocker(manifest_digest=DIGEST))
    return WireArtifact(id=f"id{number}", path=path, name=name, kind="ARTIFACT", status="ACTIVE", content=content)


@pytest.mark.parametrize(
    ("path", "name", "folder"),
    [
        pytest.param("/shop//api/v2", "v2", "shop/api", id="an empty segment"),
        pytest.param("/shop/api/some thing", "else", "shop/api", id="a last segment that is no name"),
        pytest.param("/shop/api/a pi/v2", "v2", "shop/api", id="a folder in it that none can have"),
        pytest.param("/docs/a pi/v2", "v2", None, id="a folder that there is not"),
        pytest.param("/../shop/api/v2", "v2", None, id="nobody knows"),
    ],
)
def test_an_artifact_with_an_impossible_path_makes_one_repository_unreadable_at_most(
    path: str, name: str, folder: str | None
) -> None:
    pile = Pile("crpvab5oob146rh73ilt")
    odd = row(9, path, name)
    pile.add([odd, row(1, "/shop/api/v1", "v1"), row(2, "/web/v1", "v1"), odd])
    pile.settle()
    assert pile.folders() == ["shop/api", "web"]
    broken = {found: [one.id for one in pile.take(found) or () if one.broken] for found in ("shop/api", "web")}
    assert broken == {"shop/api": ["id9"] if folder else [], "web": []}
    assert pile.left_alone == ({} if folder else {"with an impossible path": 1})


def test_what_moves_between_two_pages_is_taken_as_it_came_last() -> None:
    moved = row(1, "/shop/api/v1", "v1")
    moved.content = WireContent(docker=WireDocker(manifest_digest=f"sha256:{7:064x}"))
    pile = Pile("crpvab5oob146rh73ilt")
    pile.add([row(1, "/shop/api/v1", "v1"), moved])
    pile.settle()
    found = {one.id: one.digest for one in pile.take("shop/api") or ()}
    assert found == {"id1": f"sha256:{7:064x}"}
    assert pile.take("shop/api") is None  # a scan reads each folder once


def test_a_plan_goes_on_beside_an_artifact_with_an_impossible_path(simulator: Simulator, driver: Registry) -> None:
    digest = simulator.push("web", tags=["v1"])["digest"]
    simulator.push("shop/api", tags=["v1"])
    odd = {"path": "/shop//api/v1", "name": "v1"}
    simulator.push("other", tags=["v1"])
    simulator.fault("wrong_types", path=LEVEL, set=odd)
    with pytest.raises(BadAnswerError, match="impossible path"):
        driver.images("shop/api")
    simulator.no_faults()
    simulator.fault("wrong_types", path=FLAT, set=odd)
    assert list(driver.repositories()) == []  # all are odd, and none of them is where there is a repository
    simulator.no_faults()
    assert list(driver.repositories()) == ["other", "shop/api", "web"]
    assert listed(driver, "web").keys() == {digest}
