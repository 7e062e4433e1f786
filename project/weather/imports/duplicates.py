"""Which rows of a file say the same key again, and which of them is taken: found beforehand."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from project.core.lazy_module import LazyModule
from project.weather.imports.files import Chunk, FileError, Table
from project.weather.imports.validation import keys_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")

SCAN_ROWS = 50_000
NO_KEY = -1
NO_ROW = 0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BEFORE_ALL = -(2**63)

Integers: TypeAlias = "NDArray[np.int64]"
Check: TypeAlias = Callable[[Chunk], tuple[Sequence[int], Sequence[datetime] | None]]
"""Tells which rows of a chunk are good, and when all of its rows happened, if they say so."""


@dataclass(frozen=True)
class Scan:
    """How many rows a file has, which keys come more than once, and in which row they are taken.

    Of the good rows of a key that is the newest; of equally new ones the last. Twenty bytes per
    row while it is made; only the keys that come more than once are kept.
    """

    total: int
    keys: Integers
    rows: Integers

    def superseded(self, keys: list[int], numbers: list[int]) -> list[tuple[int, int]]:
        """Return which rows give way to another: (index, number of the row that is taken)."""
        if not len(self.keys) or not keys:
            return []
        places, is_double = self._places(keys)
        gives_way = is_double & (self.rows[places] != np.array(numbers)) & (self.rows[places] > 0)
        return [(int(at), int(self.rows[places[at]])) for at in np.flatnonzero(gives_way)]

    def doubles_of(self, chunk: Chunk, key: str) -> tuple[Chunk, Integers]:
        """Return those rows of a chunk whose key comes more than once, and their keys' places."""
        places, is_double = self._places(keys_of(chunk, key))
        found = np.flatnonzero(is_double)
        return chunk.only(found.tolist()), places[found]

    def _places(self, keys: list[int]) -> tuple[Integers, NDArray[np.bool_]]:
        wanted = np.array(keys, np.int64)
        places = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return places, self.keys[places] == wanted


def scan(
    table: Table,
    key: str,
    check: Check,
    *,
    max_bad: int,
    on_progress: Callable[[], object] = lambda: None,
) -> Scan:
    """Read the keys of a whole file. Raises FileError, also for more than `max_bad` useless ones.

    So a file of which nothing can be taken is known for what it is before it is read to its end.
    Where keys come more than once their rows are checked, for a bad row must not win over a good
    one that it follows.
    """
    keys, bad = array("q"), 0
    for chunk in table.chunks(SCAN_ROWS):
        found = keys_of(chunk, key)
        bad += found.count(NO_KEY)
        if bad > max_bad:
            raise FileError(f"More than {max_bad} rows have no usable {key}.")
        keys.extend(found)
        on_progress()
    again = _more_than_once(np.frombuffer(keys, np.int64))
    counted = Scan(len(keys), again, np.full(len(again), NO_ROW, np.int64))
    if len(again):
        del keys
        newest = np.full(len(again), _BEFORE_ALL, np.int64)
        for chunk in table.chunks(SCAN_ROWS):
            _choose(counted, newest, *counted.doubles_of(chunk, key), check)
            on_progress()
    return counted


def _more_than_once(keys: Integers) -> Integers:
    ordered = np.sort(keys)
    again = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    return np.asarray(again[again != NO_KEY], np.int64)


def _choose(found: Scan, newest: Integers, chunk: Chunk, places: Integers, check: Check) -> None:
    """Choose among a key's rows so far and those of a chunk; `newest` is kept up to date."""
    good, times = check(chunk)
    if not len(good):
        return
    places = places[good]
    numbers = np.array(chunk.numbers)[good]
    moments = np.zeros(len(good), np.int64)
    if times is not None:
        moments = np.array([(times[at] - _EPOCH) // _MICROSECOND for at in good], np.int64)
    order = np.lexsort((numbers, moments, places))
    is_last = np.append(places[order][1:] != places[order][:-1], True)
    best = order[is_last]
    best = best[moments[best] >= newest[places[best]]]
    found.rows[places[best]] = numbers[best]
    newest[places[best]] = moments[best]
