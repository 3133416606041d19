"""The blobs of a repository: rows of digests, the blobs of each image, and the blobs of deleted images only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.blobs import Blobs, digest_rows, digest_rows_and_odd, groups, keys
from policies.image import Blob, Image
from tests.support.builders import NOW, digest


def named(*blobs: Blob, tag: str = "go", config: Blob | None = None, of: object = 1) -> Image:
    return Image(digest=digest(of), tags=(tag,), created_at=NOW, config=config, layers=blobs)


@pytest.mark.parametrize(
    "digests",
    [
        [digest(1), digest(2)],
        ["sha256:" + f"{n:064x}" for n in range(5)],
        ["sha256:" + f"{n:x}".ljust(64, "0") for n in range(1, 5)],
        ["sha512:" + "a" * 128, "sha256:short", "", "sha256:" + "z" * 64, "sha256:" + "é" * 32, "sha25é:" + "0" * 63],
        ["sha256:" + " " * 64, "sha256:" + "0" * 63 + " ", "sha256:" + "0" * 62 + "  ", "sha256:" + "0" * 64],
        ["sha256:" + "A" * 64, "sha256:" + "a" * 64],
        [],
    ],
)
def test_different_digests_have_different_rows(digests: list[str]) -> None:
    rows = digest_rows(digests)
    assert rows.shape == (len(digests), 4)
    assert len({tuple(row) for row in rows.tolist()}) == len(digests)
    assert len(set(keys(rows).tolist())) == len(digests)
    for number, text in enumerate(digests):
        assert digest_rows([text]).tolist() == rows[number : number + 1].tolist()


def test_lists_the_digests_that_are_not_sha256() -> None:
    blobs, odd = Blobs(), ["sha512:" + "a" * 128, "sha256:" + "A" * 64, "ab"]
    blobs.add([named(Blob(digest(1), 1), Blob(odd[0], 1), Blob(odd[1], 1), config=Blob(odd[2], 1))])
    assert sorted(blobs.odd) == sorted(odd)
    usual = Blobs()
    usual.add([named(Blob(digest(1), 1), config=Blob(digest(2), 1))])
    assert usual.odd == Blobs().odd == ()
    assert digest_rows_and_odd([digest(1), digest(2), "sha256:" + "0" * 64])[1] == ()
    assert all(digest_rows_and_odd([digest(1), text])[1] == (text,) for text in odd)


def numbers(blobs: Blobs, *digests: str) -> list[int]:
    """The row numbers of these digests."""
    places = {tuple(row): number for number, row in enumerate(blobs.digest_rows.tolist())}
    return [places[tuple(row)] for row in digest_rows(digests).tolist()]


def test_counts_a_blob_once_for_each_deleted_image() -> None:
    blobs = Blobs()
    blobs.add([named(Blob(digest("a"), 1), Blob(digest("a"), 1), config=Blob(digest("c"), 2))])
    blobs.add([named(Blob(digest("a"), 1), of=2), named(Blob(digest("b"), 3), config=Blob(digest("c"), 2), of=3)])
    of_a, of_b, of_c = numbers(blobs, digest("a"), digest("b"), digest("c"))

    references, stays = blobs.counted({digest(1), digest(2)})
    assert [references[number] for number in (of_a, of_b, of_c)] == [2, 0, 1]
    assert [stays[number] for number in (of_a, of_b, of_c)] == [False, True, True]

    references, stays = blobs.counted(set())
    assert references.tolist() == [0, 0, 0]
    assert stays.all()


def test_an_image_in_two_rows_has_the_blobs_of_both_rows() -> None:
    blobs = Blobs()
    blobs.add([named(Blob(digest("a"), 1)), named(Blob(digest("b"), 2)), named(Blob(digest("a"), 1))])
    assert blobs.of(named()) == set(numbers(blobs, digest("a"), digest("b")))
    references, stays = blobs.counted({digest(1)})
    assert references.tolist() == [1, 1]
    assert not stays.any()


def test_counts_the_smaller_of_two_reported_sizes() -> None:
    blobs = Blobs()
    blobs.add([named(Blob(digest("a"), 7)), named(Blob(digest("a"), 5), of=2), named(Blob(digest("b"), 9), of=3)])
    sizes = [int(blobs.sizes[number]) for number in numbers(blobs, digest("a"), digest("b"))]
    assert sizes == [5, 9]
    assert blobs.of(named()) == blobs.of(named(of=2)) == set(numbers(blobs, digest("a")))


def test_counts_no_blobs_in_a_repository_without_blobs() -> None:
    blobs = Blobs()
    assert (len(blobs.digest_rows), len(blobs.sizes), blobs.of(named())) == (0, 0, frozenset())
    blobs.add([named()])
    references, stays = blobs.counted({digest(1)})
    assert (references.tolist(), stays.tolist(), blobs.of(named())) == ([], [], frozenset())


SOME = st.lists(
    st.tuples(st.integers(0, 4), st.lists(st.integers(0, 5), max_size=4), st.none() | st.integers(0, 5)), max_size=8
)


@given(SOME, st.sets(st.integers(0, 4)))
def test_counts_the_same_blobs_as_plain_sets(rows: list[tuple[int, list[int], int | None]], going: set[int]) -> None:
    blobs, names = Blobs(), dict[int, set[int]]()
    for of, layers, config in rows:
        blob = None if config is None else Blob(digest(f"blob {config}"), config)
        blobs.add([named(*(Blob(digest(f"blob {size}"), size) for size in layers), config=blob, of=of)])
        names.setdefault(of, set()).update(layers, () if config is None else (config,))
    everything = sorted(set().union(*names.values()))
    places = numbers(blobs, *(digest(f"blob {size}") for size in everything))
    references, stays = blobs.counted({digest(of) for of in going})
    for size, place in zip(everything, places, strict=True):
        users = {of for of, named_blobs in names.items() if size in named_blobs}
        assert (references[place], stays[place]) == (len(users & going), bool(users - going))
        assert blobs.sizes[place] == size


@given(st.lists(st.sampled_from([digest(n) for n in range(4)] + ["sha512:ab", "x"]), max_size=12))
def test_groups_bring_equal_digests_together(digests: list[str]) -> None:
    order, starts = groups(digest_rows(digests))
    ends = [*starts.tolist()[1:], len(digests)]
    grouped = [
        [digests[place] for place in order[start:end]] for start, end in zip(starts.tolist(), ends, strict=False)
    ]
    assert all(len(set(group)) == 1 for group in grouped)
    assert sorted(group[0] for group in grouped) == sorted(set(digests))
    assert sorted(text for group in grouped for text in group) == sorted(digests)
