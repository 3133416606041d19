"""Runs the suite and prints what every server passed, as a table: `python -m tests.registries.interface`."""

import sys
from pathlib import Path

import pytest

from tests.registries.interface.servers import SERVERS
from tests.registries.interface.table import CANNOT, PASSES, table

WORST_FIRST = ("FAILED", "not installed", CANNOT, PASSES)


class Results:
    """A word for each (case, server); the worst of all that a case is run with."""

    def __init__(self) -> None:
        self.words: dict[tuple[str, str], str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """By the words of its id, "…::test_case[server-…]": with several processes no more of a test comes here."""
        test, _, parameters = report.nodeid.rpartition("::")[2].partition("[")
        for server in SERVERS:
            if parameters.startswith(server) and (report.when == "call" or not report.passed):
                key = (test.removeprefix("test_"), server)
                self.words[key] = min(self.words.get(key, PASSES), word_of(report), key=WORST_FIRST.index)


def word_of(report: pytest.TestReport) -> str:
    if report.skipped:
        return CANNOT if "cannot: " in str(report.longrepr) else "not installed"
    return PASSES if report.passed else "FAILED"


def main() -> int:
    results = Results()
    loaded = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # pytest is started late here
    code = pytest.main([str(Path(__file__).parent), "-q", *loaded, *sys.argv[1:]], plugins=[results])
    print("\n".join(table(SERVERS, results.words)))  # noqa: T201 - this is what it is for
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
