"""Every condition and each of its answers, with the fact it gives for it."""

from datetime import timedelta

import pytest

from policies.conditions import (
    NO,
    UNKNOWN,
    YES,
    All,
    Answer,
    AnyTag,
    Condition,
    ConditionContext,
    Digests,
    EveryTag,
    LargerThan,
    NewerThan,
    NoTag,
    OlderThan,
    Sighting,
    SmallerThan,
    SomeTag,
    Tagged,
    UntaggedFor,
)  # fmt: skip
from policies.image import Image
from policies.patterns import Patterns
from tests.support.builders import DAY, NOW, digest, image, index

LONG = 10 * DAY  # for how long scans have seen a settled image

PR = Patterns(("pr-*",))
V = Patterns(("v*",))
V2 = Patterns(("v2*",))
CONTEXT = ConditionContext(NOW)


@pytest.mark.parametrize(
    ("condition", "of", "answer"),
    [
        pytest.param(All(), image(1), YES, id="all holds always"),
        pytest.param(EveryTag(PR), image(1, "pr-1"), YES, id="its only tag matches"),
        pytest.param(EveryTag(PR), image(1, "pr-1", "pr-2"), YES, id="both tags match"),
        pytest.param(EveryTag(PR), image(1, "pr-1", "v1"), NO, id="delete: one of two tags is not enough"),
        pytest.param(EveryTag(PR), image(1), NO, id="no tags do not all match"),
        pytest.param(NoTag(V), image(1, "pr-1"), YES, id="no tag matches"),
        pytest.param(NoTag(V), image(1, "pr-1", "v1"), NO, id="some tag matches"),
        pytest.param(NoTag(V), image(1), YES, id="untagged: none matches"),
        pytest.param(AnyTag(PR), image(1, "v1", "pr-1"), YES, id="delete with any_tag: one tag is enough"),
        pytest.param(AnyTag(PR), image(1, "v1"), NO, id="any tag: none"),
        pytest.param(AnyTag(PR), image(1), NO, id="any tag: untagged"),
        pytest.param(SomeTag(V), image(1, "pr-1", "v1"), YES, id="keep: one tag is enough"),
        pytest.param(SomeTag(V), image(1, "pr-1"), NO, id="keep: no tag"),
        pytest.param(SomeTag(V), image(1), NO, id="keep: an untagged image has no matching tag"),
        pytest.param(SomeTag(None, V), image(1, "v1", "pr-1"), YES, id="keep except: some tag matches none"),
        pytest.param(SomeTag(None, V), image(1, "v1"), NO, id="keep except: every tag matches"),
        pytest.param(SomeTag(None, V), image(1), YES, id="keep except: or it is untagged"),
        pytest.param(SomeTag(V, V2), image(1, "v1"), YES, id="keep: the same tag matches and is not excepted"),
        pytest.param(SomeTag(V, V2), image(1, "v2", "pr-1"), NO, id="keep: not two different tags"),
        pytest.param(SomeTag(V, V2), image(1), NO, id="keep: with tags, untagged does not hold"),
        pytest.param(Tagged(), image(1, "x"), YES, id="tagged"),
        pytest.param(Tagged(), image(1), NO, id="not tagged"),
        pytest.param(Tagged(False), image(1), YES, id="untagged"),
        pytest.param(Tagged(False), image(1, "x"), NO, id="not untagged"),
        pytest.param(Digests(frozenset([digest(1)])), image(1), YES, id="its digest is listed"),
        pytest.param(Digests(frozenset([digest(1)])), image(2), NO, id="its digest is not listed"),
        pytest.param(OlderThan(7 * DAY), image(1, days=7), YES, id="the seventh day is old enough"),
        pytest.param(OlderThan(8 * DAY), image(1, days=7), NO, id="the seventh day is not the eighth"),
        pytest.param(OlderThan(0 * DAY), image(1, days=-1), NO, id="a push of tomorrow is not old"),
        pytest.param(OlderThan(7 * DAY), image(1, days=None), UNKNOWN, id="older: the time is unknown"),
        pytest.param(NewerThan(7 * DAY), image(1, days=7), NO, id="the seventh day is not new"),
        pytest.param(NewerThan(8 * DAY), image(1, days=7), YES, id="the seventh day is within eight"),
        pytest.param(NewerThan(7 * DAY), image(1, days=-1), YES, id="a push of tomorrow is new"),
        pytest.param(NewerThan(7 * DAY), image(1, days=None), UNKNOWN, id="newer: the time is unknown"),
        pytest.param(LargerThan(100), image(1, size=101), YES, id="larger"),
        pytest.param(LargerThan(100), image(1, size=100), NO, id="larger, strictly"),
        pytest.param(LargerThan(0), image(1, size=None), UNKNOWN, id="larger: an unknown size is not 0"),
        pytest.param(LargerThan(0), image(1, size=0), NO, id="0 is not larger than 0"),
        pytest.param(SmallerThan(100), image(1, size=99), YES, id="smaller"),
        pytest.param(SmallerThan(100), image(1, size=100), NO, id="smaller, strictly"),
        pytest.param(SmallerThan(100), image(1, size=None), UNKNOWN, id="smaller: the size is unknown"),
        pytest.param(LargerThan(100), index(1, lists=[2], size=500), UNKNOWN, id="an index has no size of its own"),
    ],
)  # fmt: skip
def test_a_condition_answers_yes_no_or_unknown(condition: Condition, of: Image, answer: Answer) -> None:
    assert condition.holds(of, CONTEXT) is answer


@pytest.mark.parametrize(("size", "answer"), [(101, YES), (100, NO), (None, UNKNOWN)])
def test_the_size_of_an_index_includes_its_children(size: int | None, answer: Answer) -> None:
    context = ConditionContext(NOW, lambda row: size if row.digest == digest(1) else 0)
    assert LargerThan(100).holds(index(1, lists=[2]), context) is answer


@pytest.mark.parametrize(
    ("condition", "of", "fact"),
    [
        (All(), image(1), "every image"),
        (EveryTag(PR), image(1, "pr-1", "pr-2"), "every tag matches pr-*"),
        (EveryTag(Patterns(("x", "pr-*", "mr-*"))), image(1, "mr-1", "pr-2", "mr-2"), "every tag matches mr-*, pr-*"),
        (NoTag(Patterns(("v*", "latest"))), image(1, "a"), "no tag matches v*, latest"),
        (NoTag(V), image(1), "untagged"),
        (AnyTag(PR), image(1, "v1", "pr-7"), "tag pr-7 matches pr-*"),
        (SomeTag(V), image(1, "a", "v1"), "tag v1 matches v*"),
        (SomeTag(V, V2), image(1, "v2", "v1"), "tag v1 matches v* and matches none of v2*"),
        (SomeTag(None, V), image(1, "a"), "tag a matches none of v*"),
        (SomeTag(None, V), image(1), "untagged"),
        (Tagged(), image(1, "a"), "tagged"),
        (Tagged(False), image(1), "untagged"),
        (Digests(frozenset([digest(1)])), image(1), "its digest is listed"),
        (OlderThan(14 * DAY), image(1, days=52.9), "52 days old, at least 14"),
        (OlderThan(DAY), image(1, days=1), "1 day old, at least 1"),
        (OlderThan(timedelta(hours=36)), image(1, days=2), "48 hours old, at least 36"),
        (OlderThan(timedelta(minutes=90)), image(1, days=0.0625), "90 minutes old, at least 90"),
        (NewerThan(14 * DAY), image(1, days=-3), "0 days old, less than 14"),
        (NewerThan(14 * DAY), image(1, days=None), "its push time is unknown"),
        (LargerThan(5 << 30), image(1, size=6 << 30), "6 GiB, larger than 5 GiB"),
        (SmallerThan(1 << 20), image(1, size=1000), "1000 B, smaller than 1 MiB"),
        (SmallerThan(1 << 20), image(1, size=None), "its size is unknown"),
    ],
)  # fmt: skip
def test_an_answer_comes_with_its_fact(condition: Condition, of: Image, fact: str) -> None:
    assert condition.fact(of, CONTEXT) == fact


@pytest.mark.parametrize(
    ("of", "sighting", "answer"),
    [
        pytest.param(image(1, "a"), Sighting(NOW - LONG), NO, id="tagged"),
        pytest.param(image(1, "a"), None, NO, id="tagged, never seen"),
        pytest.param(image(1), None, UNKNOWN, id="never seen"),
        pytest.param(image(1), Sighting(None), NO, id="the last scan saw it tagged"),
        pytest.param(image(1), Sighting(NOW - 7 * DAY), YES, id="the seventh day is enough"),
        pytest.param(image(1), Sighting(NOW - 7 * DAY + timedelta(seconds=1)), NO, id="a second less is not"),
        pytest.param(image(1), Sighting(NOW + DAY), NO, id="seen tomorrow: the clock was set back"),
    ],
)
def test_untagged_for_counts_from_the_first_scan_that_saw_it_untagged(
    of: Image, sighting: Sighting | None, answer: Answer
) -> None:
    assert UntaggedFor(7 * DAY).holds(of, ConditionContext(NOW, seen=lambda _: sighting)) is answer
