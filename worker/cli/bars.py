"""A progress bar on standard error. Only this module imports rich."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from worker.text import escaped


@contextmanager
def bar(title: str, unit: str) -> Iterator[Callable[..., None]]:
    """A progress bar. The function that updates it takes (done, total) and a note that replaces the unit."""
    counts = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    details = (TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Progress(*counts, *details, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(escape(escaped(title)), total=None, note=escape(unit))

        def show_progress(done: int, total: int, note: str = unit, /) -> None:
            progress.update(task, completed=done, total=total or None, note=escape(escaped(note)))

        yield show_progress
