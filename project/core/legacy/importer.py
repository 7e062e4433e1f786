"""What imports from older systems share: rows by table, what came of them, ids and moments."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any

from sqlalchemy import Table, func, select, text

from project.core.db import bulk
from project.core.errors import BadRequest
from project.core.legacy.sql_dump import Row
from project.extensions import db

SHOWN = 20
AT_ONCE = 1000
# The columns of the older systems by which their rows know each other.
_IDS = frozenset({"id", "app_id", "device_id", "plan_id", "subscription_id"})


@dataclass
class ImportReport:
    """How many rows were imported, were here already, or were left out and why; what to know."""

    imported: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, table: str, row: Row, why: str) -> None:
        """Note a row that cannot be imported."""
        self.left_out.append(f"{table} {row.get('id')}: {why}")

    def lines(self) -> list[str]:
        """Return the report in words."""
        tables = sorted(self.imported | self.known)
        said = [
            f"{one}: {self.imported[one]:,} imported, {self.known[one]:,} known" for one in tables
        ]
        said += [f"{len(self.left_out):,} left out" + (":" if self.left_out else "")]
        said += [f"  {line}" for line in self.left_out[:SHOWN]]
        if len(self.left_out) > SHOWN:
            said.append(f"  and {len(self.left_out) - SHOWN:,} more")
        return said + self.notes


def rows_by_table(
    rows: Iterable[tuple[str, Row]], tables: Iterable[str], report: ImportReport
) -> dict[str, list[Row]]:
    """Return the rows of these tables, those of each in the order of their ids.

    Rows that no table of ours could take are left out: of two with the same id the later counts.
    """
    found: dict[str, dict[int, Row]] = {table: {} for table in tables}
    seen = set()
    for table, row in rows:
        if table not in found:
            continue
        seen.add(table)
        fault = _fault(row)
        if fault is not None:
            report.leave_out(table, row, fault)
            continue
        row_id = number(row, "id")
        if row_id in found[table]:
            report.leave_out(table, row, "its id stands in a later row, which counts")
        found[table][row_id] = row
    report.notes += [f"The dump has no rows of {table}." for table in found if table not in seen]
    return {table: [row for _, row in sorted(kept.items())] for table, kept in found.items()}


def _fault(row: Row) -> str | None:
    """Return why no table could take a row, or None if nothing speaks against it."""
    if (row.get("id") or "0").strip("0") == "":
        return "has no id"
    for name, value in row.items():
        if value and name in _IDS and not _is_number(value):
            return f"{name} is {value[:40]!r}, which is no id of the older system"
        if value and "\0" in value:
            return f"{name} has a NUL character"
    return None


def moment(written: str | None, zone: tzinfo) -> datetime | None:
    """Return a moment as databases write it, in UTC; one without an offset is in `zone`.

    None for NULL, for MySQL's zero date and for what is no date in UTC.
    """
    if not written:
        return None
    try:
        found = datetime.fromisoformat(written)
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def number(row: Row, name: str) -> int:
    """Return an id in a column; 0 where there is none. Raises BadRequest."""
    written = row.get(name) or "0"
    if not _is_number(written):
        raise BadRequest(f"{name} is {written[:40]!r}, which is no id of the older system.")
    return int(written)


def _is_number(written: str) -> bool:
    return written.isascii() and written.isdigit() and len(written) <= 18


def insert(table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert rows some at a time, leave those that are here already, and return how many came."""
    chunks = (rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE))
    return sum(bulk.insert_rows(table, chunk, skip_conflicts=True) for chunk in chunks)


def continue_ids(table: Table) -> None:
    """Have the next id follow those that were imported with the rows."""
    highest = db.session.scalar(select(func.max(table.c.id)))
    if highest is not None:
        db.session.execute(
            text("SELECT setval(pg_get_serial_sequence(:table, 'id'), :highest)"),
            {"table": table.name, "highest": highest},
        )
