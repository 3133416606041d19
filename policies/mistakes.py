"""The mistakes of a document that a person wrote, as values: path, expected and actual value, remedy.

A reader of a value does not know its path and raises BadValueError; `policies.findings` adds the path.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

NO_VALUE = "has no value"


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake in a document."""

    path: str  # "policies.nightly[2].delete.older_than"; empty: the document itself
    got: str  # "expected a duration, got 'ten days'"
    remedy: str = ""  # "write, for example, 10d"

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.path, f"{self.got}; {self.remedy}" if self.remedy else self.got)))


@dataclass(eq=False)
class BadValueError(ValueError):
    """A value that cannot be read: the expected and the actual value, and a remedy."""

    got: str
    remedy: str = ""
    key: str = ""  # the key of the bad value in a mapping; empty: the value itself

    def __str__(self) -> str:
        return f"{self.got}; {self.remedy}" if self.remedy else self.got


def no_value(path: str) -> Mistake:
    """A key or a list item without a value: its value was more likely lost than removed."""
    return Mistake(path, NO_VALUE, f"write one, or leave the {'item' if path.endswith(']') else 'key'} out")


def join(path: str, step: str | int) -> str:
    """The path of a value in messages: `policies.nightly[2]`."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    return f"{path}.{step}" if path else step


def closest(word: str, known: Iterable[str], cutoff: float = 0.7) -> str:
    """The question "did you mean mode?" with the known word that is most similar. Empty: no known word is similar
    enough. `cutoff`: the least similarity, from 0 to 1, as in `difflib`.
    """
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"did you mean {matches[0]}?" if matches else ""


def listed(words: Iterable[str], last: str) -> str:
    """ "a, b or c" """
    *first, end = [*words] or [""]
    return f"{', '.join(first)} {last} {end}" if first else end
