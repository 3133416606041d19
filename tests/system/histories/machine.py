"""Histories: Hypothesis chooses what happens, in which order and how far into what; the ledger says what must be true.

No choice depends on what happened before, so a history can be cut shorter step by step.
"""

import functools
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import ClassVar, get_args

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.support.memory_faults import Fate
from tests.system.histories.actions import ACTIONS, CHANGES, TROUBLES, WORKS, Action, push, push_index, push_referrer
from tests.system.histories.history_store import HistoryStore
from tests.system.histories.oracle import LAWS, Law
from tests.system.histories.world import Later, World
from worker.runs import checkpoints
from worker.runs.checkpoints import Checkpoint

Numbers = tuple[int, int, int]
Happening = tuple[str, Numbers]
Between = tuple[str, int, list[Happening]]  # at which point, after how many of them, what

DEATH = "die"
NOTHING = (0, 0, 0)
SMALL = st.integers(0, 11)
NUMBERS = st.tuples(SMALL, SMALL, SMALL)


def happenings(some: Mapping[str, Action]) -> st.SearchStrategy[Happening]:
    return st.tuples(st.sampled_from(sorted(some)), NUMBERS)


# Where something may happen in the midst of a process: at any point, or at one that matters.
PLACES = (
    *("", "", "", "get", "delete", "delete", "answer", "answer", "follow", "images", "listed", "manifests"),
    *("written", "commit", *(f"checkpoint {name}" for name in get_args(Checkpoint))),
)
OFTEN = (
    *("fate", "lose_answers", "lose_answers", "fault", "fault", "fault", "pass_time", "grow_stale"),
    *(
        "need",
        "need",
        "push_back",
        "retag",
        "hold",
        "pause",
        "use",
        "use_early",
        "minute",
        "minute",
        "look",
        "ring",
        "drain",
    ),
)
ANYTHING = st.tuples(
    st.sampled_from(PLACES),
    st.integers(0, 3) | st.integers(0, 70),
    st.lists(st.tuples(st.sampled_from([DEATH, DEATH, *OFTEN, *sorted(ACTIONS)]), NUMBERS), min_size=1, max_size=3),
)
IN_A_BATCH = st.sampled_from(
    (
        *("settings", "get", "delete", "answer", "follow", "written", "checkpoint batch_claimed"),
        *("checkpoint image_read_again", "checkpoint intent_recorded", "checkpoint delete_sent"),
    )
)
# A lease runs out under its holder, and others may go on with the batch.
TAKEOVER = st.tuples(
    IN_A_BATCH,
    st.integers(0, 5),
    st.lists(st.tuples(st.sampled_from(["minute", "ring", "look", "need", DEATH]), NUMBERS), max_size=2).map(
        lambda what: [("pass_time", (2, 0, 0)), *what]
    ),
)
# A repository is listed again while a batch of it is held, and something came that needs what is to go.
NEEDED = st.tuples(
    IN_A_BATCH,
    st.integers(0, 5),
    st.tuples(NUMBERS, NUMBERS).map(lambda two: [("grow_stale", (1, 0, 0)), ("need", two[0]), ("look", two[1])]),
)
# Somebody says stop, or time does, while a batch is at work.
STOPPED = st.tuples(
    IN_A_BATCH,
    st.integers(0, 5),
    st.sampled_from(["abort", "set_mode", "pause", "hold", "grow_late"]).map(lambda name: [(name, (1, 0, 0))]),
)
BETWEEN = st.lists(ANYTHING | ANYTHING | TAKEOVER | NEEDED | STOPPED, max_size=4)
SOME_TROUBLE = {name: TROUBLES[name] for name in ("fault", "fate", "lose_answers", "store_trouble", "set_mode")}
USUAL = (Fate("at_once"), Fate("late", 0), Fate("late", 2), Fate("by_clock", 1))
FILLING = (push, push_index, push, push_referrer)
PUSHES = st.lists(st.tuples(st.integers(0, 3), NUMBERS), max_size=4)


class Histories(RuleBasedStateMachine):
    """One history of one registry."""

    history_store: ClassVar[HistoryStore]
    stats: ClassVar[Counter[str]] = Counter()
    threads: ClassVar[int] = 1

    def __init__(self) -> None:
        super().__init__()
        type(self).history_store = HistoryStore.of_this_process()
        self.history_store.empty()
        self.world = World(self.history_store, self.stats, threads=self.threads)
        checkpoints.observers.append(self.world.at_checkpoint)
        self.stats["histories"] += 1

    @initialize(
        pushes=st.lists(st.tuples(st.integers(0, 3), NUMBERS), min_size=3, max_size=10),
        law=st.sampled_from(LAWS),
        strict=st.booleans(),
        usual=st.sampled_from(USUAL),
        evidence=st.sampled_from((None, None, False, True)),
    )
    def begin(
        self, pushes: list[tuple[int, Numbers]], law: Law, strict: bool, usual: Fate, evidence: bool | None
    ) -> None:
        self.world.law, self.world.registry.strict, self.world.registry.usual = law, strict, usual
        if evidence is not None:
            self.world.ask_for_evidence(strict=evidence)
        self._fill(pushes)

    def _fill(self, pushes: list[tuple[int, Numbers]]) -> None:
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

    @rule(pushes=PUSHES, between=BETWEEN, trouble=st.lists(happenings(SOME_TROUBLE), max_size=2))
    def night(self, pushes: list[tuple[int, Numbers]], between: list[Between], trouble: Sequence[Happening]) -> None:
        """A run by hand, as far as it gets, and what happens in its midst."""
        self._fill(pushes)
        for one in trouble:
            self._do(*one)
        self._plant(between)
        self._do("night", NOTHING)

    @rule(minutes=st.integers(1, 3), between=BETWEEN)
    def minutes(self, minutes: int, between: list[Between]) -> None:
        """Two minutes go by, a few times, and what is left goes on."""
        self._plant(between)
        for _ in range(minutes):
            self.world.pass_time(timedelta(seconds=121))
            self._do("reconcile", NOTHING)
            self._do("drain", NOTHING)

    @rule(between=BETWEEN, what=st.sampled_from(["grow_stale", "grow_late"]))
    def last_moment(self, between: list[Between], what: str) -> None:
        """What is left goes on while the last listing, or the plan, is good for half a minute more."""
        self._do(what, NOTHING)
        self._plant(between)
        self._do("reconcile", NOTHING)
        self._do("drain", NOTHING)

    @rule(pushes=PUSHES, lost=NUMBERS, between=BETWEEN, needed=NEEDED)
    def suspicion(
        self, pushes: list[tuple[int, Numbers]], lost: Numbers, between: list[Between], needed: Between
    ) -> None:
        """A night leaves deletions in doubt; what comes then needs them, at the last moment."""
        self._do("lose_answers", lost)
        self.night(pushes, between, ())
        self.last_moment([needed], "grow_stale")

    @rule(pushes=PUSHES, deaths=st.lists(IN_A_BATCH, min_size=2, max_size=6))
    def deadly(self, pushes: list[tuple[int, Numbers]], deaths: list[str]) -> None:
        """Whoever takes on a batch dies over it, again and again."""
        self._fill(pushes)
        for place in deaths:
            self._plant([(place, 0, [(DEATH, NOTHING)])])
            self._do("night" if place == deaths[0] else "minute", NOTHING)

    @rule(pushes=PUSHES, what=NUMBERS, minutes=st.integers(1, 6))
    def sick(self, pushes: list[tuple[int, Numbers]], what: Numbers, minutes: int) -> None:
        """A registry that fails in the same way for minutes."""
        self._fill(pushes)
        self._do("sickness", what)
        self._do("night", NOTHING)
        for _ in range(minutes):
            self._do("minute", NOTHING)
        self._do("heal", NOTHING)

    def _do(self, name: str, numbers: Numbers) -> None:
        self.stats["steps"] += 1
        self.stats[f"step: {name}"] += 1
        ACTIONS[name](self.world, *numbers)
        self.world.ledger.check()

    def _plant(self, between: list[Between]) -> None:
        """What happens in the midst of what comes next, so many points from now."""
        for at, left, what in between:
            for name, numbers in what:
                happen = functools.partial(self._happen, name, numbers)
                self.world.later.append(Later(at, left, happen, is_work=name in WORKS, deadly=name == DEATH))

    def _happen(self, name: str, numbers: Numbers) -> None:
        self.stats["steps"] += 1
        self.stats[f"in between: {name}"] += 1
        ACTIONS[name](self.world, *numbers)

    def teardown(self) -> None:
        try:
            if not self._failed():
                self.world.settle()
        finally:
            checkpoints.observers.remove(self.world.at_checkpoint)
            self.world.close()

    def _failed(self) -> bool:
        return sys.exc_info()[0] is not None


class SideBySide(Histories):
    """The same with several threads in a batch: who comes first is not said, so none is halted for another's work."""

    threads: ClassVar[int] = 4
