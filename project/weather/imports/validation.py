"""What is checked of the values in a file, a column at a time."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from project.core import clock
from project.core.lazy_module import LazyModule
from project.weather.imports.encoding import LOST
from project.weather.imports.files import BrokenRow, Chunk, LastRow
from project.weather.normalization import bare, decimal, is_shortened, phone_number, whole
from project.weather.numbers import ImpossibleNumberError, normalized
from project.weather.sphere import DECIMALS, Floats
from project.weather.timestamps import FORWARD_SLACK, TimeFormat

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

VALUE_LENGTH = 100
SHORTENED = "A spreadsheet has kept only some of its digits: format the column as text there."
_DEGREES = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")
_PLAIN = set("0123456789+-.eE")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Problem:
    """A value that cannot be used; as a note one that can, or a row that another replaces."""

    row: int
    column: str
    reason: str
    value: str
    is_note: bool = False


@dataclass
class Checked:
    """Which rows of a chunk are good so far, and what is wrong with the others."""

    chunk: Chunk
    good: list[bool]
    problems: list[Problem] = field(default_factory=list)
    doubles: int = 0

    @classmethod
    def of(cls, chunk: Chunk) -> Checked:
        """Begin with rows that are whole and have no more fields than the header."""
        checked = cls(chunk, [True] * len(chunk.rows))
        for index, row in enumerate(chunk.rows):
            if len(row) > chunk.width and any(row[chunk.width :]):
                extra = "|".join(row[chunk.width :])
                checked.refuse(index, "", "More fields than the header has columns.", extra)
            if row.__class__ is not list:
                checked._look_at_end(index, row)
        return checked

    def _look_at_end(self, index: int, row: list[str]) -> None:
        if isinstance(row, BrokenRow):
            self.refuse(index, "", row.reason, row.line)
        elif isinstance(row, LastRow) and row.is_short:
            self.refuse(index, "", "The file ends inside this row.", "|".join(row))
        elif self.good[index]:
            reason = "The file ends here without a line end; if it was cut, so is this row."
            self.note(index, "", reason, "|".join(row))

    def refuse(self, index: int, column: str, reason: str, value: str) -> None:
        """Leave a row out; only what is found first is told of it."""
        if self.good[index]:
            self.good[index] = False
            self._tell(index, column, reason, value, is_note=False)

    def note(self, index: int, column: str, reason: str, value: str) -> None:
        """Tell something of a row that is taken."""
        self._tell(index, column, reason, value, is_note=True)

    def supersede(self, index: int, column: str, value: str, *, by: int) -> None:
        """Leave a good row out because the row `by` says the same key anew."""
        if self.good[index]:
            self.good[index] = False
            self.doubles += 1
            self.note(index, column, f"Row {by} has the same {column} and is taken.", value)

    def _tell(self, index: int, column: str, reason: str, value: str, *, is_note: bool) -> None:
        shown = _CONTROL.sub(" ", value)[:VALUE_LENGTH]
        number = self.chunk.numbers[index]
        self.problems.append(Problem(number, column, reason, printable(shown), is_note))

    def degrees(
        self, column: str, limit: int, *, not_needed: Collection[int] = frozenset()
    ) -> Floats:
        """Return a column of latitudes or longitudes; 0 in rows that are not good.

        The rows whose indexes are `not_needed` say something that has no place.
        """
        values = self.chunk.column(column)
        try:
            if not set().union(*values) <= _PLAIN:
                raise ValueError
            found = np.array(list(map(float, values)), np.float64)
        except ValueError:
            found = np.array([_degrees_or_nan(value) for value in values], np.float64)
        bad = ~(np.abs(found) <= limit)
        for index in np.flatnonzero(bad).tolist():
            if index not in not_needed:
                reason = f"Not a number of degrees from -{limit} to {limit}."
                self.refuse(index, column, reason, values[index])
        found[bad] = 0
        return np.round(found, DECIMALS)

    def msisdns(self) -> list[str]:
        """Return the numbers in E.164; "" in rows that are not good."""
        found = []
        for index, value in enumerate(self.chunk.column("msisdn")):
            try:
                found.append(self._msisdn(index, value))
            except ImpossibleNumberError as error:
                found.append("")
                reason = SHORTENED if is_shortened(value) else str(error)
                self.refuse(index, "msisdn", reason, value)
        return found

    def _msisdn(self, index: int, value: str) -> str:
        try:
            written = value
            number = normalized(written)
        except ImpossibleNumberError:
            written = phone_number(value)
            number = normalized(written)
        if len(number) != len(written) + (not written.startswith("+")):
            self.note(index, "msisdn", f"Read as {number}.", value)
        return number

    def moments(self, format_: TimeFormat) -> list[datetime]:
        """Return when the rows happened, by the column ts; in rows that are not good, any time."""
        latest = clock.now() + FORWARD_SLACK
        found = []
        for index, value in enumerate(self.chunk.column("ts")):
            moment = format_.read(value) or format_.read(bare(value))
            if moment is None:
                self.refuse(index, "ts", format_.complaint, value)
                moment = latest
            elif moment > latest:
                self.refuse(index, "ts", "Lies more than a day in the future.", value)
            found.append(moment)
        return found

    def texts(self, column: str, longest: int) -> list[str]:
        """Return a column of texts that people are to read."""
        values = self.chunk.column(column)
        for index, value in enumerate(values):
            if not value or len(value) > longest:
                self.refuse(index, column, f"Must have 1 to {longest} characters.", value)
            elif _CONTROL.search(value):
                self.refuse(index, column, "Must not have control characters.", value)
            elif LOST in value:
                self.refuse(index, column, "Has bytes that are no text in its encoding.", value)
        return values

    def good_rows(self) -> list[int]:
        """Return the indexes of the rows that are good."""
        return [index for index, is_good in enumerate(self.good) if is_good]


def printable(text: str) -> str:
    """Return the text without halves of surrogate pairs, which no database takes."""
    return text.encode("utf-8", "replace").decode()


def _degrees_or_nan(value: str) -> float:
    plain = decimal(value)
    return float(plain) if _DEGREES.fullmatch(plain) else float("nan")


def keys_of(chunk: Chunk, key: str) -> list[int]:
    """Return what rows are told apart by: the digits as a number, -1 where there are others."""
    plain = phone_number if key == "msisdn" else whole
    keys = []
    for value in chunk.column(key):
        digits = value.removeprefix("+")
        if not digits.isdigit() or digits.startswith("00"):
            digits = plain(value).removeprefix("+")
        is_number = digits.isascii() and digits.isdigit() and len(digits) <= 18
        keys.append(int(digits) if is_number else -1)
    return keys
