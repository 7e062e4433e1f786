"""Files of rows, read as a stream: encoding and delimiter found out, columns found by name."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, TypeAlias

from project.weather.imports.encoding import NOT_TEXT, Encoding, EncodingError, encoding_of
from project.weather.normalization import bare, is_blank

DELIMITERS = ",;\t|"
LONGEST_HEADER = 64 * 1024
LINES_BEFORE_HEADER = 30
SHOWN_COLUMNS = 20
LINES_OF_A_ROW = 100
"""How many lines a row may have, in quotes, before its quote counts as one that is not closed."""
TOO_LONG = f"A value is longer than {csv.field_size_limit()} characters."
NOT_CLOSED = "A quote that is opened in this row is not closed in it."
_SEPARATOR = re.compile(r'"?sep=(.)"?\W*', re.IGNORECASE)
_LONG_NUMBER = re.compile(r"\W*[0-9][0-9 .()-]{3,}\W*")

Pieces: TypeAlias = Callable[[], Iterator[bytes]]
"""Opens a file anew, from its beginning, in pieces that are not empty."""


class FileError(Exception):
    """A file that cannot be read; the message says why."""


class MissingColumnsError(FileError):
    """The file lacks columns."""

    def __init__(self, missing: Sequence[str], found: Sequence[str]) -> None:
        named = ", ".join(name[:40] for name in found[:SHOWN_COLUMNS]) or "none"
        super().__init__(f"Missing columns: {', '.join(missing)}. The file has: {named}.")
        self.missing = list(missing)


class BrokenRow(list[str]):
    """A line that is no row; whatever follows it is read as if it were not there."""

    def __init__(self, line: str, reason: str) -> None:
        super().__init__()
        self.line = line
        self.reason = reason


class LastRow(list[str]):
    """The row with which the file ends, without a line end: nobody can say that it is whole."""

    is_short = False


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file: each with its number as a spreadsheet shows it, the header's included.

    Rows without any value are left out and counted as `blank`. `next_row` is the first one behind
    the chunk, counted from the header.
    """

    numbers: list[int]
    rows: list[list[str]]
    columns: Mapping[str, int]
    width: int
    header_row: int
    next_row: int
    blank: int = 0

    def only(self, indexes: Sequence[int]) -> "Chunk":
        """Return the chunk with no other rows than those of the indexes."""
        numbers = [self.numbers[index] for index in indexes]
        rows = [self.rows[index] for index in indexes]
        return replace(self, numbers=numbers, rows=rows, blank=0)

    def halves(self) -> tuple["Chunk", "Chunk"]:
        """Return the rows up to the middle, and those from there on; each with its blank ones."""
        count, middle = len(self.rows), len(self.rows) // 2
        next_row = self.numbers[middle] - self.header_row - 1
        blank = self.next_row - next_row - (count - middle)
        first, last = self.only(range(middle)), self.only(range(middle, count))
        return (
            replace(first, next_row=next_row, blank=self.blank - blank),
            replace(last, blank=blank),
        )

    def column_value(self, index: int, name: str) -> str:
        """Return the value of a column in one row; "" where there is none."""
        row, place = self.rows[index], self.columns.get(name, len(self.rows[index]))
        return row[place].strip() if len(row) > place else ""

    def column(self, name: str) -> list[str]:
        """Return the values of a column, without the blanks around them; "" where there is none."""
        index = self.columns.get(name)
        if index is None:
            return [""] * len(self.rows)
        return [row[index].strip() if len(row) > index else "" for row in self.rows]


@dataclass(frozen=True)
class Columns:
    """Which columns a file must have, which it may have, and what else they are called."""

    key: str
    needed: Sequence[str]
    optional: Sequence[str] = ()
    aliases: Mapping[str, str] | None = None

    def named(self, header: Sequence[str]) -> list[str]:
        """Return the names in a header as they are called here."""
        names = [bare(name).strip('"').lower() for name in header]
        aliases = self.aliases or {}
        return [
            aliases[name] if name in aliases and aliases[name] not in names else name
            for name in names
        ]


@dataclass(frozen=True)
class _Header:
    row: int
    delimiter: str
    names: list[str]


@dataclass(frozen=True)
class Table:
    """A file whose header was read and has every column that is needed."""

    pieces: Pieces
    encoding: Encoding
    delimiter: str
    columns: Mapping[str, int]
    width: int
    header_row: int
    key: str

    def chunks(self, size: int, *, start: int = 0) -> Iterator[Chunk]:
        """Give the rows from the `start`th on, some `size` at a time."""
        done = 0
        for rows in self._batches(size):
            skipped = min(max(start - done, 0), len(rows))
            first = self.header_row + done + skipped + 1
            done += len(rows)
            if skipped < len(rows):
                yield self._chunk(rows[skipped:], first, done)

    def _chunk(self, rows: list[list[str]], first: int, done: int) -> Chunk:
        numbered = [
            (first + at, row)
            for at, row in enumerate(rows)
            if not is_blank(row) or isinstance(row, BrokenRow)
        ]
        return Chunk(
            [number for number, _ in numbered],
            [row for _, row in numbered],
            self.columns,
            self.width,
            self.header_row,
            done,
            len(rows) - len(numbered),
        )

    def _batches(self, size: int) -> Iterator[list[list[str]]]:
        text = _text(self.pieces, self.encoding.name)
        for _ in range(self.header_row):
            text.readline()
        while lines := list(islice(text, size)):
            try:
                rows = list(csv.reader(lines, delimiter=self.delimiter))
                is_plain = len(rows) == len(lines) and not self._is_open(lines[-1:])
            except csv.Error:
                is_plain = False
            if not is_plain:
                rows = self._read_with_care(lines, text)
            if not lines[-1].endswith(("\n", "\r")):
                rows[-1] = self._last_row(rows)
            yield rows

    def _last_row(self, rows: list[list[str]]) -> list[str]:
        if isinstance(rows[-1], BrokenRow):
            return rows[-1]
        last = LastRow(rows[-1])
        usual = len(rows[-2]) if len(rows) > 1 and rows[-2] else self.width
        last.is_short = len(last) < usual
        return last

    def _read_with_care(self, lines: list[str], text: Iterator[str]) -> list[list[str]]:
        """Read lines of which some belong together, or seem to: a quote may not have been closed.

        Such a line is no row; those behind it are read for themselves, so that none is lost.
        """
        feed = _Feed(lines, text, self._looks_like_row)
        rows: list[list[str]] = []
        while not feed.is_empty():
            feed.begin()
            try:
                row = next(csv.reader(feed, delimiter=self.delimiter))
            except csv.Error:
                reason = NOT_CLOSED if len(feed.taken()) > 1 else TOO_LONG
                rows.append(BrokenRow(feed.take_first(), reason))
                continue
            if feed.is_cut or (feed.is_at_end() and self._is_open(feed.taken())):
                row = BrokenRow(feed.take_first(), NOT_CLOSED)
            rows.append(row)
        return rows

    def _is_open(self, lines: Sequence[str]) -> bool:
        """Tell whether a quote is still open at the end of the lines of a row."""
        if not any('"' in line for line in lines):
            return False
        closed = [*lines[:-1], lines[-1].rstrip("\r\n") + "\n", '"\n']
        try:
            return sum(1 for _ in csv.reader(closed, delimiter=self.delimiter)) == 1
        except csv.Error:
            return True

    def _looks_like_row(self, line: str) -> bool:
        """Tell whether a line is a row by itself, its quotes taken for quotes or for signs."""
        return any(self._is_row(line, quoting) for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE))

    def _is_row(self, line: str, quoting: Literal[0, 3]) -> bool:
        try:
            row = next(csv.reader([line], delimiter=self.delimiter, quoting=quoting), [])
        except csv.Error:
            return False
        at = self.columns[self.key]
        return len(row) == self.width or (
            len(row) > at and _LONG_NUMBER.fullmatch(row[at]) is not None
        )


class _Feed:
    """Lines for a reader, one row's at a time; what does not belong to the row is kept from it."""

    def __init__(
        self, lines: list[str], more: Iterator[str], looks_like_row: Callable[[str], bool]
    ) -> None:
        self._lines = lines
        self._more = more
        self._looks_like_row = looks_like_row
        self._at = self._start = 0
        self.is_cut = False

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        if self._at == len(self._lines):
            self._lines.append(next(self._more))
        line = self._lines[self._at]
        count = self._at - self._start
        if count and (count >= LINES_OF_A_ROW or self._begins_a_row(line)):
            self.is_cut = True
            raise StopIteration
        self._at += 1
        return line

    def _begins_a_row(self, line: str) -> bool:
        """Tell whether a line within quotes is a row of its own: a quote before it was not closed.

        One that closes them ends a row, unless the first line is one already without it.
        """
        if not self._looks_like_row(line):
            return False
        return line.count('"') % 2 == 0 or self._looks_like_row(self._lines[self._start])

    def is_empty(self) -> bool:
        """Tell whether all lines that were given belong to rows."""
        return self._at >= len(self._lines)

    def begin(self) -> None:
        """Begin a row."""
        self._start = self._at
        self.is_cut = False

    def is_at_end(self) -> bool:
        """Tell whether the row ends with the last line that is known."""
        return self._at == len(self._lines)

    def taken(self) -> list[str]:
        """Return the lines of the row."""
        return self._lines[self._start : self._at]

    def take_first(self) -> str:
        """Return the first line of the row, and go on behind it."""
        self._at = self._start + 1
        return self._lines[self._start]


def open_table(pieces: Pieces, columns: Columns, *, stated_encoding: str | None = None) -> Table:
    """Find out how a file is written and where its columns are. Raises FileError."""
    try:
        encoding = encoding_of(pieces(), stated_encoding)
    except EncodingError as error:
        raise FileError(str(error)) from error
    header = _header(pieces, encoding.name, columns)
    missing = [name for name in columns.needed if name not in header.names]
    if missing:
        raise MissingColumnsError(missing, [name for name in header.names if name])
    wanted = (*columns.needed, *columns.optional)
    doubled = [name for name in wanted if header.names.count(name) > 1]
    if doubled:
        raise FileError(f"The header names a column twice: {', '.join(doubled)}.")
    places = {name: header.names.index(name) for name in wanted if name in header.names}
    width = len(header.names)
    return Table(pieces, encoding, header.delimiter, places, width, header.row, columns.key)


def _header(pieces: Pieces, encoding: str, columns: Columns) -> _Header:
    """Return the first line that names all that is needed, or else most of it.

    Before it there may be a title, empty lines, and the line by which Excel knows the delimiter.
    """
    text = _text(pieces, encoding)
    delimiters = DELIMITERS
    best = _Header(1, DELIMITERS[0], [])
    left = LINES_BEFORE_HEADER
    for number, read in enumerate(iter(lambda: text.readline(LONGEST_HEADER), ""), 1):
        line = bare(read)
        if not line.strip(DELIMITERS + ' "'):
            continue
        left -= 1
        stated = _SEPARATOR.fullmatch(line)
        if stated:
            delimiters = stated[1]
            continue
        found = _split(line, number, delimiters, columns)
        if _matches(found, columns) > _matches(best, columns) or not best.names:
            best = found
        if left <= 0 or _matches(best, columns) == len(columns.needed):
            break
    if any(NOT_TEXT.search(name) for name in best.names):
        raise FileError("The file is no text.")
    return best


def _split(line: str, number: int, delimiters: str, columns: Columns) -> _Header:
    """Split a line by the delimiter with which most of the needed columns are found."""
    best = _Header(number, delimiters[0], [])
    for delimiter in delimiters:
        try:
            fields = next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:
            continue
        found = _Header(number, delimiter, columns.named(fields))
        if not any(found.names):
            continue
        if not best.names or _matches(found, columns) > _matches(best, columns):
            best = found
    return best


def _matches(header: _Header, columns: Columns) -> int:
    return len({*header.names} & {*columns.needed})


def _text(pieces: Pieces, encoding: str) -> io.TextIOWrapper:
    raw = io.BufferedReader(_Pieces(pieces()), 128 * 1024)
    return io.TextIOWrapper(raw, encoding=encoding, errors="replace", newline="")


class _Pieces(io.RawIOBase):
    """Pieces of a file as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
