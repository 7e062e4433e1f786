"""Which rows of a file say the same key again later, found before any of them is taken."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from project.weather.imports.checking import keys_of
from project.weather.imports.files import FileError, Table

SCAN_ROWS = 50_000
SLICE = 1_000_000
NO_KEY = -1


@dataclass(frozen=True)
class Scan:
    """How many rows a file has, which keys come more than once, and in which row for the last time.

    Twenty bytes per row while it is made; only the keys that come more than once are kept.
    """

    total: int
    keys: NDArray[np.int64]
    last_rows: NDArray[np.int64]

    def superseded(self, keys: list[int], numbers: list[int]) -> list[int]:
        """Return the indexes of rows whose key comes again in a later row."""
        if not len(self.keys) or not keys:
            return []
        wanted = np.array(keys, np.int64)
        places = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        again = (self.keys[places] == wanted) & (self.last_rows[places] > np.array(numbers))
        return [int(index) for index in np.flatnonzero(again)]


def scan(
    table: Table, key: str, *, max_bad: int, on_progress: Callable[[], object] = lambda: None
) -> Scan:
    """Read the keys of a whole file. Raises FileError, also for more than `max_bad` useless ones.

    So a file of which nothing can be taken is known for what it is before it is read to its end.
    """
    keys, rows, bad = array("q"), array("I"), 0
    for chunk in table.chunks(SCAN_ROWS):
        found = keys_of(chunk.column(key))
        bad += found.count(NO_KEY)
        if bad > max_bad:
            raise FileError(f"More than {max_bad} rows have no usable {key}.")
        keys.extend(found)
        rows.extend(chunk.numbers)
        on_progress()
    return _scan_of(np.frombuffer(keys, np.int64), np.frombuffer(rows, np.uint32))


def _scan_of(keys: NDArray[np.int64], rows: NDArray[np.uint32]) -> Scan:
    ordered = np.sort(keys)
    again = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    again = again[again != NO_KEY]
    last = np.zeros(len(again), np.int64)
    for start in range(0, len(keys) if len(again) else 0, SLICE):
        part = keys[start : start + SLICE]
        places = np.minimum(np.searchsorted(again, part), len(again) - 1)
        hit = np.flatnonzero(again[places] == part)
        # Rows come in their order, so the highest is the last.
        np.maximum.at(last, places[hit], rows[start + hit])
    return Scan(len(keys), again, last)
