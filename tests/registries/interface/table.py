"""The table of cases by servers that docs/adding-a-registry.md shows."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module

from tests.registries.interface.server import Server

MODULES = ("test_listing", "test_one_image", "test_deleting", "test_trouble", "test_strangers", "test_undo")
PASSES, CANNOT = "passes", "cannot"


def case_of(test: Callable[..., object]) -> str:
    """A case's name: its test's, without `test_`."""
    return test.__name__.removeprefix("test_")


def cases() -> Iterator[str]:
    """Every case, in the order of the modules and of the tests in them."""
    for name in MODULES:
        module = import_module(f"tests.registries.interface.{name}")
        for test_name, test in vars(module).items():
            if test_name.startswith("test_") and inspect.isfunction(test):
                yield case_of(test)


def table(servers: Mapping[str, type[Server]], results: Mapping[tuple[str, str], str] | None = None) -> list[str]:
    """Markdown lines. `results`: (case, server) -> a word; None: each passes, unless its server cannot."""
    footnotes: dict[str, int] = {}

    def cell(case: str, server: type[Server]) -> str:
        reason = server.cannot.get(case)
        word = (CANNOT if reason else PASSES) if results is None else results.get((case, server.name), "not run")
        if word != CANNOT or not reason:
            return word
        return f"{CANNOT} ({footnotes.setdefault(reason, len(footnotes) + 1)})"

    rows = [["case", *servers], ["---"] * (len(servers) + 1)]
    rows += [[case.replace("_", " "), *(cell(case, server) for server in servers.values())] for case in cases()]
    notes = [f"{number}. {reason}" for reason, number in footnotes.items()]
    return [f"| {' | '.join(row)} |" for row in rows] + ["", *notes]
