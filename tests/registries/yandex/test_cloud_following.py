"""The effect of a deletion, and the artifacts whose deletion is requested next."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from policies.image import Blob
from worker.registries.yandex.cloud_following import effect_of, untagged_leftovers
from worker.registries.yandex.cloud_images import (
    Folder,
    image_of,
)
from worker.registries.yandex.cloud_protocol import Artifact

D1, D2, D3 = (f"sha256:{digit * 64}" for digit in "123")


C1, L1, L2 = (f"sha256:{digit * 64}" for digit in "abc")


T0 = datetime(2026, 3, 2, 9, 15, 44, 127_000, UTC)


def artifact(digest: str = D1, name: str = "v1", **more: Any) -> Artifact:
    more = {"id": f"id-{digest[7]}-{name[:7]}", "config": Blob(C1, 500), "created_at": T0, **more}
    return Artifact(path=f"/shop/api/{name}", name=name, digest=digest, **more)


def folder(*artifacts: Artifact) -> Folder:
    return Folder("shop/api", artifacts)


INDEX = artifact(D1, "idx", config=None, children=(D2,))


CHILD = artifact(D2, D2)


TAGGED = artifact(D2, "child")


OTHER = artifact(D3, "v3")


BARE = artifact(D3, D3)


@pytest.mark.parametrize(
    ("before", "after", "asked", "collateral_tags"),
    [
        pytest.param((INDEX, OTHER), (OTHER,), (), (), id="only the image"),
        pytest.param((INDEX, OTHER), (), (), ("v3",), id="another's tag"),
        pytest.param((INDEX, OTHER), (), (D3,), (), id="another image whose deletion was requested"),
        pytest.param((INDEX, OTHER), (BARE,), (), ("v3",), id="another's tag alone"),
        pytest.param((INDEX, OTHER), (artifact(D2, "v3"),), (), (), id="another's tag moved on"),
        pytest.param((INDEX, CHILD), (), (), (D2,), id="an untagged child"),
        pytest.param((INDEX, TAGGED), (CHILD,), (), ("child",), id="a child's tag"),
        pytest.param((INDEX, BARE), (), (), (), id="an untagged image that the index does not list"),
        pytest.param((INDEX, TAGGED), (CHILD,), (D2,), (), id="a child whose deletion was requested"),
    ],
)
def test_names_collateral_tags_and_images(
    before: tuple[Artifact, ...], after: tuple[Artifact, ...], asked: tuple[str, ...], collateral_tags: tuple[str, ...]
) -> None:
    image = image_of([INDEX], ["idx"], "x")
    assert effect_of(image, folder(*before), folder(*after), asked).collateral_tags == collateral_tags
    assert effect_of(image, None, folder(*after), asked).collateral_tags == ()


def test_reports_what_is_left_of_an_image() -> None:
    image = replace(image_of([artifact()], ["v1", "v2", "v3"], "x"), tags=("v1", "v2", "v3"))
    left = effect_of(image, None, folder(artifact(D1, "v1"), artifact(D1, "new"), artifact(D2, "v2")))
    assert (left.tags, left.new_tags, left.raced) == (("v1",), ("new",), ("v2",))
    assert len(left.artifacts) == 2


LATER = T0 + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("tags", "asked", "after", "rest", "again"),
    [
        pytest.param(("v1",), {("a", True)}, {"id": "a"}, 1, False, id="the same artifact without its tag"),
        pytest.param(("v1",), {("a", True)}, {"id": "b"}, 1, False, id="another"),
        pytest.param(("v1",), {("a", True), ("b", False)}, {"id": "b"}, 0, False, id="its own deletion was requested"),
        pytest.param(("v1",), set(), {"id": "b"}, 1, False, id="another process requested the tags"),
        pytest.param((), {("b", False)}, {"id": "b"}, 0, False, id="an untagged image that is still listed"),
        pytest.param((), set(), {"id": "b"}, 0, False, id="an untagged image, requested by another process"),
        pytest.param(
            ("v1",), {("a", True)}, {"id": "b", "created_at": LATER}, 0, True, id="pushed during the deletion"
        ),
        pytest.param(
            (), {("b", False)}, {"id": "c", "created_at": LATER}, 0, True, id="pushed untagged during the deletion"
        ),
        pytest.param(("v1",), {("a", True)}, {"id": "b", "created_at": None}, 0, False, id="unknown push time"),
        pytest.param(("v1",), {("a", True)}, {"id": "b", "name": "v1"}, 0, False, id="its tag is still there"),
    ],
)
def test_finds_untagged_artifacts_that_the_last_tag_left(
    tags: tuple[str, ...], asked: set[tuple[str, bool]], after: dict[str, Any], rest: int, again: bool
) -> None:
    image = replace(image_of([artifact()], tags, "x"), tags=tags)
    left = effect_of(image, None, folder(artifact(**{"name": D1, **after})))
    assert len(untagged_leftovers(image, left, asked)) == rest
    assert left.pushed_again is again


def test_a_nested_index_belongs_to_the_children() -> None:
    nested = folder(artifact(D1, "x", config=None, children=(D2,)), artifact(D2, "y", config=None, children=(D3, D1)))
    assert nested.below(D1) == {D1, D2, D3}
