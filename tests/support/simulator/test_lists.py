"""Listing, pages, tags; deleting, operations and the bytes that go."""

from datetime import timedelta

from tests.support.simulator.caller import Api
from tests.support.simulator.client import Simulator


def test_pages_hold_every_image_once(simulator: Simulator, api: Api) -> None:
    pushed = {simulator.push("shop/api")["id"] for _ in range(23)}
    listed = [image["id"] for image in api.listed(pageSize=5)]
    assert set(listed) == pushed
    assert listed == sorted(listed)


def test_a_page_has_100_rows_unless_asked(simulator: Simulator, api: Api) -> None:
    for _ in range(101):
        simulator.push("shop/api")
    assert len(api.page()["images"]) == len(api.page(pageSize=0)["images"]) == 100
    assert len(api.page(pageSize=1_000)["images"]) == 101
    assert "nextPageToken" not in api.page(pageSize=1_000)


def test_a_repository_is_listed_alone_and_stays_when_empty(simulator: Simulator, api: Api) -> None:
    image = simulator.push("shop/api")
    simulator.push("shop/api/tools")
    name = f"{simulator.registry_id}/shop/api"
    assert [row["id"] for row in api.listed(repositoryName=name)] == [image["id"]]
    api.followed(api.ask_to_delete(image["id"]))
    assert api.page(repositoryName=name) == {}
    rows = api.get("/container-registry/v1/repositories", params={"registryId": simulator.registry_id}).json()
    assert {row["name"] for row in rows["repositories"]} == {name, f"{name}/tools"}


def test_registries_do_not_mix(simulator: Simulator, api: Api) -> None:
    simulator.add_registry("crpsecond00000000000")
    mine = simulator.push("shop/api", layers=["shared:1000"])
    theirs = simulator.push("shop/api", layers=["shared:1000"], registry="crpsecond00000000000")
    assert [row["id"] for row in api.listed()] == [mine["id"]]
    api.followed(api.ask_to_delete(mine["id"]))
    assert simulator.state()["lost_bytes"] == 1_500  # the other registry's copy does not keep it
    assert [image["id"] for image in simulator.images(registry="crpsecond00000000000")] == [theirs["id"]]


def test_a_tag_moves_and_the_old_image_stays(simulator: Simulator, api: Api) -> None:
    old = simulator.push("shop/api", tags=["main"], age=timedelta(days=9))
    new = simulator.push("shop/api", tags=["main"])
    rows = {row["id"]: row for row in api.listed()}
    assert "tags" not in rows[old["id"]]
    assert rows[new["id"]]["tags"] == ["main"]
    simulator.tag("shop/api", old["digest"], "main")  # a roll-back
    assert api.image(old["id"]).json()["createdAt"] == rows[old["id"]]["createdAt"]


def test_the_same_content_is_the_same_image(simulator: Simulator) -> None:
    first = simulator.push("shop/api", tags=["a"], content="x")
    second = simulator.push("shop/api", tags=["b"], content="x")
    assert (second["id"], second["tags"]) == (first["id"], ["a", "b"])


# Deleting


def test_deletes_an_image_with_its_tags_and_unshared_blobs(simulator: Simulator, api: Api) -> None:
    gone = simulator.push("shop/api", tags=["v1", "v2"], layers=["base:5000", 70], config=8)
    stays = simulator.push("shop/web", layers=["base:5000"], config=8)
    operation = api.followed(api.ask_to_delete(gone["id"]))
    assert operation["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty", "value": {}}
    assert api.image(gone["id"]).status_code == 404
    state = simulator.state()
    assert (state["lost_bytes"], state["registry_bytes"]) == (78, 5_008)
    assert [image["tags"] for image in state["deleted"]] == [["v1", "v2"]]
    assert state["deletes"] == {gone["id"]: 1}
    api.followed(api.ask_to_delete(stays["id"]))
    assert simulator.state()["lost_bytes"] == 5_086


def test_counts_bytes_lost_by_other_clients_separately(simulator: Simulator, api: Api) -> None:
    shared = [
        simulator.push("a", layers=["both:1000"], config="c:1"),
        simulator.push("b", layers=["both:1000"], config="d:1"),
    ]
    alone = simulator.push("c", layers=[10_000], config=1)
    simulator.remove(alone["id"])
    api.followed(api.ask_to_delete(shared[0]["id"]))
    simulator.remove(shared[1]["id"])  # the last reference, but a request took the first
    state = simulator.state()
    assert (state["lost_bytes"], state["lost_bytes_by_request"]) == (11_003, 1_001)


def test_an_operation_runs_for_its_time(simulator: Simulator, api: Api) -> None:
    simulator.switch(operation_seconds_from=3_600, operation_seconds_to=3_600)
    image = simulator.push("shop/api")
    accepted = api.ask_to_delete(image["id"]).json()
    assert "done" not in api.operation(accepted["id"])
    assert api.image(image["id"]).status_code == 200
    simulator.clock(forward=timedelta(hours=1))
    assert api.operation(accepted["id"])["done"] is True
    assert api.image(image["id"]).status_code == 404


def test_the_second_deletion_of_an_image_fails(simulator: Simulator, api: Api) -> None:
    """Both are accepted while the image exists; the operation of the slower deletion reports that it is gone."""
    simulator.switch(operation_seconds_from=60, operation_seconds_to=60)
    image = simulator.push("shop/api")
    accepted = [api.ask_to_delete(image["id"]).json()["id"] for _ in range(2)]
    simulator.clock(forward=61)
    assert "response" in api.operation(accepted[0])
    assert api.operation(accepted[1])["error"]["code"] == 5
    assert len(simulator.state()["deleted"]) == 1


def test_an_index_pushed_meanwhile_makes_the_operation_fail(simulator: Simulator, api: Api) -> None:
    simulator.switch(operation_seconds_from=60, operation_seconds_to=60)
    image = simulator.push("shop/api")
    accepted = api.ask_to_delete(image["id"]).json()
    simulator.push_index("shop/api", [image["id"]], tags=["multi"])
    simulator.clock(forward=61)
    assert api.operation(accepted["id"])["error"]["code"] == 9
    assert len(simulator.images()) == 2
