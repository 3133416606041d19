"""Histories: Hypothesis chooses the actions, their order, and the points at which they interrupt a process of ours.

No choice depends on what happened before, so Hypothesis can shorten a failing history step by step.
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
from tests.system.histories.actions import ACTIONS, CHANGES, TASKS, TROUBLES, Action, push, push_index, push_referrer
from tests.system.histories.history import History, PlannedAction
from tests.system.histories.history_store import HistoryStore
from tests.system.histories.model import POLICIES, ModelPolicy
from worker.runs import checkpoints
from worker.runs.checkpoints import Checkpoint

ActionNumbers = tuple[int, int, int]
ActionCall = tuple[str, ActionNumbers]
Interruption = tuple[str, int, list[ActionCall]]  # a point, how many processes pass it first, the actions there

KILL = "kill"
NO_NUMBERS = (0, 0, 0)
SMALL = st.integers(0, 11)
NUMBERS = st.tuples(SMALL, SMALL, SMALL)


def action_calls(actions: Mapping[str, Action]) -> st.SearchStrategy[ActionCall]:
    return st.tuples(st.sampled_from(sorted(actions)), NUMBERS)


# Where an action may interrupt a process: at any point (""), or at a point that matters.
POINTS = (
    *("", "", "", "get", "delete", "delete", "answer", "answer", "follow", "images", "listed", "manifests"),
    *("written", "commit", *(f"checkpoint {name}" for name in get_args(Checkpoint))),
)
FREQUENT_ACTIONS = (
    *("fate", "lose_answers", "lose_answers", "fault", "fault", "fault", "pass_time", "grow_stale", "push_dependent"),
    *("push_dependent", "push_deleted_again", "retag", "hold", "pause", "begin_use", "begin_use_early"),
    *("lease_runs_out", "lease_runs_out", "recheck", "run_task_call", "drain"),
)
ANY_INTERRUPTION = st.tuples(
    st.sampled_from(POINTS),
    st.integers(0, 3) | st.integers(0, 70),
    st.lists(
        st.tuples(st.sampled_from([KILL, KILL, *FREQUENT_ACTIONS, *sorted(ACTIONS)]), NUMBERS), min_size=1, max_size=3
    ),
)
IN_A_BATCH = st.sampled_from(
    (
        *("settings", "get", "delete", "answer", "follow", "written", "checkpoint batch_claimed"),
        *("checkpoint image_read_again", "checkpoint intent_recorded", "checkpoint delete_sent"),
    )
)
# The lease of a batch expires while its holder works, and another process may take the batch over.
TAKEOVER = st.tuples(
    IN_A_BATCH,
    st.integers(0, 5),
    st.lists(
        st.tuples(st.sampled_from(["lease_runs_out", "run_task_call", "recheck", "push_dependent", KILL]), NUMBERS),
        max_size=2,
    ).map(lambda calls: [("pass_time", (2, 0, 0)), *calls]),
)
# A repository is rechecked while a batch of it is halted, after a push of an owner of one of its images.
NEEDED_AGAIN = st.tuples(
    IN_A_BATCH,
    st.integers(0, 5),
    st.tuples(NUMBERS, NUMBERS).map(
        lambda two: [("grow_stale", (1, 0, 0)), ("push_dependent", two[0]), ("recheck", two[1])]
    ),
)
# A person or a deadline stops the run while a batch is at work.
STOPPED_IN_BATCH = st.tuples(
    IN_A_BATCH,
    st.integers(0, 5),
    st.sampled_from(["abort", "set_mode", "pause", "hold", "grow_late"]).map(lambda name: [(name, (1, 0, 0))]),
)
INTERRUPTIONS = st.lists(ANY_INTERRUPTION | ANY_INTERRUPTION | TAKEOVER | NEEDED_AGAIN | STOPPED_IN_BATCH, max_size=4)
FREQUENT_TROUBLES = {name: TROUBLES[name] for name in ("fault", "fate", "lose_answers", "store_trouble", "set_mode")}
OPERATION_FATES = (Fate("at_once"), Fate("late", 0), Fate("late", 2), Fate("by_clock", 1))
PUSH_ACTIONS = (push, push_index, push, push_referrer)
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
        self.history = History(self.history_store, self.stats, threads=self.threads)
        checkpoints.observers.append(self.history.at_checkpoint)
        self.stats["histories"] += 1

    @initialize(
        pushes=st.lists(st.tuples(st.integers(0, 3), NUMBERS), min_size=3, max_size=10),
        policy=st.sampled_from(POLICIES),
        strict=st.booleans(),
        usual=st.sampled_from(OPERATION_FATES),
        evidence=st.sampled_from((None, None, False, True)),
    )
    def begin(
        self,
        pushes: list[tuple[int, ActionNumbers]],
        policy: ModelPolicy,
        strict: bool,
        usual: Fate,
        evidence: bool | None,
    ) -> None:
        self.history.policy, self.history.registry.strict, self.history.registry.usual = policy, strict, usual
        if evidence is not None:
            self.history.add_evidence_source(strict=evidence)
        self._push(pushes)

    def _push(self, pushes: list[tuple[int, ActionNumbers]]) -> None:
        for kind, numbers in pushes:
            PUSH_ACTIONS[kind](self.history, *numbers)

    @rule(calls=st.lists(action_calls(CHANGES), min_size=1, max_size=4))
    def change(self, calls: list[ActionCall]) -> None:
        for call in calls:
            self._do(*call)

    @rule(calls=st.lists(action_calls(TROUBLES), min_size=1, max_size=2))
    def trouble(self, calls: list[ActionCall]) -> None:
        for call in calls:
            self._do(*call)

    @rule(call=action_calls(TASKS))
    def task(self, call: ActionCall) -> None:
        self._do(*call)

    @rule(
        pushes=PUSHES,
        interruptions=INTERRUPTIONS,
        troubles=st.lists(action_calls(FREQUENT_TROUBLES), max_size=2),
    )
    def whole_run(
        self,
        pushes: list[tuple[int, ActionNumbers]],
        interruptions: list[Interruption],
        troubles: Sequence[ActionCall],
    ) -> None:
        """Open a run and carry out its task calls, with interruptions."""
        self._push(pushes)
        for trouble in troubles:
            self._do(*trouble)
        self._plan_interruptions(interruptions)
        self._do("whole_run", NO_NUMBERS)

    @rule(times=st.integers(1, 3), interruptions=INTERRUPTIONS)
    def leases_run_out(self, times: int, interruptions: list[Interruption]) -> None:
        """Pass two minutes a few times, and carry on with unfinished work each time."""
        self._plan_interruptions(interruptions)
        for _ in range(times):
            self.history.pass_time(timedelta(seconds=121))
            self._do("reconcile", NO_NUMBERS)
            self._do("drain", NO_NUMBERS)

    @rule(interruptions=INTERRUPTIONS, expiring=st.sampled_from(["grow_stale", "grow_late"]))
    def last_moment(self, interruptions: list[Interruption], expiring: str) -> None:
        """Carry on with unfinished work while the last recheck, or the plan, is valid for half a minute more."""
        self._do(expiring, NO_NUMBERS)
        self._plan_interruptions(interruptions)
        self._do("reconcile", NO_NUMBERS)
        self._do("drain", NO_NUMBERS)

    @rule(pushes=PUSHES, lost=NUMBERS, interruptions=INTERRUPTIONS, needed=NEEDED_AGAIN)
    def unconfirmed_deletions(
        self,
        pushes: list[tuple[int, ActionNumbers]],
        lost: ActionNumbers,
        interruptions: list[Interruption],
        needed: Interruption,
    ) -> None:
        """A run leaves deletions unconfirmed; images pushed at the last moment need images of the plan."""
        self._do("lose_answers", lost)
        self.whole_run(pushes, interruptions, ())
        self.last_moment([needed], "grow_stale")

    @rule(pushes=PUSHES, points=st.lists(IN_A_BATCH, min_size=2, max_size=6))
    def repeated_death(self, pushes: list[tuple[int, ActionNumbers]], points: list[str]) -> None:
        """Every process that claims a batch dies in it."""
        self._push(pushes)
        for number, point in enumerate(points):
            self._plan_interruptions([(point, 0, [(KILL, NO_NUMBERS)])])
            self._do("lease_runs_out" if number else "whole_run", NO_NUMBERS)

    @rule(pushes=PUSHES, numbers=NUMBERS, times=st.integers(1, 6))
    def persistent_failure(self, pushes: list[tuple[int, ActionNumbers]], numbers: ActionNumbers, times: int) -> None:
        """The registry fails in the same way for minutes."""
        self._push(pushes)
        self._do("persistent_fault", numbers)
        self._do("whole_run", NO_NUMBERS)
        for _ in range(times):
            self._do("lease_runs_out", NO_NUMBERS)
        self._do("clear_faults", NO_NUMBERS)

    def _do(self, name: str, numbers: ActionNumbers) -> None:
        self.stats["steps"] += 1
        self.stats[f"step: {name}"] += 1
        ACTIONS[name](self.history, *numbers)
        self.history.invariants.check()

    def _plan_interruptions(self, interruptions: list[Interruption]) -> None:
        """Each action runs when a process of the next step has passed this number of points of that name."""
        for point, passes, calls in interruptions:
            for name, numbers in calls:
                action = functools.partial(self._interrupt, name, numbers)
                self.history.planned_actions.append(
                    PlannedAction(point, passes, action, is_task=name in TASKS, kills=name == KILL)
                )

    def _interrupt(self, name: str, numbers: ActionNumbers) -> None:
        self.stats["steps"] += 1
        self.stats[f"in between: {name}"] += 1
        ACTIONS[name](self.history, *numbers)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.history.settle()
        finally:
            checkpoints.observers.remove(self.history.at_checkpoint)
            self.history.close()


class SideBySide(Histories):
    """Histories whose batches use four threads. No thread is halted for another's work: their order is not fixed."""

    threads: ClassVar[int] = 4
