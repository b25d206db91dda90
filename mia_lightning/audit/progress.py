"""Progress of an audit: a callable, so that the audit itself does not depend on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def no_progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show nothing."""
    del description, total
    yield lambda count: None


@contextmanager
def rich_progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar that disappears when done; ``total`` 0 means unknown."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, transient=True) as bar:
        task = bar.add_task(description, total=total or None)
        yield lambda count: bar.advance(task, count)
