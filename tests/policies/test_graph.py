"""The graph of a repository: each digest once, newest first, with its indexes and subjects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from policies.graph import Graph, GraphBuilder, blobs_of, build_graph, countable, merge_rows
from policies.image import Blob, Image
from policies.push_times import TRUSTED, distrust, trusted_after
from tests.support.builders import DAY, NOW, digest, image, index, repository, signature


def graph(*images: Image) -> Graph:
    return build_graph(repository("shop/api", *images))


def owners(built: Graph) -> dict[str, set[str]]:
    return {digest: set(owners) for digest, owners in built.owners.items()}


class TestOwners:
    def test_an_index_owns_its_children_in_the_repository(self) -> None:
        built = graph(index(1, "v1", lists=[2, 3, "nowhere"]), image(2), image(3), image(4))
        assert owners(built) == {digest(2): {digest(1)}, digest(3): {digest(1)}}
        assert (built.children, built.referrers) == ({digest(2), digest(3)}, frozenset())

    def test_a_child_of_two_indexes_has_two_owners(self) -> None:
        built = graph(index(1, lists=[3]), index(2, lists=[3]), image(3))
        assert built.owners[digest(3)] == tuple(sorted([digest(1), digest(2)]))

    def test_a_subject_owns_its_referrers(self) -> None:
        built = graph(image(1), signature(1), image("sbom", subject=digest(1)))
        assert owners(built) == {digest("sig of 1"): {digest(1)}, digest("sbom"): {digest(1)}}
        assert built.referrers == {digest("sig of 1"), digest("sbom")}
        assert not built.missing_subjects

    def test_a_subject_outside_of_the_repository_is_missing(self) -> None:
        built = graph(image(1), image("sbom", subject=digest("elsewhere")))
        assert (built.owners, built.referrers) == ({}, frozenset())
        assert built.missing_subjects == {digest("sbom"): (digest("elsewhere"),)}

    def test_the_subject_owns_a_list_of_referrers_which_owns_its_entries(self) -> None:
        tag = f"sha256-{digest(1).removeprefix('sha256:')}"
        built = graph(image(1), index("list", tag, lists=["sbom"]), image("sbom", subject=digest(1)))
        assert owners(built) == {digest("list"): {digest(1)}, digest("sbom"): {digest(1), digest("list")}}
        assert built.children == frozenset()
        assert built.referrers == {digest("list"), digest("sbom")}

    def test_a_possible_subject_owns_a_possible_list_of_referrers(self) -> None:
        tag = f"sha256-{digest(1).removeprefix('sha256:')}"
        built = graph(image(1), index("list", tag, lists=["unread"]), image("unread", subject=None))
        assert owners(built) == {digest("list"): {digest(1)}, digest("unread"): {digest("list")}}
        assert (built.children, built.referrers) == ({digest("unread")}, frozenset())

    def test_ordinary_images_have_no_owners(self) -> None:
        built = graph(image(1), image(2, "v1"))
        assert (built.owners, built.children, built.referrers, built.unreadable) == ({}, frozenset(), frozenset(), ())


@pytest.mark.parametrize(
    ("images", "goes_along"),
    [
        pytest.param([index(1, lists=[2]), image(2)], True, id="an untagged child"),
        pytest.param([index(1, lists=[2]), image(2, "v1")], False, id="a child with a tag of its own"),
        pytest.param([image(1), image(2, subject=digest(1))], True, id="a referrer"),
        pytest.param([image(1), image(2, "signed", subject=digest(1))], True, id="a tagged referrer"),
        pytest.param([index(1, lists=[]), image(2)], False, id="an image of its own"),
        pytest.param([index(1, lists=[3]), image(2, subject=digest("nowhere")), image(3)], False, id="an orphan"),
    ],
)
def test_untagged_children_and_referrers_follow_their_owners(images: list[Image], goes_along: bool) -> None:
    assert graph(*images).follows_owners(digest(2)) is goes_along


class TestOrder:
    def test_an_image_comes_after_all_its_owners(self) -> None:
        built = graph(index(1, lists=[2, 4]), index(2, lists=[3]), index(3, lists=[4]), image(4), signature(4))
        assert built.order == tuple(map(digest, [2, 3, 4, "sig of 4"]))

    def test_the_order_leaves_out_circles_and_all_that_they_own(self) -> None:
        built = graph(index(1, lists=[2]), index(2, lists=[1, 3]), image(3), index(4, lists=[5]), image(5))
        assert built.order == (digest(5),)

    @given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=14))
    def test_no_image_comes_before_one_of_its_owners(self, edges: list[tuple[int, int]]) -> None:
        lists = {number: sorted({child for owner, child in edges if owner == number}) for number in range(7)}
        built = graph(*(index(number, lists=children) for number, children in lists.items()))
        place = {digest: number for number, digest in enumerate(built.order)}
        assert len(place) == len(built.order)
        for digest_, number in place.items():
            assert all(place.get(owner, -1) < number for owner in built.owners[digest_])
        without_owners = {digest(number) for number in range(7)} - built.owners.keys()
        for digest_ in built.owners.keys() - place.keys():  # only for a circle's sake
            assert not set(built.owners[digest_]) <= without_owners


class TestImages:
    def test_images_are_newest_first_then_by_digest(self) -> None:
        same = sorted([image(2, days=5), image(3, days=5)], key=lambda row: row.digest)
        old, new, unknown = image(1, days=9), image(4, days=1), image(5, days=None)
        assert graph(unknown, old, *reversed(same), new).images == (new, *same, old, unknown)

    @given(
        st.permutations([image(1, days=1), image(2, days=1), index(3, lists=[1]), image(4, days=None), image(1, "v1")])
    )
    def test_the_order_of_rows_makes_no_difference(self, rows: list[Image]) -> None:
        expected = graph(image(1, days=1), image(2, days=1), index(3, lists=[1]), image(4, days=None), image(1, "v1"))
        built = graph(*rows)
        assert (built.images, built.owners, built.by_digest) == (expected.images, expected.owners, expected.by_digest)

    def test_rows_may_be_added_in_batches_and_lose_their_blobs(self) -> None:
        images = [index(1, "v1", lists=[2], layers={"own": 1}), image(2, layers={"a": 60, "b": 30})]
        builder = GraphBuilder("shop/api", keep_blobs=False)
        for row in images:
            builder.add([row])
        built = builder.graph()
        assert [row.layers for row in built.images] == [(), ()]
        assert built.owners == graph(*images).owners
        assert {row.digest: len(built.blobs.of(row)) for row in built.images} == {digest(1): 1, digest(2): 2}


class TestMerged:
    def test_equal_rows_are_one_image(self) -> None:
        assert merge_rows([image(1, "v1"), image(1, "v1"), image(2)]) == [image(1, "v1"), image(2)]

    @pytest.mark.parametrize(
        ("fact", "value", "other", "unknown"),
        [
            ("compressed_size", 100, 101, None),
            ("created_at", NOW, NOW - DAY, None),
            ("children", (), (digest(9),), None),
            ("children", UNSET, (), None),
            ("subject", digest(8), digest(9), None),
            ("subject", UNSET, digest(9), None),
            ("media_type", "a", "b", ""),
            ("pulled_at", NOW, None, UNSET),
            ("labels", {"a": "1"}, {"a": "2"}, None),
            ("config", Blob("a", 1), Blob("b", 2), None),
        ],
    )
    def test_a_fact_in_which_rows_differ_is_unknown(
        self, fact: str, value: object, other: object, unknown: object
    ) -> None:
        rows = [replace(image(1), **{fact: reported}) for reported in (value, other)]
        for order in (rows, rows[::-1]):
            (merged,) = merge_rows(order)
            assert getattr(merged, fact) == unknown

    def test_an_image_has_the_tags_and_blobs_of_all_its_rows(self) -> None:
        rows = [image(1, "v1", layers=["a"]), replace(image(1, "v2", layers=["b"]), locked=True)]
        (merged,) = merge_rows(rows)
        assert (merged.tags, merged.locked) == (("v1", "v2"), True)
        assert set(blobs_of(merged)) == {Blob(digest("a"), 10), Blob(digest("b"), 10)}


@pytest.mark.parametrize(
    ("images", "size"),
    [
        pytest.param([index(1, lists=[2]), image(2, layers={"a": 60, "b": 30})], 90, id="an index with children"),
        pytest.param(
            [index(1, lists=[2, 3]), image(2, layers={"a": 60}), image(3, layers={"a": 60})],
            60,
            id="a shared blob counts once",
        ),
        pytest.param([index(1, lists=[2], layers={"own": 1}), image(2, layers={"a": 60})], 61, id="with its own blobs"),
        pytest.param([index(1, lists=[2]), index(2, lists=[3]), image(3, layers={"a": 7})], 7, id="however deep"),
        pytest.param([index(1, lists=[2]), index(2, lists=[1, 3]), image(3, layers={"a": 7})], 7, id="in a circle"),
        pytest.param([index(1, lists=[2]), image(2, size=101)], 101, id="a child that reports a size and no blobs"),
        pytest.param([index(1, lists=[])], 0, id="an index without children"),
        pytest.param([index(1, lists=[2, 3]), image(2)], None, id="a missing child"),
        pytest.param([index(1, lists=[2]), image(2, size=None)], None, id="a child of unknown size"),
        pytest.param([index(1, lists=[2]), index(2, lists=None)], None, id="an unreadable index as child"),
        pytest.param([index(1, lists=None)], None, id="it is unreadable itself"),
    ],
)
def test_the_size_of_an_index_counts_each_blob_once(images: list[Image], size: int | None) -> None:
    assert graph(*images).context(NOW).index_size(images[0]) == size


def test_an_unreadable_image_may_list_anything_unless_it_is_ignored() -> None:
    built = graph(index("u", lists=None), index("w", lists=None), image(1))
    first, second = sorted([digest("u"), digest("w")])
    assert built.unreadable == (first, second)
    assert built.first_unreadable() == built.first_unreadable({digest(1)}) == first
    assert built.first_unreadable({first}) == second
    assert built.first_unreadable({first, second}) is None


class TestPushTimes:
    IMAGES = (image(1, days=1), image(2, days=5), image(3, days=None))

    def test_trusted_push_times_do_not_change_the_graph(self) -> None:
        built = graph(*self.IMAGES)
        assert built.with_push_times(TRUSTED) is built

    def test_push_times_before_the_trusted_instant_are_removed(self) -> None:
        built = graph(*self.IMAGES).with_push_times(trusted_after(NOW - 2 * DAY))
        assert [row.created_at for row in built.images] == [NOW - DAY, None, None]
        assert built.suspicious == {digest(2)}
        assert built.suspicion

    def test_a_suspicion_removes_all_push_times_and_keeps_the_order(self) -> None:
        built = graph(*self.IMAGES, index(4, lists=[1], days=9)).with_push_times(distrust("a restore"))
        assert [row.digest for row in built.images] == [digest(1), digest(2), digest(4), digest(3)]
        assert {row.created_at for row in built.images} | {row.created_at for row in built.by_digest.values()} == {None}
        assert built.suspicious == {digest(1), digest(2), digest(4)}


def test_children_and_referrers_are_not_ranked() -> None:
    images = [index(1, "v1", days=1, lists=[2]), image(2), image(3, days=3), image("sbom", subject=digest("away"))]
    built = graph(*images)
    assert {row.digest for row in built.rankable(frozenset())} == {digest(1), digest(3), digest("sbom")}
    assert [row.digest for row in built.rankable(frozenset([digest("away")]))] == [digest(1), digest(3)]


def test_locked_and_unreadable_images_are_not_countable() -> None:
    images = [image(1), image(2, locked=True), index(3, lists=None), index(4, lists=[])]
    assert countable(images) == [images[0], images[3]]
    assert countable(images, {digest(1)}) == [images[3]]
