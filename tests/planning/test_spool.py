"""Records in a temporary file: given back in order of their names, the last under each name, to several threads."""

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from policies.plan import RepositoryPlan
from tests.support.builders import NOW, image, policy, repository
from tests.support.planning import decide
from worker.planning.spool import Decisions, Spool

RULES = policy({"name": "pull requests", "delete": {"tags": ["pr-*"]}})


class Record(msgspec.Struct, frozen=True):
    text: str


def test_records_come_in_order_of_their_names_as_often_as_asked() -> None:
    spool = Spool(Record)
    for name in ("b", "c", "a"):
        spool.add(name, Record(f"of {name}"))
    assert [list(spool), list(spool)] == [[Record("of a"), Record("of b"), Record("of c")]] * 2
    assert (len(spool), spool["b"]) == (3, Record("of b"))


def test_the_last_record_of_a_name_is_given_back() -> None:
    spool = Spool(Record)
    for text in ("first", "second, which is longer", "3"):
        spool.add("a", Record(text))
    assert list(spool) == [Record("3")]


def test_nothing_is_under_another_name() -> None:
    spool = Spool(Record)
    assert (len(spool), list(spool)) == (0, [])
    with pytest.raises(KeyError):
        spool["a"]


def test_it_may_be_read_between_two_records() -> None:
    spool = Spool(Record)
    spool.add("a", Record("x" * 10_000))
    assert spool["a"] == Record("x" * 10_000)
    spool.add("b", Record("y"))
    assert [one.text[0] for one in spool] == ["x", "y"]


def test_several_threads_add_to_it() -> None:
    spool = Spool(Record)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: spool.add(f"{number:04}", Record(str(number) * 50)), range(400)))
    assert [one.text for one in spool] == [str(number) * 50 for number in range(400)]


def decided(path: str, *tags: str) -> RepositoryPlan:
    return decide(repository(path, *(image(f"{path} {tag}", tag) for tag in tags)), RULES, NOW)


def test_decisions_are_lines_and_records_in_order_of_their_repositories() -> None:
    decisions = Decisions()
    plans = [decided("b", "pr-1"), decided("a", "v1", "pr-2"), decided("c")]
    for plan in plans:
        decisions.add(plan)
    in_order = [decision for plan in sorted(plans, key=lambda plan: plan.path) for decision in plan.decisions]
    assert list(decisions.records()) == in_order
    assert b"".join(decisions.lines()) == b"".join(msgspec.json.encode(one) + b"\n" for one in in_order)
    assert [(one.path, len(one.deletions)) for one in decisions] == [("a", 1), ("b", 1), ("c", 0)]


def test_deletions_are_left_out_where_nobody_asks_for_them() -> None:
    decisions = Decisions()
    decisions.add(decided("a", "pr-1"), deletions=False)
    assert [one.deletions for one in decisions] == [()]
    assert [one.verdict for one in decisions.records()] == ["delete"]


def test_a_repository_that_is_decided_again_takes_the_place_of_what_was_decided() -> None:
    decisions = Decisions()
    decisions.add(decided("a", "pr-1"))
    decisions.add(decided("a", "v1", "v2"))
    assert {one.tags for one in decisions.records()} == {("v1",), ("v2",)}
    assert [len(one.deletions) for one in decisions] == [0]
