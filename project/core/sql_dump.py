"""Rows out of an SQL dump: INSERTs as MySQL and its tools write them, and Postgres' COPY blocks.

For moving in from another system: read once, in the order of the file, nothing is executed.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from project.core.errors import BadRequest

Value = str | None
Row = Mapping[str, Value]
"""A row by the names of its columns; a number is the text that was written, NULL is None."""

_NAME = r"[`\"\[]?[\w$-]+[`\"\]]?"
_TABLE = rf"(?:{_NAME}\.)?({_NAME})"
_STATEMENT = re.compile(
    rf"^(?:INSERT\s+(?:IGNORE\s+)?INTO\s+{_TABLE}\s*(\([^)]*\))?\s*VALUES\s*"
    rf"|COPY\s+{_TABLE}\s*(\([^)]*\))\s+FROM\s+stdin;\n"
    rf"|CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?{_TABLE}\s*\()",
    re.MULTILINE | re.IGNORECASE,
)
_COLUMN = re.compile(rf"^\s*({_NAME})\s+[\w]", re.MULTILINE)
_KEYS = {"primary", "unique", "key", "constraint", "foreign", "index", "check", "fulltext"}
# Backslashes escape in MySQL's strings and in E'…'; in other strings of Postgres they stand for
# themselves, and a dump of Postgres quotes no name with backticks.
_ESCAPED = r"'((?:[^'\\]|\\.|'')*)'"
_PLAIN = r"'((?:[^']|'')*)'"
_TOKEN = r"\s*(?:E{escaped}|{quoted}|(NULL)\b|([^\s,()';]+)|([(),;]))"
_MYSQL = re.compile(_TOKEN.format(escaped=_ESCAPED, quoted=_ESCAPED), re.DOTALL | re.IGNORECASE)
_POSTGRES = re.compile(_TOKEN.format(escaped=_ESCAPED, quoted=_PLAIN), re.DOTALL | re.IGNORECASE)
_ESCAPE = re.compile(r"\\(.)|''", re.DOTALL)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "b": "\b", "Z": "\x1a", "f": "\f"}


def read_dump(path: Path) -> Iterator[tuple[str, Row]]:
    """Give every row of the dump with the name of its table. Raises BadRequest, naming the line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path.name} is not UTF-8: byte {error.start:,}.") from error
    tokens = _MYSQL if "`" in text else _POSTGRES
    columns: dict[str, list[str]] = {}
    position = 0
    while found := _STATEMENT.search(text, position):
        inserted, insert_names, copied, copy_names, made = found.groups()
        position = found.end()
        if made:
            columns[_bare(made)] = _declared(text, position)
        elif copied:
            rows, position = _copied(text, position, _listed(copy_names))
            yield from ((_bare(copied), row) for row in rows)
        else:
            table = _bare(inserted)
            names = _listed(insert_names) if insert_names else columns.get(table)
            if not names:
                raise BadRequest(
                    f"Line {_line(text, found.start()):,}: the columns of {table} are named "
                    "neither here nor by a CREATE TABLE before it."
                )
            for values, end in _inserted(text, position, tokens):
                if len(values) != len(names):
                    raise BadRequest(
                        f"Line {_line(text, position):,}: {len(values)} values for the "
                        f"{len(names)} columns of {table}."
                    )
                position = end
                yield table, dict(zip(names, values, strict=True))


def _declared(text: str, start: int) -> list[str]:
    body = text[start : text.find(";", start)]
    names = [_bare(name) for name in _COLUMN.findall(body)]
    return [name for name in names if name.lower() not in _KEYS]


def _inserted(
    text: str, position: int, tokens: re.Pattern[str]
) -> Iterator[tuple[list[Value], int]]:
    """Give the values of each row of an INSERT, and where the row ends."""
    values: list[Value] = []
    depth = 0
    while found := tokens.match(text, position):
        escaped, quoted, null, bare, mark = found.groups()
        position = found.end()
        if mark == ";":
            return
        if mark == "(":
            depth += 1
        elif mark == ")":
            depth -= 1
            yield values, position
            values = []
        elif mark is None and depth == 0:
            return  # ON DUPLICATE KEY, ON CONFLICT, RETURNING
        elif mark is None:
            values.append(_value(escaped, quoted, null, bare, tokens))
    raise BadRequest(f"Line {_line(text, position):,}: the file ends in the middle of a row.")


def _value(
    escaped: str | None,
    quoted: str | None,
    null: str | None,
    bare: str | None,
    tokens: re.Pattern[str],
) -> Value:
    if null:
        return None
    if escaped is not None or (quoted is not None and tokens is _MYSQL):
        return _ESCAPE.sub(_unescaped, escaped if escaped is not None else quoted or "")
    return quoted.replace("''", "'") if quoted is not None else bare


def _unescaped(found: re.Match[str]) -> str:
    character = found.group(1)
    return "'" if character is None else _CONTROLS.get(character, character)


def _copied(text: str, position: int, names: list[str]) -> tuple[list[Row], int]:
    end = text.find("\n\\.", position - 1)
    if end < 0:
        raise BadRequest(f"Line {_line(text, position):,}: the file ends in the middle of a COPY.")
    rows: list[Row] = []
    for line in text[position:end].split("\n") if end > position else []:
        values = [
            None if one == "\\N" else _ESCAPE.sub(_unescaped, one) for one in line.split("\t")
        ]
        if len(values) != len(names):
            raise BadRequest(
                f"Line {_line(text, position) + len(rows):,}: {len(values)} values for "
                f"{len(names)} columns."
            )
        rows.append(dict(zip(names, values, strict=True)))
    return rows, end + 3


def _listed(names: str) -> list[str]:
    return [_bare(name.strip()) for name in names.strip("() \n").split(",")]


def _bare(name: str) -> str:
    return name.strip('`"[]')


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
