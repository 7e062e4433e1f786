"""Rows of figures: medians of interleaved rounds, compared, printed as a table or as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

# What Rich calls the colour of a row's verdict.
MET, MISSED = "[green]met[/green]", "[red]missed[/red]"


@dataclass(frozen=True)
class Figure:
    """What was measured, once per round."""

    rounds: tuple[float, ...]
    unit: str

    @property
    def median(self) -> float:
        """Return the median of the rounds."""
        return median(self.rounds)

    def __str__(self) -> str:
        """Return the median and, if there were several rounds, their range."""
        shown = f"{_number(self.median)} {self.unit}"
        if len(self.rounds) == 1:
            return shown
        return f"{shown}\n{_number(min(self.rounds))} to {_number(max(self.rounds))}"


@dataclass(frozen=True)
class Row:
    """One line of the table. A row without a target only informs."""

    work: str
    ours: Figure | None
    against: str = ""
    theirs: Figure | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    foreign_share: float | None = None
    """Which part of the machine others had meanwhile, from 0 to 1; None if it is not known."""


def at_least(
    work: str, ours: Figure, against: str, theirs: Figure, wanted: float | None = None
) -> Row:
    """Compare two rates; `wanted` is the smallest ratio that will do."""
    ratio = ours.median / theirs.median
    if wanted is None:
        return Row(work, ours, against, theirs, ratio)
    return Row(work, ours, against, theirs, ratio, f"at least {wanted:g}", ratio >= wanted)


def compared(work: str, ours: Figure, against: str, theirs: Figure) -> Row:
    """Show two figures side by side; there is no target."""
    return Row(work, ours, against, theirs, ours.median / max(theirs.median, 1e-9))


def not_measured(work: str, ours: Figure, against: str, reason: object) -> Row:
    """Say why there is nothing to compare with."""
    return Row(work, ours, f"{against}: skipped, {reason}")


def failed(work: str, error: Exception) -> Row:
    """Say why nothing was measured, which misses every target."""
    return Row(work, None, f"failed: {error}", met=False)


def at_most(work: str, ours: Figure, wanted: float) -> Row:
    """Hold a duration against a bound in its own unit."""
    return Row(work, ours, target=f"under {wanted:g} {ours.unit}", met=ours.median < wanted)


def print_table(rows: Sequence[Row], *, title: str, notes: Sequence[str]) -> None:
    """Print the rows, then the notes that the reader needs to judge them."""
    table = Table(title=title, title_justify="left", show_lines=True)
    for heading in ("work", "ours", "against", "their figure"):
        table.add_column(heading)
    for heading in ("ratio", "target", "", "others' load"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*_cells(row))
    console = Console()
    # A file or a pipe has no width of its own; a narrow terminal keeps the one it has.
    wide = Console(width=140) if not console.is_terminal else console
    wide.print(table)
    for note in notes:
        wide.print(f"- {note}", highlight=False)


def as_json(rows: Sequence[Row], *, notes: Sequence[str], options: dict[str, Any]) -> str:
    """Return the run as JSON: when and where, the options, each row with all of its rounds."""
    run = {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "options": options,
        "rows": [
            asdict(row) | {"ours_median": row.ours.median if row.ours else None} for row in rows
        ],
        "notes": list(notes),
    }
    return json.dumps(run, indent=2)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.work,
        str(row.ours or ""),
        row.against,
        str(row.theirs) if row.theirs else "",
        f"{row.ratio:.2f}" if row.ratio is not None else "",
        row.target,
        "" if row.met is None else MET if row.met else MISSED,
        "" if row.foreign_share is None else f"{row.foreign_share:.0%}",
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
