"""Records in a temporary file: in the order of their names, the last of each name, for several threads."""

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


def test_reads_records_in_the_order_of_names_repeatedly() -> None:
    spool = Spool(Record)
    for name in ("b", "c", "a"):
        spool.add(name, Record(f"of {name}"))
    assert [list(spool), list(spool)] == [[Record("of a"), Record("of b"), Record("of c")]] * 2
    assert (len(spool), spool["b"]) == (3, Record("of b"))


def test_the_last_record_of_a_name_replaces_earlier_ones() -> None:
    spool = Spool(Record)
    for text in ("first", "second, which is longer", "3"):
        spool.add("a", Record(text))
    assert list(spool) == [Record("3")]


def test_an_unknown_name_is_a_key_error() -> None:
    spool = Spool(Record)
    assert (len(spool), list(spool)) == (0, [])
    with pytest.raises(KeyError):
        spool["a"]


def test_can_be_read_between_two_additions() -> None:
    spool = Spool(Record)
    spool.add("a", Record("x" * 10_000))
    assert spool["a"] == Record("x" * 10_000)
    spool.add("b", Record("y"))
    assert [record.text[0] for record in spool] == ["x", "y"]


def test_several_threads_can_add_records() -> None:
    spool = Spool(Record)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: spool.add(f"{number:04}", Record(str(number) * 50)), range(400)))
    assert [record.text for record in spool] == [str(number) * 50 for number in range(400)]


def decided(path: str, *tags: str) -> RepositoryPlan:
    return decide(repository(path, *(image(f"{path} {tag}", tag) for tag in tags)), RULES, NOW)


def test_decisions_are_in_the_order_of_repositories() -> None:
    decisions = Decisions()
    plans = [decided("b", "pr-1"), decided("a", "v1", "pr-2"), decided("c")]
    for plan in plans:
        decisions.add(plan)
    in_order = [decision for plan in sorted(plans, key=lambda plan: plan.path) for decision in plan.decisions]
    assert list(decisions.records()) == in_order
    assert b"".join(decisions.lines()) == b"".join(msgspec.json.encode(decision) + b"\n" for decision in in_order)
    assert [(listed_decision.path, len(listed_decision.deletions)) for listed_decision in decisions] == [
        ("a", 1),
        ("b", 1),
        ("c", 0),
    ]


def test_does_not_save_deletions_that_are_not_needed() -> None:
    decisions = Decisions()
    decisions.add(decided("a", "pr-1"), deletions=False)
    assert [decision.deletions for decision in decisions] == [()]
    assert [decision.verdict for decision in decisions.records()] == ["delete"]


def test_deciding_a_repository_again_replaces_its_decisions() -> None:
    decisions = Decisions()
    decisions.add(decided("a", "pr-1"))
    decisions.add(decided("a", "v1", "v2"))
    assert {decision.tags for decision in decisions.records()} == {("v1",), ("v2",)}
    assert [len(decision.deletions) for decision in decisions] == [0]
