"""Facts that span repositories: subjects in other repositories, and counts across the registry.

A survey holds, in compact columns, the facts of one repository that decisions in other repositories need;
`summarize` combines the surveys of a registry.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from policies.blobs import DigestRows, digest_rows, keys
from policies.context import EMPTY_CONTEXT, PlanContext
from policies.graph import Graph, countable
from policies.push_times import PushSeconds, push_seconds, pushed_after_seen
from policies.rules import Newest, Policy, RankKey, first_ranked, newest_first, rank_keys, uncounted_digests


@dataclass(frozen=True)
class Survey:
    """The facts of one repository that decisions in other repositories need."""

    path: str
    digests: DigestRows
    missing_subjects: frozenset[str] = frozenset()  # named by referrers here, and not in this repository
    newest: Mapping[str, tuple[RankKey, ...]] = field(default_factory=dict)  # rule -> the N newest here, with ties
    newest_referrers: Mapping[str, tuple[tuple[RankKey, tuple[str, ...]], ...]] = field(default_factory=dict)
    # rule -> referrers without a subject here, each with its subjects: they count only if no repository has these
    uncounted: frozenset[str] = frozenset()  # digests in `newest` that do not count towards N
    push_seconds: PushSeconds = field(default_factory=lambda: np.empty(0))  # push times as reported
    pushed_after_seen: int = 0  # images that report a push time after an earlier scan saw them


@dataclass(frozen=True)
class RegistrySummary:
    """The facts of a registry that decisions in each of its repositories need."""

    foreign_subjects: frozenset[str] = frozenset()  # named by referrers of one repository, present in another
    newest: Mapping[str, Newest] = field(default_factory=dict)  # rule -> the newest images of the registry


def survey_of(graph: Graph, policy: Policy, now: datetime, plan_context: PlanContext = EMPTY_CONTEXT) -> Survey:
    """The survey of one repository."""
    history, times = plan_context.history_of(graph.path), plan_context.push_times
    ignored, reported = plan_context.ignore_unreadable, graph.images
    graph = graph.with_push_times(times)
    context = graph.context(now, history)
    newest, newest_referrers = {}, {}
    all_kept = graph.first_unreadable(ignored) is not None
    all_uncounted: set[str] = set()
    for rule in policy.registry_rules():
        if rule.count is None or all_kept or not rule.applies_to(graph.path):
            continue
        images = countable((image for image in graph.images if image.digest not in graph.owners), ignored)
        ordinary = [image for image in images if image.digest not in graph.missing_subjects]
        referrers = [image for image in images if image.digest in graph.missing_subjects]
        matches = rule.match(ordinary, context)
        uncounted = uncounted_digests(matches.yes, times.returned)
        first = first_ranked(rule.count.n, rank_keys(matches), ordered=not times.first_seen, uncounted=uncounted)
        newest[rule.name] = tuple(first)
        all_uncounted |= uncounted.intersection(digest for _, digest in first)
        newest_referrers[rule.name] = tuple(
            (rank, graph.missing_subjects[rank[1]]) for rank in rank_keys(rule.match(referrers, context))
        )
    digests, _ = graph.digests
    return Survey(
        path=graph.path,
        digests=digests,
        missing_subjects=frozenset(subject for named in graph.missing_subjects.values() for subject in named),
        newest=newest,
        newest_referrers=newest_referrers,
        uncounted=frozenset(all_uncounted),
        push_seconds=push_seconds(reported) if times.questioned else np.empty(0),
        pushed_after_seen=int(pushed_after_seen(reported, digests, history).sum()) if times.questioned else 0,
    )


def summarize(surveys: Iterable[Survey], policy: Policy, *, ordered: bool = True) -> RegistrySummary:
    """The summary of all readable repositories; the order of their surveys makes no difference.

    `ordered`: whether images with equal push times have an order.
    """
    surveys = list(surveys)
    named = sorted({subject for survey in surveys for subject in survey.missing_subjects})
    foreign_subjects: frozenset[str] = frozenset()
    if named:
        rows = digest_rows(named)
        row_keys = keys(rows)
        present: set[tuple[int, ...]] = set()
        for survey in surveys:
            candidates = survey.digests[np.isin(keys(survey.digests), row_keys)]
            present.update(map(tuple, candidates.tolist()))
        pairs = zip(named, rows.tolist(), strict=True)
        foreign_subjects = frozenset(subject for subject, row in pairs if tuple(row) in present)
    newest = {}
    uncounted = frozenset[str]().union(*(survey.uncounted for survey in surveys))
    for rule in policy.registry_rules():
        if rule.count is not None:
            ranks = [rank for survey in surveys for rank in survey.newest.get(rule.name, ())]
            for survey in surveys:
                referrers = survey.newest_referrers.get(rule.name, ())
                ranks += [rank for rank, subjects in referrers if foreign_subjects.isdisjoint(subjects)]
            newest[rule.name] = Newest.of(rule.count.n, newest_first(ranks), ordered=ordered, uncounted=uncounted)
    return RegistrySummary(foreign_subjects, newest)
