"""Rows out of an SQL dump: INSERTs as MySQL and its tools write them, and Postgres' COPY blocks.

For moving in from another system: read once, in the order of the file, nothing is executed.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from project.core.errors import BadRequest

Value = str | None
Row = Mapping[str, Value]
"""A row by the names of its columns; a number is the text that was written, NULL is None."""

_NAME = r"(?:`[^`\n]+`|\"[^\"\n]+\"|\[[^\]\n]+\]|[\w$-]+)"
_TABLE = rf"(?:{_NAME}\s*\.\s*)?({_NAME})"
_COLUMNS = rf"(\(\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\))?"
# What stands in comments and in the bodies of triggers and functions is no statement of the dump.
_STATEMENT = re.compile(
    r"/\*(?!!).*?\*/"
    r"|^[ \t]*(?:--|\#)[^\n]*"
    r"|^DELIMITER[ \t]+(?!;\s*$)\S+[ \t]*$.*?^DELIMITER[ \t]+;"
    r"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$"
    r"|(?:^|;)[ \t]*(?:"
    r"(?:INSERT|REPLACE)\s+(?:(?:LOW_PRIORITY|HIGH_PRIORITY|DELAYED|IGNORE)\s+)*INTO\s+"
    rf"{_TABLE}\s*{_COLUMNS}\s*(?:OVERRIDING\s+\w+\s+VALUE\s+)?VALUES"
    rf"|COPY\s+{_TABLE}\s*{_COLUMNS}\s+FROM\s+stdin\b([^;\n]*);(\r?)\n"
    rf"|CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?{_TABLE}\s*\()",
    re.MULTILINE | re.IGNORECASE | re.DOTALL,
)
# The parts of a CREATE TABLE, as far as they tell where a column's declaration ends.
_PART = re.compile(
    rf"({_NAME})|'(?:[^'\\]|\\.|'')*'|--[^\n]*|/\*.*?\*/|([(),;])|.", re.DOTALL | re.IGNORECASE
)
_KEYS = {
    *("primary", "unique", "key", "constraint", "foreign", "index", "check", "fulltext"),
    *("spatial", "exclude", "like"),
}
# Backslashes escape in MySQL's strings and in E'…'; in other strings of Postgres they stand for
# themselves, and a dump of Postgres quotes no name with backticks.
_ESCAPED = r"'((?:[^'\\]|\\.|'')*)'"
_PLAIN = r"'((?:[^']|'')*)'"
_CAST = (
    r"(?:\s*::\s*(?:\w+\.)?(?:\"[^\"]+\"|\w+)(?:\s+(?:varying|precision|with(?:out)?\s+time\s+zone))?"
    r"(?:\(\d+(?:,\d+)?\))?(?:\[\])?)?"
)
_TOKEN = (
    r"(?:\s+|--[^\n]*|/\*.*?\*/)*"
    r"(?:(?:E{escaped}|(?:N|_[a-z]\w*\s*)?{quoted}|X'([0-9a-f]*)'|0x([0-9a-f]+)\b|B'([01]+)'"
    r"|(NULL)\b|([^\s,()';]+?(?=::|[\s,()';]|$)))" + _CAST + r"|([(),;]))"
)
_FLAGS = re.DOTALL | re.IGNORECASE
_MYSQL = re.compile(_TOKEN.format(escaped=_ESCAPED, quoted=_ESCAPED), _FLAGS)
_POSTGRES = re.compile(_TOKEN.format(escaped=_ESCAPED, quoted=_PLAIN), _FLAGS)
_BACKTICKS = re.compile(r"^[ \t]*(?:INSERT|REPLACE|CREATE)\b[^'\n]*`", re.MULTILINE | re.IGNORECASE)
_STANDARD = re.compile(r"^(?:-- PostgreSQL|SET standard_conforming_strings = on)", re.MULTILINE)
# What stands where nothing more can be read of a file that was cut: nothing, or an open string.
_CUT = re.compile(r"\s*(?:\Z|\w*\s*')")
# What may follow the rows of an INSERT.
_ENDINGS = {"on", "returning", "as"}
_ESCAPE = re.compile(r"\\(.)|''", re.DOTALL)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "b": "\b", "Z": "\x1a", "f": "\f"}


def read_dump(
    path: Path, tables: Collection[str] = (), *, is_mysql: bool = False
) -> Iterator[tuple[str, Row]]:
    """Give every row of the dump with the name of its table; of these tables, if some are named.

    `is_mysql` says that backslashes escape where the dump itself does not tell whose it is. Raises
    BadRequest, naming the line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path.name} is not UTF-8: byte {error.start:,}.") from error
    has_backticks = _BACKTICKS.search(text) is not None
    tokens = _MYSQL if has_backticks or (is_mysql and not _STANDARD.search(text)) else _POSTGRES
    columns: dict[str, list[str]] = {}
    position = 0
    while found := _STATEMENT.search(text, position):
        _, inserted, insert_names, copied, copy_names, options, carriage, made = found.groups()
        position = found.end()
        if made:
            columns[_bare(made)], position = _declared(text, position)
            continue
        if not (inserted or copied):
            continue
        table = _bare(inserted or copied)
        written = insert_names or copy_names
        is_wanted = not tables or table in tables
        names = _listed(written) if written else columns.get(table, [])
        if is_wanted and not names:
            raise BadRequest(
                f"Line {_line(text, position - 1):,}: the columns of {table} are named "
                "neither here nor by a CREATE TABLE before it."
            )
        if copied and is_wanted and options.strip():
            raise BadRequest(
                f"Line {_line(text, position - 1):,}: a COPY of {table} with options; write "
                "the dump in pg_dump's plain format."
            )
        if copied:
            rows = _copied(text, position, carriage)
        else:
            rows = _inserted(text, position, tokens, table if is_wanted else None)
        for values, end in rows:
            if is_wanted and len(values) != len(names):
                raise BadRequest(
                    f"Line {_line(text, position):,}: {len(values)} values for the "
                    f"{len(names)} columns of {table}."
                )
            if is_wanted:
                yield table, dict(zip(names, values, strict=True))
            position = end


def _declared(text: str, position: int) -> tuple[list[str], int]:
    """Return the columns that a CREATE TABLE declares from this position on, and their end."""
    names: list[str] = []
    depth, is_first = 1, True
    while depth and (found := _PART.match(text, position)):
        name, mark = found.groups()
        position = found.end()
        if name and is_first and depth == 1:
            if name.lower() not in _KEYS:
                names.append(_bare(name))
            is_first = False
        elif mark == ",":
            is_first = is_first or depth == 1
        elif mark == ";":
            break
        elif mark:
            depth += 1 if mark == "(" else -1
    return names, position


def _inserted(
    text: str, position: int, tokens: re.Pattern[str], table: str | None
) -> Iterator[tuple[list[Value], int]]:
    """Give the values of each row of an INSERT, and where the row ends.

    `table` is None where its rows are not wanted, and need not be understood.
    """
    values: list[Value] = []
    depth = 0
    while found := tokens.match(text, position):
        word, mark = found.group(7), found.group(8)
        if mark == ";":
            return
        if mark is None and depth == 0:
            if table is None or (word or "").lower() in _ENDINGS:
                return
            break
        position = found.end()
        if mark == "(":
            depth += 1
        elif mark == ")":
            depth -= 1
            if depth == 0:
                yield values, position
                values = []
        elif mark is None and depth == 1:
            values.append(_value(found, tokens))
    line = _line(text, position)
    if _CUT.match(text, position):
        raise BadRequest(f"Line {line:,}: the file ends in the middle of a row.")
    raise BadRequest(f"Line {line:,}: cannot be read: {text[position : position + 40].strip()!r}.")


def _value(found: re.Match[str], tokens: re.Pattern[str]) -> Value:
    escaped, quoted, hexadecimal, number, bits, null, bare, _ = found.groups()
    if null:
        return None
    if escaped is not None or (quoted is not None and tokens is _MYSQL):
        return _ESCAPE.sub(_unescaped, escaped if escaped is not None else quoted)
    if quoted is not None:
        return quoted.replace("''", "'")
    if bits is not None:
        return str(int(bits, 2))
    if hexadecimal is not None or number is not None:
        return _of_bytes(hexadecimal if hexadecimal is not None else number)
    return bare


def _of_bytes(digits: str) -> str:
    return bytes.fromhex(digits.zfill(len(digits) + len(digits) % 2)).decode("utf-8", "replace")


def _unescaped(found: re.Match[str]) -> str:
    character = found.group(1)
    return "'" if character is None else _CONTROLS.get(character, character)


def _copied(text: str, position: int, carriage: str) -> Iterator[tuple[list[Value], int]]:
    """Give the values of each row of a COPY, and where the row ends."""
    end = text.find("\n\\.", position - 1)
    if end < 0:
        line = _line(text, position)
        raise BadRequest(f"Line {line:,}: the file ends in the middle of a COPY.")
    for row in text[position:end].split("\n") if end > position else []:
        position += len(row) + 1
        yield _fields(row.removesuffix(carriage)), position


def _fields(line: str) -> list[Value]:
    return [None if one == "\\N" else _ESCAPE.sub(_unescaped, one) for one in line.split("\t")]


def _listed(names: str) -> list[str]:
    return [_bare(name.strip()) for name in names.strip("() \r\n\t").split(",")]


def _bare(name: str) -> str:
    return name.strip('`"[]')


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
