"""Nested folders, folders whose listing hides artifacts, and artifacts with an invalid path."""

import pytest

from tests.registries.yandex.cloud_registry.tools import FLAT, LEVEL, deleted, listed
from tests.support.simulator.client import Simulator
from worker.registries.errors import BadResponseError, NotFoundError
from worker.registries.interface import Registry

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


def test_lists_the_registry_once_for_a_folder_without_artifacts(simulator: Simulator, driver: Registry) -> None:
    simulator.push("shop/api", tags=["v1"])
    since = len(simulator.requests())
    for _ in range(3):
        assert driver.images("shop") == ()
    assert flat_listings(simulator, since) == 1


def test_reads_artifacts_that_the_listing_of_a_folder_hides(simulator: Simulator, driver: Registry) -> None:
    digest = simulator.push("shop/api", tags=["v1"])["digest"]
    simulator.fault("wrong_types", path=LEVEL, set={"kind": "FOLDER"})
    for _ in range(2):
        assert listed(driver).keys() == {digest}


# Invalid paths


def test_plans_other_folders_beside_an_artifact_with_an_invalid_path(simulator: Simulator, driver: Registry) -> None:
    digest = simulator.push("web", tags=["v1"])["digest"]
    simulator.push("shop/api", tags=["v1"])
    odd = {"path": "/shop//api/v1", "name": "v1"}
    simulator.push("other", tags=["v1"])
    simulator.fault("wrong_types", path=LEVEL, set=odd)
    with pytest.raises(BadResponseError, match="invalid path"):
        driver.images("shop/api")
    simulator.no_faults()
    simulator.fault("wrong_types", path=FLAT, set=odd)
    assert list(driver.repositories()) == []  # all have invalid paths outside of existing repositories
    simulator.no_faults()
    assert list(driver.repositories()) == ["other", "shop/api", "web"]
    assert listed(driver, "web").keys() == {digest}
