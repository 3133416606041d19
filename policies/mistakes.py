"""What is wrong with a document that a person wrote, as values: the place, what was found there, what to write instead.

A reader of one value does not know where the value stands and raises BadValueError; `policies.findings` adds the place.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

NO_VALUE = "has no value"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong with a document."""

    path: str  # "policies.nightly[2].delete.older_than"; empty: the document itself
    got: str  # "expected a duration, got 'ten days'"
    remedy: str = ""  # "write, for example, 10d"

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.path, f"{self.got}; {self.remedy}" if self.remedy else self.got)))


@dataclass(eq=False)
class BadValueError(ValueError):
    """A value that cannot be read: what was expected and found, and what to write instead."""

    got: str
    remedy: str = ""
    key: str = ""  # the key of a mapping that it is about; empty: the value itself

    def __str__(self) -> str:
        return f"{self.got}; {self.remedy}" if self.remedy else self.got


def no_value(path: str) -> Mistake:
    """A key, or an item of a list, that has no value: more likely lost than lifted."""
    return Mistake(path, NO_VALUE, f"write one, or leave the {'item' if path.endswith(']') else 'key'} out")


def join(path: str, step: str | int) -> str:
    """`policies.nightly[2]`: the way to a value, as every message gives it."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    return f"{path}.{step}" if path else step


def closest(word: str, known: Iterable[str], cutoff: float = 0.7) -> str:
    """ "did you mean mode?" or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"did you mean {found[0]}?" if found else ""


def listed(words: Iterable[str], last: str) -> str:
    """ "a, b or c" """
    *some, end = [*words] or [""]
    return f"{', '.join(some)} {last} {end}" if some else end
