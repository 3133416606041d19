"""What a run's plan was made by and an edit of the file must not weaken, as the run's row keeps it."""

from datetime import timedelta

import msgspec
from msgspec import Struct


class SourceTerms(Struct, frozen=True, kw_only=True):
    """One source of evidence as the plan read it."""

    name: str
    sha256: str  # of what it reads: evidence.gathering.settings_sha256
    max_age: timedelta
    allow_empty: bool
    allow_foreign: bool = False


class Terms(Struct, frozen=True, kw_only=True):
    """The settings of a plan. The default: a run without a plan, or one that an earlier version planned."""

    file_sha256: str = ""  # of the configuration file's bytes
    in_use: tuple[SourceTerms, ...] = ()
    addresses: tuple[str, ...] = ()
    plan_max_age: timedelta | None = None
    deadline: timedelta | None = None
    settle: timedelta = timedelta(0)
    ignore_unreadable: tuple[str, ...] | None = None  # None: an earlier version's, which did not keep it
    transitional: bool = True  # yandex-cloud-registry: may delete from a registry of that type


def encoded(terms: Terms) -> str:
    """As the column holds it."""
    return msgspec.json.encode(terms).decode()


def decoded(text: str) -> Terms:
    return msgspec.json.decode(text, type=Terms)
