"""The history of complete scans, packed and unpacked; it always equals a plain dict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.blobs import digest_rows
from policies.image import Image
from policies.scan_history import (
    NO_HISTORY,
    Absent,
    DigestHistory,
    RepositoryHistory,
    Vanished,
    add_up_absent,
    find_absent,
    tags_hash,
    update_history,
)
from tests.support.builders import DAY, NOW, digest, image

# Two digests begin with the same eight bytes, one has another algorithm: a lookup must not confuse them.
ALIKE = ("sha256:" + "ab" * 8 + "00" * 24, "sha256:" + "ab" * 8 + "11" * 24)
NAMES = (digest(1), digest(2), digest(3), *ALIKE, "sha512:" + "0" * 128)
TAGS = ((), ("a",), ("b",), ("a", "b"))

Listing = Mapping[str, tuple[str, ...]]  # digest -> tags of one scan
listings = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(TAGS))


@dataclass(frozen=True)
class Entry:
    """The plain model's memory of a digest."""

    tags: tuple[str, ...]
    first: datetime
    since: datetime
    missing: datetime | None = None


@dataclass(frozen=True)
class Scan:
    """One complete scan, our deletions since the scan before, and whether a person accepts its absences."""

    listing: Listing
    ours: frozenset[str] = frozenset()
    suspicious_absence: bool = False
    accepts: bool = False


scans = st.lists(
    st.builds(
        Scan,
        listing=listings,
        ours=st.frozensets(st.sampled_from(NAMES)),
        suspicious_absence=st.booleans(),
        accepts=st.booleans(),
    ),
    max_size=6,
)


def images(listing: Listing) -> list[Image]:
    return [Image(digest=name, tags=tags) for name, tags in listing.items()]


def modelled(before: Mapping[str, Entry], scan: Scan, now: datetime, accepted: datetime | None) -> dict[str, Entry]:
    after = {}
    for name, tags in scan.listing.items():
        known = before.get(name)
        if known is not None and known.missing is not None:
            known = None  # a missing image that returned is new
        same = known is not None and known.tags == tags
        after[name] = Entry(tags, known.first if known else now, known.since if known and same else now)
    for name, known in before.items():
        if name in scan.listing or name in scan.ours or not scan.suspicious_absence:
            continue
        if known.missing is None or accepted is None or known.missing > accepted:
            after[name] = replace(known, missing=known.missing or now)
    return after


def history_rows(seen: RepositoryHistory) -> set[tuple[object, ...]]:
    columns = (seen.keys.tolist(), seen.tags.tolist(), seen.first.tolist(), seen.since.tolist(), seen.missing.tolist())
    return {(*key, *facts) for key, *facts in zip(*columns, strict=True)}


def modelled_rows(model: Mapping[str, Entry]) -> set[tuple[object, ...]]:
    return {
        (
            *digest_rows([name])[0, :2].tolist(),
            tags_hash(entry.tags),
            *map(micro, (entry.first, entry.since, entry.missing)),
        )
        for name, entry in model.items()
    }


def micro(at: datetime | None) -> int:
    return 0 if at is None else round(at.timestamp() * 1_000_000)


@settings(deadline=None)
@given(scans)
def test_any_sequence_of_scans_gives_the_history_of_a_plain_dict(history: Sequence[Scan]) -> None:
    seen, model, accepted = NO_HISTORY, dict[str, Entry](), None
    for number, scan in enumerate(history):
        now = NOW + number * DAY
        accepted = now - DAY / 2 if scan.accepts else accepted
        ours = digest_rows(sorted(scan.ours))
        absent = find_absent(seen, digest_rows(list(scan.listing)), ours, accepted)
        gone = {
            name: entry
            for name, entry in model.items()
            if name not in scan.listing
            and name not in scan.ours
            and (entry.missing is None or accepted is None or entry.missing > accepted)
        }
        assert absent.new == sum(entry.missing is None for entry in gone.values())
        assert absent.old == sum(entry.missing is not None for entry in gone.values())
        seen = update_history(
            seen,
            images(scan.listing),
            now,
            deleted=ours,
            accepted_at=accepted,
            suspicious_absence=scan.suspicious_absence,
        )
        model = modelled(model, scan, now, accepted)
        assert history_rows(seen) == modelled_rows(model)
        assert len(seen) == len(model)
        assert history_rows(RepositoryHistory.unpack(seen.pack())) == history_rows(seen)
        assert seen.lookup(NAMES) == {
            name: DigestHistory(entry.first, entry.since, tags_hash(entry.tags))
            for name, entry in model.items()
            if entry.missing is None
        }


@settings(deadline=None)
@given(listings, st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(listing: Listing, random) -> None:
    rows = images(listing)
    shuffled = [replace_tags(row, random.sample(row.tags, len(row.tags))) for row in random.sample(rows, len(rows))]
    assert update_history(NO_HISTORY, shuffled, NOW).pack() == update_history(NO_HISTORY, rows, NOW).pack()


def replace_tags(row: Image, tags: list[str]) -> Image:
    return Image(digest=row.digest, tags=tuple(tags))


@settings(deadline=None)
@given(listings)
def test_a_scan_that_sees_the_same_again_changes_no_byte(listing: Listing) -> None:
    once = update_history(NO_HISTORY, images(listing), NOW)
    again = update_history(once, images(listing), NOW + DAY)
    assert history_rows(again) == history_rows(once)
    assert again.pack() == once.pack()


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\1\0\0", id="half a head"),
        pytest.param(b"\2" + b"\0" * 11, id="another form"),
        pytest.param(update_history(NO_HISTORY, [image(1)], NOW).pack()[:-1], id="cut short"),
        pytest.param(update_history(NO_HISTORY, [image(1)], NOW).pack() + b"\0", id="too long"),
    ],
)
def test_rejects_bytes_that_are_not_a_history(packed: bytes) -> None:
    with pytest.raises(ValueError, match="another format, or is cut short"):
        RepositoryHistory.unpack(packed)


def test_an_image_takes_thirty_one_bytes() -> None:
    """Before it is compressed; in the store the indexes of instants take next to nothing."""
    assert len(update_history(NO_HISTORY, [image(n, f"pr-{n}") for n in range(1000)], NOW).pack()) < 31_000


def parts(*known: tuple[int, int, int], since: int | None = None) -> list[Absent]:
    """Repositories by (seen, new, old), all first seen at 10."""
    return [Absent(first={10: saw}, new=new, old=old, missing_since=since) for saw, new, old in known]


@pytest.mark.parametrize(
    ("absences", "expected", "suspicious_absence"),
    [
        pytest.param([], Vanished(0, 0.0), False, id="never scanned"),
        pytest.param(parts((10, 0, 0)), Vanished(0, 0.0), False, id="all there"),
        pytest.param(parts((10, 2, 0)), Vanished(2, 0.2), False, id="a fifth is not more than a fifth"),
        pytest.param(parts((10, 3, 0)), Vanished(3, 0.3), True, id="more than a fifth"),
        pytest.param(parts((3, 1, 0)), Vanished(1, 1 / 3), True, id="one of three: small registries count as well"),
        pytest.param(parts((97, 0, 0), (3, 3, 0)), Vanished(3, 0.03), False, id="a small repository gone whole"),
        pytest.param(parts((10, 0, 3), since=20), Vanished(0, 0.3), True, id="still missing, and counted before"),
        pytest.param(
            [*parts((10, 0, 3), since=20), Absent(first={20: 1000})],
            Vanished(0, 0.3),
            True,
            id="new pushes do not end a suspicion",
        ),
        pytest.param(parts((10, 0, 1), since=20), Vanished(0, 0.1), False, id="most came back"),
        pytest.param(parts((0, 0, 0)), Vanished(0, 0.0), False, id="an empty registry"),
    ],
)
def test_more_than_a_fifth_missing_is_suspicious(
    absences: list[Absent], expected: Vanished, suspicious_absence: bool
) -> None:
    assert add_up_absent(absences) == expected
    assert add_up_absent(absences).suspicious_absence is suspicious_absence


def test_an_accepted_absence_no_longer_counts() -> None:
    before = update_history(NO_HISTORY, [image(n) for n in range(4)], NOW)
    missing = update_history(before, [image(0), image(1)], NOW + DAY, suspicious_absence=True)
    listed = digest_rows([digest(0), digest(1)])
    assert find_absent(missing, listed, digest_rows([])).old == 2
    assert find_absent(missing, listed, digest_rows([]), accepted_at=NOW + DAY / 2).old == 2
    accepted = find_absent(missing, listed, digest_rows([]), accepted_at=NOW + 2 * DAY)
    assert (accepted.old, accepted.new, sum(accepted.first.values())) == (0, 0, 2)
    assert (
        len(update_history(missing, [image(0)], NOW + 3 * DAY, accepted_at=NOW + 2 * DAY, suspicious_absence=True)) == 2
    )


def test_a_missing_digest_is_unknown_and_new_when_seen_again() -> None:
    before = update_history(NO_HISTORY, [image(1)], NOW)
    missing = update_history(before, [], NOW + DAY, suspicious_absence=True)
    assert len(missing) == 1
    assert missing.lookup([digest(1)]) == {}
    back = update_history(missing, [image(1)], NOW + 2 * DAY)
    assert back.lookup([digest(1)]) == {digest(1): DigestHistory(NOW + 2 * DAY, NOW + 2 * DAY, 0)}
