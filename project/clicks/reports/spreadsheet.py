"""A report as CSV that is safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Generator, Iterable, Sequence
from typing import Any

HEADER = ("date", "offer_id", "source", "clicks_count")
BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_chunks(batches: Iterable[Sequence[Sequence[Any]]]) -> Generator[bytes, None, None]:
    """Write the rows as CSV (RFC 4180, UTF-8), a piece for each batch."""
    # The header waits for the first rows, so that trouble with them can still be told.
    header = _written([HEADER])
    for batch in batches:
        yield header + _written([[_safe(cell) for cell in row] for row in batch])
        header = b""
    if header:
        yield header


def _safe(cell: Any) -> Any:
    """Put a quote before text that a spreadsheet would take for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(BEGINS_FORMULA) else cell


def _written(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
