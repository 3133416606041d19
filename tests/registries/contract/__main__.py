"""Runs the suite and prints what every server passed, as a table: `python -m tests.registries.contract`."""

import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.registries.contract.servers import SERVERS
from tests.registries.contract.table import CANNOT, PASSES, case_of, table

WORST_FIRST = ("FAILED", "not installed", CANNOT, PASSES)


class Results:
    """A word for each (case, server); the worst of all that a case is run with."""

    def __init__(self) -> None:
        self.words: dict[tuple[str, str], str] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Function, call: Any
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        server = item.callspec.params.get("server") if hasattr(item, "callspec") else None
        if isinstance(server, str) and (report.when == "call" or not report.passed):
            key = (case_of(item.function), server)
            self.words[key] = min(self.words.get(key, PASSES), word_of(report), key=WORST_FIRST.index)
        return report


def word_of(report: pytest.TestReport) -> str:
    if report.skipped:
        return CANNOT if "cannot: " in str(report.longrepr) else "not installed"
    return PASSES if report.passed else "FAILED"


def main() -> int:
    results = Results()
    code = pytest.main([str(Path(__file__).parent), "-q", *sys.argv[1:]], plugins=[results])
    print("\n".join(table(SERVERS, results.words)))  # noqa: T201 - this is what it is for
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
