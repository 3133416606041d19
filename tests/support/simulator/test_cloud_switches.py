"""Each of Cloud Registry's switches in every position, as a caller sees it."""

from collections.abc import Callable
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.support.simulator.caller import ARTIFACTS, CloudApi
from tests.support.simulator.client import Simulator, SimulatorError
from tests.support.simulator.cloud_switches import CloudSwitches

Probe = Callable[[Simulator, CloudApi], Any]
DAY = timedelta(days=1)


def rows_of_two_tags(simulator: Simulator, cloud: CloudApi) -> list[tuple[str, str]]:
    digest = simulator.push("a", tags=["v1", "v2"])["digest"]
    rows = sorted(cloud.listed(), key=lambda row: str(row["name"]))
    return [(row["name"].replace(digest, "digest"), row.get("properties", {}).get("tags", "")) for row in rows]


def untagged_rows(simulator: Simulator, cloud: CloudApi) -> tuple[int, int]:
    """An index with a child; another switch is about children."""
    untagged, child = simulator.push("a"), simulator.push("a")
    simulator.push_index("a", [child["digest"]], tags=["multi"])
    names = cloud.names()
    return names.count(untagged["digest"]), names.count(child["digest"])


def path_of_a_tag(simulator: Simulator, cloud: CloudApi) -> tuple[str, str, str]:
    simulator.push("shop/api", tags=["v1"])
    (row,) = cloud.listed()
    (folder,) = cloud.level("shop")
    assert cloud.by_path("/shop/api/v1").json() == row  # asked for by its full path, whatever is shown
    return row["path"], row["name"], folder["path"]


def tags_left_of_three(simulator: Simulator, cloud: CloudApi) -> tuple[list[str], int]:
    """After one deletion: the listed artifacts, and the number of deleted images."""
    simulator.push("a", tags=["v1", "v2", "v3"])
    cloud.deleted(simulator.artifact("a", "v2")["id"])
    return cloud.names(), len(simulator.state()["deleted"])


def left_of_the_last_tag(simulator: Simulator, cloud: CloudApi) -> tuple[int, int, int]:
    image = simulator.push("a", tags=["v1"])
    artifact = simulator.artifact("a", "v1")["id"]
    cloud.deleted(artifact)
    assert cloud.artifact(artifact).status_code == 404  # an artifact that exists now is another one
    return cloud.names().count(image["digest"]), len(simulator.images()), simulator.state()["lost_bytes"]


def a_moved_tag(simulator: Simulator, cloud: CloudApi) -> dict[str, bool]:
    old = simulator.push("a", tags=["main"], age=9 * DAY)
    before = cloud.listed()[0]
    simulator.push("a", tags=["main"], age=DAY)
    rows = {row["name"]: row for row in cloud.listed()}
    untagged, moved = rows[old["digest"]], rows["main"]
    assert moved["content"] != before["content"]
    assert cloud.artifact(before["id"]).json()["id"] == before["id"]
    return {
        "tag keeps id": moved["id"] == before["id"],
        "old image keeps id": untagged["id"] == before["id"],
        "tag keeps birthday": moved["createdAt"] == before["createdAt"],
        "tag is modified": moved["modifiedAt"] > before["modifiedAt"],
    }


def children_of_an_index(simulator: Simulator, cloud: CloudApi) -> list[bool]:
    """An untagged child, a tagged one."""
    children = [simulator.push("a"), simulator.push("a", tags=["amd64"])]
    simulator.push_index("a", [child["digest"] for child in children], tags=["multi"])
    names = cloud.names()
    return [children[0]["digest"] in names, "amd64" in names]


def deletion_of_a_child(simulator: Simulator, cloud: CloudApi) -> tuple[str, int]:
    child = simulator.push("a")
    simulator.push_index("a", [child["digest"]], tags=["multi"])
    answer = cloud.ask_to_delete(simulator.artifact("a", child["digest"])["id"])
    if answer.is_error:
        refusal = "at once", answer.json()
    else:
        operation = cloud.followed(answer)
        refusal = "in the operation", operation.get("error", {"code": 0})
    if refusal[1]["code"]:
        assert refusal[1]["message"].endswith(f"are used by image lists {simulator.artifact('a', 'multi')['id']}")
    return refusal[0], refusal[1]["code"]


def one_of_two_tags_of_a_child(simulator: Simulator, cloud: CloudApi) -> int:
    """Only a tag is deleted, so the service accepts it."""
    child = simulator.push("a", tags=["v1", "v2"])
    simulator.push_index("a", [child["digest"]], tags=["multi"])
    return cloud.ask_to_delete(simulator.artifact("a", "v1")["id"]).status_code


def left_of_an_index(simulator: Simulator, cloud: CloudApi) -> list[str]:
    """Two children, one of them tagged."""
    children = [simulator.push("a", content="child")["digest"], simulator.push("a", tags=["v1"])["digest"]]
    simulator.push_index("a", children, tags=["multi"])
    cloud.deleted(simulator.artifact("a", "multi")["id"])
    return [name.replace(children[0], "child") for name in cloud.names()]


def after_a_deletion(simulator: Simulator, cloud: CloudApi) -> list[Any]:
    """While it runs and when it is done: Get, the list, the list with a status."""
    simulator.switch(operation_seconds_from=60, operation_seconds_to=60)
    simulator.push("a", tags=["v1"])
    artifact = simulator.artifact("a", "v1")["id"]
    cloud.ask_to_delete(artifact)
    seen: list[Any] = []
    for _ in range(2):
        seen.append(cloud.artifact(artifact).json().get("status", 404))
        seen.append([row["status"] for row in cloud.listed()])
        seen.append(cloud.names(status="ACTIVE"))
        simulator.clock(forward=61)
    return seen


def deletion_of_a_deleted(simulator: Simulator, cloud: CloudApi) -> int:
    simulator.push("a", tags=["v1"])
    artifact = simulator.artifact("a", "v1")["id"]
    cloud.deleted(artifact)
    return cloud.ask_to_delete(artifact).status_code


def softly_deleted(simulator: Simulator, cloud: CloudApi) -> list[tuple[str, bool]]:
    image = simulator.push("a", tags=["v1"], layers=[1_000], config=10)
    simulator.soft_delete(image["id"])
    state = simulator.state()
    assert (state["registry_bytes"], state["lost_bytes"]) == (1_010, 0)  # billed until the policy's end
    return [(row["status"], "softDeletedAt" in row.get("properties", {})) for row in cloud.listed()]


def rows_of_a_page(simulator: Simulator, cloud: CloudApi) -> int:
    for _ in range(101):
        simulator.push("a")
    return len(cloud.page()["artifacts"])


def both_scopes(simulator: Simulator, cloud: CloudApi) -> int | list[str]:
    simulator.add_registry("crpsecond00000000000")
    simulator.push("a", tags=["mine"])
    simulator.push("a", tags=["other"], registry="crpsecond00000000000")
    query = {"folderId": simulator.folder_id, "registryId": simulator.registry_id, "kind": "ARTIFACT"}
    answer = cloud.get(ARTIFACTS, params=query)
    return sorted(row["name"] for row in answer.json()["artifacts"]) if answer.is_success else answer.status_code


def pushed_again(simulator: Simulator, cloud: CloudApi) -> list[str]:
    """After a deletion, and after one with history: a tag, and a tag given to an image that is there."""
    simulator.push("a", tags=["stays"])
    for tag in ("v1", "v2", "v3"):
        simulator.push("a", tags=[tag])
        cloud.deleted(simulator.artifact("a", tag)["id"], **({"withHistory": "true"} if tag == "v3" else {}))
    return [
        refusal(lambda: simulator.push("a", tags=["v1"])),
        refusal(lambda: simulator.tag("a", "stays", "v2")),
        refusal(lambda: simulator.push("a", tags=["v3"])),
    ]


def refusal(push: Callable[[], object]) -> str:
    try:
        push()
    except SimulatorError as error:
        return "immutable" if "BurntNameError" in str(error) else str(error)
    return ""


def hours_since_created(simulator: Simulator, cloud: CloudApi) -> list[bool]:
    """Whether each of old and new images seems less than four hours old; the last came after the migration."""
    for days in (900, 400, 2):
        simulator.push("a", tags=[f"v{days}"], age=days * DAY)
    simulator.clock(forward=timedelta(days=30))
    simulator.push("a", tags=["new"])
    now = simulator.clock()
    times = {row["name"]: datetime.fromisoformat(row["createdAt"]) for row in cloud.listed()}
    assert len(set(times.values())) == 4
    assert now - times["new"] < timedelta(minutes=1)
    names = cloud.names(createdBefore=f"{now - 29 * DAY:%Y-%m-%dT%H:%M:%SZ}")
    assert names == ["v2", "v400", "v900"]  # filters mean the times that are shown
    return [timedelta(0) < now - times[f"v{days}"] - 30 * DAY < timedelta(hours=4) for days in (900, 400, 2)]


def deletion(simulator: Simulator, cloud: CloudApi) -> tuple[int, int, str | None]:
    simulator.push("a", tags=["v1"])
    answer = cloud.ask_to_delete(simulator.artifact("a", "v1")["id"])
    return answer.status_code, answer.json().get("code", 0), answer.headers.get("retry-after")


def without_roles(simulator: Simulator, cloud: CloudApi) -> list[int]:
    """A deletion without the role to delete, a list without the role to view."""
    simulator.push("a", tags=["v1"])
    artifact = simulator.artifact("a", "v1")["id"]
    simulator.switch(may_delete=False)
    answers: list[httpx.Response] = [cloud.ask_to_delete(artifact), cloud.artifact(artifact)]
    simulator.switch(may_view=False)
    answers.append(cloud.get(ARTIFACTS, params={"registryId": simulator.registry_id}))
    return [answer.status_code for answer in answers]


def row_of(simulator: Simulator, cloud: CloudApi) -> dict[str, Any]:
    simulator.push("a", tags=["v1"])
    row: dict[str, Any] = cloud.listed()[0]
    return row


def status_of_level(simulator: Simulator, cloud: CloudApi) -> int:
    where = f"/cloud-registry/v1/registries/{simulator.registry_id}:listArtifacts"
    return cloud.get(where, params={"path": "nosuch"}).status_code


SAME = {"tag keeps id": True, "old image keeps id": False, "tag keeps birthday": True, "tag is modified": True}
ANOTHER = {"tag keeps id": False, "old image keeps id": True, "tag keeps birthday": False, "tag is modified": True}
GONE = ["ACTIVE", ["ACTIVE"], ["v1"], 404, [], []]
SHOWN = ["DELETING", ["DELETING"], [], "DELETED", ["DELETED"], []]
SWITCHED: list[tuple[str, Any, Probe, Any]] = [
    ("artifacts_of_image", "per_tag", rows_of_two_tags, [("v1", ""), ("v2", "")]),
    ("artifacts_of_image", "per_digest", rows_of_two_tags, [("digest", "v1,v2")]),
    ("untagged_artifacts", "listed", untagged_rows, (1, 1)),
    ("untagged_artifacts", "not_listed", untagged_rows, (0, 1)),
    ("artifact_path", "full", path_of_a_tag, ("/shop/api/v1", "v1", "/shop/api")),
    ("artifact_path", "parent", path_of_a_tag, ("/shop/api", "v1", "/shop")),
    ("deleted_artifact", "tag", tags_left_of_three, (["v1", "v3"], 0)),
    ("deleted_artifact", "manifest", tags_left_of_three, ([], 1)),
    ("last_tag", "manifest_gone", left_of_the_last_tag, (0, 0, 1_500)),
    ("last_tag", "manifest_stays", left_of_the_last_tag, (1, 1, 0)),
    ("moved_tag", "same_artifact", a_moved_tag, SAME),
    ("moved_tag", "new_artifact", a_moved_tag, ANOTHER),
    ("child_artifacts", "listed", children_of_an_index, [True, True]),
    ("child_artifacts", "not_listed", children_of_an_index, [False, True]),
    ("deleted_child", "accepted", deletion_of_a_child, ("in the operation", 0)),
    ("deleted_child", "refused", deletion_of_a_child, ("at once", 9)),
    ("deleted_child", "refused", one_of_two_tags_of_a_child, 200),
    ("deleted_child", "operation_error", deletion_of_a_child, ("in the operation", 9)),
    ("deleted_index", "children_stay", left_of_an_index, ["child", "v1"]),
    ("deleted_index", "cascade", left_of_an_index, ["v1"]),
    ("after_deletion", "not_found", after_a_deletion, GONE),
    ("after_deletion", "status", after_a_deletion, SHOWN),
    ("after_deletion", "status", deletion_of_a_deleted, 404),
    ("soft_deleted", "deleted", softly_deleted, [("DELETED", False)]),
    ("soft_deleted", "active", softly_deleted, [("ACTIVE", True)]),
    ("soft_deleted", "not_listed", softly_deleted, []),
    ("default_page_size", 10, rows_of_a_page, 10),
    ("default_page_size", 100, rows_of_a_page, 100),
    ("both_scopes", "refused", both_scopes, 400),
    ("both_scopes", "registry_wins", both_scopes, ["mine"]),
    ("both_scopes", "folder_wins", both_scopes, ["mine", "other"]),
    ("immutable", False, pushed_again, ["", "", ""]),
    ("immutable", True, pushed_again, ["immutable", "immutable", ""]),
    ("times_after_migration", "kept", hours_since_created, [False, False, False]),
    ("times_after_migration", "migration", hours_since_created, [True, True, True]),
    ("migration", "finished", deletion, (200, 0, None)),
    ("migration", "unfinished", deletion, (429, 8, "1")),
    ("lacking_role", "denied", without_roles, [403, 200, 403]),
    ("lacking_role", "not_found", without_roles, [404, 200, 404]),
    # Shared with the other service
    ("empty_fields", "omitted", lambda s, c: "properties" in row_of(s, c), False),
    ("empty_fields", "printed", lambda s, c: row_of(s, c)["properties"], {}),
    ("timestamp_digits", 0, lambda s, c: "." in row_of(s, c)["createdAt"], False),
    ("timestamp_digits", 9, lambda s, c: len(row_of(s, c)["createdAt"]), len("2026-11-24T03:00:00.127000001Z")),
    ("missing_image", "not_found", lambda s, c: c.ask_to_delete("cn100000000000000000").status_code, 404),
    ("missing_image", "operation_error", lambda s, c: c.ask_to_delete("cn100000000000000000").status_code, 200),
    ("missing_repository", "not_found", status_of_level, 404),
    ("missing_repository", "empty", status_of_level, 200),
    ("foreign_registry", 404, lambda s, c: c.get(ARTIFACTS, params={"registryId": "crp0"}).status_code, 404),
    ("phase", "gone", deletion, (200, 0, None)),  # it is the other service that ends
]


@pytest.mark.parametrize(
    ("name", "position", "probe", "seen"), [pytest.param(*row, id=f"{row[0]}={row[1]}") for row in SWITCHED]
)
def test_a_switch_changes_the_service(
    simulator: Simulator, cloud: CloudApi, name: str, position: Any, probe: Probe, seen: Any
) -> None:
    simulator.switch(**{name: position})
    assert probe(simulator, cloud) == seen


def test_every_position_of_every_switch_has_a_case() -> None:
    shown = {(name, str(position)) for name, position, *_ in SWITCHED}
    for field in fields(CloudSwitches):
        positions = [str(row[1]) for row in SWITCHED if row[0] == field.name]
        assert positions[0] == str(field.default)
        choices = getattr(field.type, "__args__", (True, False))
        assert {(field.name, str(choice)) for choice in choices} <= shown


def test_a_switch_turned_later_applies_to_existing_images(simulator: Simulator, cloud: CloudApi) -> None:
    simulator.push("a", tags=["v1", "v2"])
    first = cloud.listed()
    simulator.switch(artifacts_of_image="per_digest", artifact_path="parent")
    assert len(cloud.listed()) == 1
    simulator.switch(artifacts_of_image="per_tag", artifact_path="full")
    assert cloud.listed() == first
