"""What commands share: friendly errors, and running due work here or by the workers."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from flask.cli import AppGroup
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from project.core.db.transaction import transaction
from project.core.errors import AppError
from project.core.work import pump
from project.core.work.queues import wake

COUNT_AT_MOST = 10_000_000


class FriendlyGroup(AppGroup):
    """Commands whose expected errors are one sentence, not a stack trace."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except AppError as error:
            raise click.ClickException(error.detail) from error


def run_due(
    work: pump.Work[Any, Any],
    count_due: Callable[[], int],
    noun: str,
    *,
    inline: bool,
    limit: int | None = None,
) -> None:
    """Wake the workers for what is due, or do it here with a progress bar."""
    with transaction():
        due = count_due()
    if not inline and limit is None:
        with transaction():
            wake(work.wakeup)
        click.echo(f"{due} {noun} are due; the workers have been woken.")
        return
    total = due if limit is None else min(due, limit)
    with progress_bar(noun, total) as advance:
        shown = DueProgress(count_due, due, advance)
        done = pump.run(work, limit=limit, on_progress=shown.tell)
        shown.look()
    click.echo(f"{getattr(work, 'sent', min(done, total))} {noun} done.")


class DueProgress:
    """How much of what was due is due no longer, however often the pump takes an item up.

    The pump tells of every result, and an item may come round more than once.
    """

    def __init__(
        self, count_due: Callable[[], int], due: int, advance: Callable[[int], None]
    ) -> None:
        self._count_due = count_due
        self._due = due
        self._advance = advance
        self._shown = 0
        self._next_look = 0.0

    def tell(self, _results: int) -> None:
        """Show it, unless it was shown just now."""
        began = time.monotonic()
        if began >= self._next_look:
            self.look()
            # To count takes longer the more there is, and must never be most of the work.
            self._next_look = time.monotonic() + 20 * (time.monotonic() - began)

    def look(self) -> None:
        """Count what is left and show the rest."""
        with transaction():
            gone = max(self._due - self._count_due(), self._shown)
        self._advance(gone - self._shown)
        self._shown = gone


@contextmanager
def progress_bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how far it is on standard error; without a total, that it moves."""
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total)
        yield lambda count: progress.advance(task, count)
