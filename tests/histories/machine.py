"""Histories: Hypothesis chooses what happens, in which order and how far into what; the ledger says what must be true.

No choice depends on what happened before, so a history can be cut shorter step by step.
"""

import functools
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.histories.actions import ACTIONS, CHANGES, TROUBLES, WORKS, Action, push, push_index, push_referrer
from tests.histories.oracle import LAWS, Law
from tests.histories.place import Place
from tests.histories.world import World
from worker import checkpoints

Numbers = tuple[int, int, int]
Happening = tuple[str, Numbers]
Later = tuple[int, str, Numbers]  # points from now

NOTHING = (0, 0, 0)
SMALL = st.integers(0, 11)
NUMBERS = st.tuples(SMALL, SMALL, SMALL)


def happenings(some: Mapping[str, Action]) -> st.SearchStrategy[Happening]:
    return st.tuples(st.sampled_from(sorted(some)), NUMBERS)


BETWEEN = st.lists(
    st.tuples(st.integers(0, 70), st.sampled_from([*sorted(ACTIONS), "die", "die", "fate", "fault", "fault"]), NUMBERS),
    max_size=5,
)
FILLING = (push, push_index, push, push_referrer)


class Histories(RuleBasedStateMachine):
    """One history of one registry."""

    place: ClassVar[Place]
    stats: ClassVar[Counter[str]] = Counter()
    threads: ClassVar[int] = 1

    def __init__(self) -> None:
        super().__init__()
        type(self).place = Place.of_this_process()
        self.place.empty()
        self.world = World(self.place.engine, self.place.raw, self.stats, threads=self.threads)
        checkpoints.visitors.append(self.world.at_checkpoint)
        self.stats["histories"] += 1

    @initialize(
        pushes=st.lists(st.tuples(st.integers(0, 3), NUMBERS), min_size=3, max_size=10),
        law=st.sampled_from(LAWS),
        strict=st.booleans(),
    )
    def begin(self, pushes: list[tuple[int, Numbers]], law: Law, strict: bool) -> None:
        self.world.law, self.world.model.strict = law, strict
        for what, numbers in pushes:
            FILLING[what](self.world, *numbers)

    @rule(what=st.lists(happenings(CHANGES), min_size=1, max_size=4))
    def change(self, what: list[Happening]) -> None:
        for one in what:
            self._do(*one)

    @rule(what=st.lists(happenings(TROUBLES), min_size=1, max_size=2))
    def trouble(self, what: list[Happening]) -> None:
        for one in what:
            self._do(*one)

    @rule(what=happenings(WORKS))
    def work(self, what: Happening) -> None:
        self._do(*what)

    @rule(between=BETWEEN)
    def night(self, between: list[Later]) -> None:
        """A run by hand, as far as it gets, and what happens in its midst."""
        self._plant(between)
        self._do("night", NOTHING)

    @rule(minutes=st.integers(1, 3), between=BETWEEN)
    def minutes(self, minutes: int, between: list[Later]) -> None:
        """Two minutes go by, a few times, and what is left goes on."""
        self._plant(between)
        for _ in range(minutes):
            self.world.pass_time(timedelta(seconds=121))
            self._do("reconcile", NOTHING)
            self._do("drain", NOTHING)

    def _do(self, name: str, numbers: Numbers) -> None:
        self.stats["steps"] += 1
        self.stats[f"step: {name}"] += 1
        ACTIONS[name](self.world, *numbers)
        self.world.ledger.check()

    def _plant(self, between: list[Later]) -> None:
        """What happens in the midst of what comes next, so many points from now."""
        world = self.world
        for points, name, numbers in between:
            if name == "die":
                world.later.append((points, world.die, False))
            else:
                world.later.append((points, functools.partial(self._happen, name, numbers), name in WORKS))

    def _happen(self, name: str, numbers: Numbers) -> None:
        self.stats["steps"] += 1
        self.stats[f"in between: {name}"] += 1
        ACTIONS[name](self.world, *numbers)

    def teardown(self) -> None:
        try:
            if not self._failed():
                self.world.settle()
        finally:
            checkpoints.visitors.remove(self.world.at_checkpoint)
            self.world.close()

    def _failed(self) -> bool:
        return sys.exc_info()[0] is not None


class SideBySide(Histories):
    """The same with several threads in a batch: who comes first is not said, so none is halted for another's work."""

    threads: ClassVar[int] = 4
