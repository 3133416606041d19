"""Registries as no sane person fills them: no date, no size, repeated rows, boundary ages, giants, circles.

Names are drawn from a handful, so that repositories share blobs and digests. Indexes list existing and missing images.
"""

from datetime import timedelta
from functools import cache
from typing import Any

from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from policies.image import Blob, Image, Repository
from policies.rules import Policy
from tests.support.builders import NOW, digest, policy

NAMES = range(7)
PATHS = ("a", "ml/big", "ml/x/y", "shop/api")
_SECOND = timedelta(seconds=1)
_AGES = [timedelta(days=days) for days in (0, 7, 14, 30, 90)]
_TAGS = ["v1.0.0", "v2.1.0", "latest", "pr-1", "pr-22", "main-a", "release"]

_times = st.none() | st.builds(
    lambda age, off: NOW - age + off,
    st.sampled_from(_AGES),
    st.sampled_from([-_SECOND, timedelta(0), timedelta(0), _SECOND]),
)
_sizes = st.none() | st.sampled_from([0, 1, 10, 100, 101, 5 << 30, (5 << 30) + 1, 2**62])
_blobs = st.builds(
    Blob,
    st.sampled_from([digest(f"blob {n}") for n in range(6)] + ["sha512:" + "ab" * 64]),
    st.sampled_from([1, 10, 2**61]),
)


def _rarely(common: Any, rare: Any, once_in: int = 25) -> st.SearchStrategy[Any]:
    """Nearly always `common`: a fact that keeps a whole repository must be rare, or nothing is ever deleted."""
    return st.sampled_from([common] * (once_in - 1) + [rare])


def _tags(signed: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    kinds = st.sampled_from(["sig", "att", "sbom", "sig", "txt"])
    cosign = st.builds(lambda of, kind: f"sha256-{of.removeprefix('sha256:')}.{kind}", signed, kinds)
    plain = st.lists(st.sampled_from(_TAGS), min_size=1, max_size=2, unique=True)
    signatures = st.lists(cosign, min_size=1, max_size=2, unique=True)
    return st.one_of(*[st.just(())] * 4, *[plain.map(tuple)] * 4, signatures.map(tuple))


def _others(names: range) -> st.SearchStrategy[str]:
    """Digests of these names; now and then any, so that circles come up, or one that is nowhere."""
    anything = st.sampled_from([digest(name) for name in NAMES] + [digest("nowhere")])
    return st.one_of(*[st.sampled_from([digest(name) for name in names])] * 5, anything) if names else anything


@cache
def images(of: int) -> st.SearchStrategy[Image]:
    """The image of a name. Mostly indexes list later names, and referrers name earlier ones as their subjects."""
    listed = st.lists(_others(range(of + 1, len(NAMES))), min_size=1, max_size=2).map(tuple)
    named = _others(range(of))
    return st.builds(
        Image,
        digest=st.just(digest(of)),
        id=st.sampled_from([f"crp{of}a", f"crp{of}b"]),
        tags=_tags(named),
        created_at=_times,
        compressed_size=_sizes,
        config=st.none() | _blobs,
        layers=st.lists(_blobs, max_size=4).map(tuple),
        children=st.one_of(*[st.just(UNSET)] * 4, listed, listed, _rarely((), None)),
        subject=st.one_of(*[st.just(UNSET)] * 10, named, st.none()),
        locked=_rarely(False, True),
    )


_facts = st.sampled_from(["", "", "tags", "created_at", "compressed_size", "layers"])
_names = st.lists(st.sampled_from(NAMES), max_size=7, unique=True)


@cache
@st.composite
def _repositories(draw: st.DrawFn, path: str) -> Repository:
    names = draw(_names)
    rows = [draw(images(of)) for of in names]
    if rows:
        for row in draw(st.lists(st.sampled_from(rows), max_size=2)):  # some come twice, and not always the same
            fact = draw(_facts)
            other = draw(images(NAMES[0]))
            rows.append(replace(row, **{fact: getattr(other, fact)}) if fact else row)
    return Repository(path=path, images=tuple(draw(st.permutations(rows))))


def registries(*, most: int = 3) -> st.SearchStrategy[list[Repository]]:
    """Some repositories; rows of one digest may differ, and come twice."""
    paths = st.lists(st.sampled_from(PATHS), min_size=1, max_size=most, unique=True)
    return paths.flatmap(lambda chosen: st.tuples(*map(_repositories, chosen))).map(list)


_SHARED: list[dict[str, Any]] = [
    {"tags": ["v*"]}, {"tags": ["pr-*", "main-*"]}, {"except_tags": ["v*", "latest"]}, {"tags": ["re:pr-[0-9]+"]},
    {"tagged": True}, {"untagged": True}, {"digests": [digest(1), digest(2)]}, {"older_than": "14d"},
    {"newer_than": "14d"}, {"untagged_for": "7d"}, {"larger_than": "100B"}, {"smaller_than": "5GiB"}, {"all": True},
    {"tags": ["v*"], "except_tags": ["v2*"]}, {"untagged": True, "older_than": "7d"},
    {"older_than": "30d", "larger_than": "10B"},
]  # fmt: skip
_scopes = st.sampled_from([{}, {}, {"repositories": ["ml/**"]}, {"except_repositories": ["shop/*"]}])


def _rules(kind: str, *, counts: str) -> st.SearchStrategy[dict[str, Any]]:
    conditions = st.sampled_from(_SHARED + ([{"any_tag": ["pr-*"]}] if kind == "delete" else []))
    if counts:
        key = "newest" if kind == "keep" else "beyond_newest"
        per = st.sampled_from([{}] if counts == "repository" else [{}, {"per": "registry"}])
        counted = st.builds(lambda n, more, where: {key: n} | more | where, st.integers(0, 3), conditions, per)
        conditions = conditions | counted
    return st.builds(lambda asked, scope: {kind: asked} | scope, conditions, _scopes)


def keep_rules(*, counts: str = "registry") -> st.SearchStrategy[dict[str, Any]]:
    return _rules("keep", counts=counts)


def documents(*, counts: str = "registry") -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rules, of which at least one selects. `counts`: "" for none, else the widest they are counted in."""
    broad = st.sampled_from(
        [
            {"delete": {"all": True}},
            {"delete": {"older_than": "7d"}},
            {"delete": {"tagged": True}},
            {"delete": {"tagged": True}},
        ]
    )
    selects = st.lists(_rules("delete", counts=counts) | broad, min_size=1, max_size=3)
    keeps = st.lists(_rules("keep", counts=counts), max_size=1)
    return st.builds(lambda rules, others: [*rules, *others], selects, keeps)


def policies(*, counts: str = "registry") -> st.SearchStrategy[Policy]:
    return documents(counts=counts).map(lambda rules: policy(*rules))
