"""Files of rows, read as a stream: encoding and delimiter guessed, columns found by name."""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeAlias

from charset_normalizer import from_bytes

DELIMITERS = ",;\t"
SAMPLE_BYTES = 256 * 1024
LONGEST_HEADER = 64 * 1024
SHOWN_COLUMNS = 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_TEXT = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")

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


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file: each with its number, in which the header is row 1."""

    numbers: list[int]
    rows: list[list[str]]
    columns: dict[str, int]
    width: int
    next_row: int

    def only(self, indexes: Sequence[int]) -> "Chunk":
        """Return the chunk with no other rows than those of the indexes."""
        numbers = [self.numbers[index] for index in indexes]
        rows = [self.rows[index] for index in indexes]
        return replace(self, numbers=numbers, rows=rows)

    def column(self, name: str) -> list[str]:
        """Return the values of a column, without the blanks around them; "" where there is none."""
        index = self.columns.get(name)
        if index is None:
            return [""] * len(self.rows)
        return [row[index].strip() if len(row) > index else "" for row in self.rows]


@dataclass(frozen=True)
class Table:
    """A file whose header was read and has every column that is needed."""

    pieces: Pieces
    encoding: str
    delimiter: str
    columns: dict[str, int]
    width: int

    def chunks(self, size: int, *, start: int = 0) -> Iterator[Chunk]:
        """Give the rows from the `start`th on, `size` at a time. Raises FileError."""
        reader = _reader(self.pieces, self.encoding, self.delimiter)
        position = 1 + start
        try:
            next(islice(reader, start, start), None)
            next(reader, None)
            while found := list(islice(reader, size)):
                numbered = [(position + 1 + at, row) for at, row in enumerate(found) if row]
                position += len(found)
                yield Chunk(
                    [number for number, _ in numbered],
                    [row for _, row in numbered],
                    self.columns,
                    self.width,
                    position - 1,
                )
        except UnicodeDecodeError as error:
            raise FileError(_undecodable(self.encoding)) from error
        except csv.Error as error:
            raise FileError(f"It cannot be read as CSV after row {position}: {error}.") from error


def open_table(pieces: Pieces, needed: Sequence[str], optional: Sequence[str] = ()) -> Table:
    """Find out how a file is written and where its columns are. Raises FileError."""
    encoding = guess_encoding(_sample(pieces))
    try:
        header = _header(pieces, encoding)
    except UnicodeDecodeError as error:
        raise FileError(_undecodable(encoding)) from error
    delimiter, names = _split(header, needed)
    missing = [name for name in needed if name not in names]
    if missing:
        raise MissingColumnsError(missing, [name for name in names if name])
    doubled = [name for name in (*needed, *optional) if names.count(name) > 1]
    if doubled:
        raise FileError(f"The header names a column twice: {', '.join(doubled)}.")
    columns = {name: names.index(name) for name in (*needed, *optional) if name in names}
    return Table(pieces, _checked_encoding(pieces, encoding), delimiter, columns, len(names))


def guess_encoding(sample: bytes) -> str:
    """Return the encoding of a file that begins like this. Raises FileError for no text."""
    if not sample.strip():
        raise FileError("The file is empty.")
    for mark, encoding in _BOMS:
        if sample.startswith(mark):
            return encoding
    if b"\x00" in sample:
        return _utf16_without_mark(sample)
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return _one_byte_encoding(sample)
    if _NOT_TEXT.search(text):
        raise FileError("The file is no text.")
    return "utf-8"


def _utf16_without_mark(sample: bytes) -> str:
    """Digits, delimiters and line ends have a zero for every other byte, on one side only."""
    even, odd = sample[0::2], sample[1::2]
    encoding = "utf-16-le" if odd.count(0) > even.count(0) else "utf-16-be"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError as error:
        raise FileError("The file is no text.") from error
    if _NOT_TEXT.search(text):
        raise FileError("The file is no text.")
    return encoding


def _one_byte_encoding(sample: bytes) -> str:
    # Lines without a letter beyond ASCII say nothing of the encoding and only blur the guess.
    telling = b"\n".join(line for line in sample.splitlines() if not line.isascii())
    guessed = from_bytes(telling[:20_000], cp_isolation=["cp1251", "cp1254"]).best()
    encoding = guessed.encoding if guessed else "cp1251"
    if _NOT_TEXT.search(sample.decode(encoding, "replace")):
        raise FileError("The file is no text.")
    return encoding


def _checked_encoding(pieces: Pieces, encoding: str) -> str:
    """Return the encoding that fits the whole file: its first letter may come after the sample."""
    if encoding != "utf-8":
        return encoding
    decoder = codecs.getincrementaldecoder("utf-8")()
    for piece in pieces():
        try:
            decoder.decode(piece)
        except UnicodeDecodeError:
            return _one_byte_encoding(piece)
    return encoding


def _sample(pieces: Pieces) -> bytes:
    sample = b""
    for piece in pieces():
        sample += piece
        if len(sample) >= SAMPLE_BYTES:
            break
    return sample[:SAMPLE_BYTES]


def _header(pieces: Pieces, encoding: str) -> str:
    header = _text(pieces, encoding).readline(LONGEST_HEADER)
    if _NOT_TEXT.search(header):
        raise FileError("The file is no text.")
    return header.strip("\r\n")


def _split(header: str, needed: Sequence[str]) -> tuple[str, list[str]]:
    """Return the delimiter with which most of the needed columns are found, and the columns."""
    best: tuple[str, list[str]] = (DELIMITERS[0], [])
    for delimiter in DELIMITERS:
        try:
            found = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            continue
        names = [name.strip().lower() for name in found]
        if not best[1] or len({*names} & {*needed}) > len({*best[1]} & {*needed}):
            best = (delimiter, names)
    return best


def _undecodable(encoding: str) -> str:
    return f"The file was taken for {encoding} and cannot be read so to its end."


def _text(pieces: Pieces, encoding: str) -> io.TextIOWrapper:
    raw = io.BufferedReader(_Pieces(pieces()), 128 * 1024)
    return io.TextIOWrapper(raw, encoding=encoding, newline="")


def _reader(pieces: Pieces, encoding: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(_text(pieces, encoding), delimiter=delimiter)


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
