"""Rows are read out of a dump as they were written, whatever tool wrote it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from project.core.errors import BadRequest
from project.core.legacy.sql_dump import Row, read_dump


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
        ("insert ignore into `shop`.`t`(`a`)values('x');", "x"),
        ("REPLACE INTO `t` (`a`) VALUES ('x');", "x"),
        ("SET x = 1; INSERT INTO `t` (`a`) VALUES ('x');", "x"),
        ("INSERT INTO `t` (`a`) VALUES (_utf8mb4'gül');", "gül"),
        ("INSERT INTO `t` (`a`) VALUES (_binary 'gül');", "gül"),
        ("INSERT INTO `t` (`a`) VALUES (0x67C3BC6C);", "gül"),
        ("INSERT INTO `t` (`a`) VALUES (x'67C3BC6C');", "gül"),
        ("INSERT INTO `t` (`a`) VALUES (b'1');", "1"),
        ("INSERT INTO t (a) VALUES ('2031-05-10'::timestamp without time zone);", "2031-05-10"),
        ("INSERT INTO t (a) VALUES (/* why */ 'x' -- because\n);", "x"),
        ("COPY t (a) FROM stdin;\r\nx\r\n\\.\r\n", "x"),
        ("CREATE TABLE t (\n  a text\n);\nCOPY t FROM stdin;\nx\n\\.\n", "x"),
        ("CREATE TABLE t (a text, PRIMARY KEY (a)); INSERT INTO t VALUES ('x');", "x"),
        (
            "CREATE TABLE `t` (`a` int COMMENT 'b; (c,d)' DEFAULT '0');\n"
            "INSERT INTO `t` VALUES (7);",
            "7",
        ),
        ("CREATE TABLE `t` (`key` int);\nINSERT INTO `t` (`a`) VALUES (7);", "7"),
        ("/*\nINSERT INTO t (a) VALUES (1);\n*/\nINSERT INTO t (a) VALUES (2);", "2"),
        (
            "DELIMITER ;;\nINSERT INTO `t` (`a`) VALUES (1);\n;;\nDELIMITER ;\n"
            "INSERT INTO `t` (`a`) VALUES (2);",
            "2",
        ),
        ("AS $$\nINSERT INTO t (a) VALUES (1);\n$$;\nINSERT INTO t (a) VALUES (2);", "2"),
    ],
)
def test_a_value_is_read_as_it_was_written(tmp_path: Path, dump: str, value: str | None) -> None:
    assert read(tmp_path, dump) == [("t", {"a": value})]


def test_rows_behind_a_comment_are_rows(tmp_path: Path) -> None:
    dump = "INSERT INTO t (a) VALUES (1) -- the first\n, /* one more */ (2);"

    assert [row["a"] for _, row in read(tmp_path, dump)] == ["1", "2"]


def test_whose_strings_they_are_is_told_by_the_dump_before_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "dump.sql"
    row = "INSERT INTO t (a) VALUES ('a\\\\b');"

    def value(dump: str, *, is_mysql: bool) -> str | None:
        path.write_text(dump)
        [(_, found)] = read_dump(path, is_mysql=is_mysql)
        return found["a"]

    assert value(row, is_mysql=True) == "a\\b"
    assert value(row, is_mysql=False) == "a\\\\b"
    assert value(f"SET standard_conforming_strings = on;\n{row}", is_mysql=True) == "a\\\\b"
    ticks = "INSERT INTO `t` (`a`) VALUES ('a\\\\b');"
    assert value(ticks, is_mysql=False) == "a\\b"
    assert value(row.replace("b'", "`'"), is_mysql=False) == "a\\\\`"


def test_tables_that_are_not_wanted_need_not_be_understood(tmp_path: Path) -> None:
    path = tmp_path / "dump.sql"
    path.write_text(
        "INSERT INTO u (a, b) VALUES (f(1), 2, 3) SELECT;\nINSERT INTO t (a) VALUES (1);"
    )

    assert list(read_dump(path, ["t"])) == [("t", {"a": "1"})]


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
        ("COPY t (a) FROM stdin WITH (FORMAT csv);\n1\n\\.\n", "pg_dump's plain format"),
        ("INSERT INTO t (a) VALUES\n(1)\nGO\n(2);", "Line 2: cannot be read: 'GO"),
        ("INSERT INTO t (a) VALUES (1), ('x", "ends in the middle of a row"),
    ],
)
def test_a_broken_dump_is_refused_in_words(tmp_path: Path, dump: str, words: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(tmp_path, dump)
    assert words in refused.value.detail
