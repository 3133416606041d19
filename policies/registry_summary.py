"""What repositories are to each other: subjects that are elsewhere, and counts of the whole registry.

A survey holds of one repository what the others must know of it, in compact columns; `sum_up` brings them together.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from policies.blobs import DigestRows, digest_rows, keys
from policies.context import NOTHING, PlanContext
from policies.graph import Graph, countable
from policies.push_times import Pushes, late, pushes
from policies.rules import Place, Policy, Top, first_places, newest_first, placeless, population


@dataclass(frozen=True)
class Survey:
    """What must be known of one repository before another can be decided."""

    path: str
    digests: DigestRows
    open_subjects: frozenset[str] = frozenset()  # that referrers here name and that are not here
    places: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)  # rule -> its newest here: N, and ties
    foreign_places: Mapping[str, tuple[tuple[Place, tuple[str, ...]], ...]] = field(default_factory=dict)
    # … of referrers whose subjects (beside each) are not here: they count only where those are nowhere
    uncounted: frozenset[str] = frozenset()  # digests among the places that take none
    pushes: Pushes = field(default_factory=lambda: np.empty(0))  # when its images say that they were pushed
    late: int = 0  # how many of them say that this was after an earlier scan saw them


@dataclass(frozen=True)
class RegistrySummary:
    """What the repositories of a registry are to each other."""

    foreign: frozenset[str] = frozenset()  # subjects, named by referrers of other repositories, that are somewhere
    tops: Mapping[str, Top] = field(default_factory=dict)  # rule -> the newest of the registry


def survey_of(
    graph: Graph,
    policy: Policy,
    now: datetime,
    plan_context: PlanContext = NOTHING,
) -> Survey:
    """What the other repositories must know of this one."""
    seen, times, ignore_unreadable = plan_context.seen(graph.path), plan_context.times, plan_context.ignore_unreadable
    told, graph = graph.images, graph.with_push_times(times)
    context = graph.context(now, seen)
    places, foreign_places = {}, {}
    frozen = graph.may_list_all(ignore_unreadable) is not None
    uncounted: set[str] = set()
    for rule in policy.of_registry():
        if rule.count is None or frozen or not rule.applies_to(graph.path):
            continue
        images = countable((image for image in graph.images if image.digest not in graph.owners), ignore_unreadable)
        here = [image for image in images if image.digest not in graph.open_subjects]
        there = [image for image in images if image.digest in graph.open_subjects]
        asked = rule.asks(here, context)
        beside = placeless(asked.yes, times.returned)
        found = first_places(rule.count.n, population(asked), ordered=not times.first_seen, uncounted=beside)
        places[rule.name] = tuple(found)
        uncounted |= beside.intersection(digest for _, digest in found)
        foreign_places[rule.name] = tuple(
            (place, graph.open_subjects[place[1]]) for place in population(rule.asks(there, context))
        )
    digests, _ = graph.digests
    return Survey(
        path=graph.path,
        digests=digests,
        open_subjects=frozenset(subject for named in graph.open_subjects.values() for subject in named),
        places=places,
        foreign_places=foreign_places,
        uncounted=frozenset(uncounted),
        pushes=pushes(told) if times.questioned else np.empty(0),
        late=int(late(told, digests, seen).sum()) if times.questioned else 0,
    )


def sum_up(surveys: Iterable[Survey], policy: Policy, *, ordered: bool = True) -> RegistrySummary:
    """What the surveys of all readable repositories come to, in whatever order they come.

    `ordered`: whether images of equal times have an order.
    """
    surveys = list(surveys)
    named = sorted({subject for one in surveys for subject in one.open_subjects})
    foreign: frozenset[str] = frozenset()
    if named:
        wanted = digest_rows(named)
        wanted_keys = keys(wanted)
        there: set[tuple[int, ...]] = set()
        for one in surveys:
            hits = one.digests[np.isin(keys(one.digests), wanted_keys)]
            there.update(map(tuple, hits.tolist()))
        foreign = frozenset(subject for subject, row in zip(named, wanted.tolist(), strict=True) if tuple(row) in there)
    tops = {}
    uncounted = frozenset[str]().union(*(one.uncounted for one in surveys))
    for rule in policy.of_registry():
        if rule.count is not None:
            places = [place for one in surveys for place in one.places.get(rule.name, ())]
            for one in surveys:
                places += [p for p, subjects in one.foreign_places.get(rule.name, ()) if foreign.isdisjoint(subjects)]
            tops[rule.name] = Top.of(rule.count.n, newest_first(places), ordered=ordered, uncounted=uncounted)
    return RegistrySummary(foreign, tops)
