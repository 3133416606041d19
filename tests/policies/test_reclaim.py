"""Exact bytes: columns of repositories, each blob of the registry once."""

import numpy as np
import pytest

from policies.blobs import _MIX, Blobs, digest_rows, keys
from policies.image import Blob, Image
from policies.limits import Totals
from policies.plan import RepositoryPlan
from policies.reclaim import repository_totals
from tests.support.builders import NOW, add_up, digest, policy, repository
from tests.support.planning import decide

EVERYTHING = policy({"delete": {"all": True}}, {"keep": {"tags": ["keep"]}})


def decided(path: str, *images: Image) -> RepositoryPlan:
    return decide(repository(path, *images), EVERYTHING, NOW)


def totals(*plans: RepositoryPlan) -> tuple[int, int]:
    totals = add_up(plan.totals for plan in plans).totals
    return totals.reclaimable_bytes, totals.registry_bytes


def named(*blobs: Blob, tag: str = "go", config: Blob | None = None, of: object = 1) -> Image:
    return Image(digest=digest(of), tags=(tag,), created_at=NOW, config=config, layers=blobs)


@pytest.mark.parametrize(
    ("plans", "freed", "whole"),
    [
        pytest.param([[named(Blob("a", 5), Blob("b", 7))]], 12, 12, id="every image is deleted"),
        pytest.param([[named(Blob("a", 5), Blob("a", 5))]], 5, 5, id="an image that names a blob twice"),
        pytest.param([[named(Blob("a", 5), config=Blob("a", 5))]], 5, 5, id="as a layer and as the config"),
        pytest.param([[named(Blob("a", 5)), named(Blob("a", 5), of=2)]], 5, 5, id="in two that go"),
        pytest.param([[named(Blob("a", 5)), named(Blob("a", 5), of=2, tag="keep")]], 0, 5, id="a blob of a kept image"),
        pytest.param(
            [[named(Blob("a", 5))], [named(Blob("a", 5), tag="keep")]],
            0,
            5,
            id="a blob of a kept image in another repository",
        ),
        pytest.param([[named(Blob("a", 5))], [named(Blob("a", 5))]], 5, 5, id="the same image in two repositories"),
        pytest.param([[named(Blob("a", 5), Blob("a", 3))]], 3, 3, id="two sizes: the smallest"),
        pytest.param([[named(Blob("a", 5))], [named(Blob("a", 3))]], 3, 3, id="two sizes in two repositories"),
        pytest.param(
            [[named(Blob("a", 2**63 - 1), Blob("b", 2**63 - 1))]], 2**64 - 2, 2**64 - 2, id="more than an int64"
        ),
        pytest.param([[named(Blob("sha512:ab", 5), Blob("sha256:ab", 7))]], 12, 12, id="digests of other kinds"),
        pytest.param([[named(Blob(digest("x"), 5), Blob(digest("x").upper(), 7))]], 12, 12, id="letters count"),
        pytest.param([[]], 0, 0, id="an empty repository"),
        pytest.param([], 0, 0, id="no repository"),
    ],
)
def test_a_blob_is_freed_if_no_kept_image_names_it(plans: list[list[Image]], freed: int, whole: int) -> None:
    assert totals(*(decided(f"r{number}", *images) for number, images in enumerate(plans))) == (freed, whole)


def hexadecimal(row: list[int]) -> str:
    return "sha256:" + np.array(row, dtype=np.uint64).tobytes().hex()


def test_separates_digests_with_the_same_key() -> None:
    """Two digests that were made so that their keys are equal: the sort by key alone would take them for one blob."""
    row = [12345, 0, 0, 0]
    other = [0, 12345 * int(_MIX[0]) * pow(int(_MIX[1]), -1, 2**64) % 2**64, 0, 0]
    digests = [hexadecimal(row), hexadecimal(other)]
    first, second = keys(digest_rows(digests)).tolist()
    assert first == second
    assert digest_rows(digests).tolist() == [row, other]
    blobs = [Blob(digests[0], 3), Blob(digests[1], 4), Blob(digest("else"), 10)]
    plans = [
        decided("a", named(*blobs)),
        decided("b", named(blobs[0], tag="keep")),
        decided("c", named(*reversed(blobs))),
    ]
    assert totals(*plans) == (14, 17)
    closing = add_up(plan.totals for plan in plans)
    numbers = closing.freed_blobs(named(*blobs))
    assert sorted(closing.size(number) for number in numbers) == [4, 10]
    assert [closing.references(number) for number in numbers] == [2, 2]


def test_finds_the_freed_blobs_of_an_image() -> None:
    blobs = Blobs()
    blobs.add([named(Blob("a", 1), Blob("b", 2), Blob("a", 1), config=Blob("c", 3))])
    blobs.add([named(Blob("d", 4), of=2), named(Blob("e", 5))])
    names = [sorted(blobs.sizes[list(blobs.of(named(of=of)))].tolist()) for of in (1, 2)]
    assert names == [[1, 2, 3, 5], [4]]
    assert blobs.of(named(of=3)) == frozenset()
    assert sorted(blobs.sizes.tolist()) == [1, 2, 3, 4, 5]
    totals = repository_totals(blobs, {digest(1)}, counts=Totals(), rule_selected={})
    assert add_up([totals]).totals == Totals(reclaimable_bytes=11, registry_bytes=15)
