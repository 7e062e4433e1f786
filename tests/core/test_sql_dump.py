"""Rows are read out of a dump as they were written, whatever tool wrote it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from project.core.errors import BadRequest
from project.core.sql_dump import Row, read_dump


def read(tmp_path: Path, dump: str) -> list[tuple[str, Row]]:
    path = tmp_path / "dump.sql"
    path.write_bytes(dump.encode())
    return list(read_dump(path))


@pytest.mark.parametrize(
    ("dump", "value"),
    [
        ("INSERT INTO `t` (`a`) VALUES ('it\\'s');", "it's"),
        ("INSERT INTO `t` (`a`) VALUES ('it''s');", "it's"),
        ("INSERT INTO `t` (`a`) VALUES ('C:\\\\dir\\n');", "C:\\dir\n"),
        ("INSERT INTO public.t (a) VALUES ('C:\\dir');", "C:\\dir"),
        ("INSERT INTO public.t (a) VALUES (E'C:\\\\dir');", "C:\\dir"),
        ("INSERT INTO t (a) VALUES (NULL) ON CONFLICT DO NOTHING;", None),
        ("INSERT INTO t (a) VALUES (-12.50);", "-12.50"),
        ("COPY public.t (a) FROM stdin;\ntab\\there\n\\.\n", "tab\there"),
        ("COPY public.t (a) FROM stdin;\n\\N\n\\.\n", None),
        ("INSERT INTO t (a) VALUES ('\nINSERT INTO u (a)');", "\nINSERT INTO u (a)"),
    ],
)
def test_a_value_is_read_as_it_was_written(tmp_path: Path, dump: str, value: str | None) -> None:
    assert read(tmp_path, dump) == [("t", {"a": value})]


VALUES = st.none() | st.text(st.characters(codec="utf-8"))


@given(st.lists(st.tuples(VALUES, VALUES)))
def test_rows_of_any_text_come_back_from_a_mysql_dump(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str | None, str | None]]
) -> None:
    def written(value: str | None) -> str:
        if value is None:
            return "NULL"
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0") + "'"

    values = ",\n".join(f"({written(a)},{written(b)})" for a, b in rows)
    dump = f"INSERT INTO `t` (`a`, `b`) VALUES {values};\n" if rows else ""

    found = read(tmp_path_factory.mktemp("dump"), dump)

    assert [(row["a"], row["b"]) for _, row in found] == rows


def test_an_empty_copy_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path, "COPY t (a) FROM stdin;\n\\.\n\nINSERT INTO t (a) VALUES (1);") == [
        ("t", {"a": "1"})
    ]


@pytest.mark.parametrize(
    ("dump", "words"),
    [
        ("INSERT INTO t (a, b) VALUES\n(1,2),\n(3);", "Line 2: 1 values for the 2 columns of t"),
        ("INSERT INTO t VALUES (1);", "Line 1: the columns of t are named neither here"),
        ("COPY t (a) FROM stdin;\n1\n", "ends in the middle of a COPY"),
    ],
)
def test_a_broken_dump_is_refused_in_words(tmp_path: Path, dump: str, words: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(tmp_path, dump)
    assert words in refused.value.detail
