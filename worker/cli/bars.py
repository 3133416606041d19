"""Progress bars on standard error, for terminals only: rich is imported here and nowhere else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from worker.text import escaped


def _bar(*columns: TextColumn) -> Progress:
    head = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*head, *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)


@contextmanager
def counting_bar(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told (done, all)."""
    with _bar(TextColumn(escape(unit))) as bar:
        task = bar.add_task(escape(escaped(what)), total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)


@contextmanager
def telling_bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar that is told (done, all, what to say beside it)."""
    with _bar(TextColumn("{task.fields[beside]}")) as bar:
        task = bar.add_task(escape(escaped(what)), total=None, beside="")

        def tell(done: int, whole: int, beside: str) -> None:
            bar.update(task, completed=done, total=whole or None, beside=escape(escaped(beside)))

        yield tell
