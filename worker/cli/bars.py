"""A progress bar on standard error: rich is imported here and nowhere else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from worker.text import escaped


@contextmanager
def bar(what: str, unit: str) -> Iterator[Callable[..., None]]:
    """A bar that is told (done, all), and what to say beside it instead of the unit."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    beside_it = (TextColumn("{task.fields[beside]}"), TimeElapsedColumn())
    with Progress(*columns, *beside_it, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(escape(escaped(what)), total=None, beside=escape(unit))

        def tell(done: int, whole: int, beside: str = unit, /) -> None:
            shown.update(task, completed=done, total=whole or None, beside=escape(escaped(beside)))

        yield tell
