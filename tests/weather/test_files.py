"""Files as staff and their programs write them: every row is in a count, whatever stands in it."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from project.core.db.transaction import transaction
from project.extensions import db
from project.weather.imports import runner
from project.weather.imports.encoding import encoding_of
from project.weather.imports.files import BrokenRow, Columns, MissingColumnsError, Table, open_table
from project.weather.models import Subscriber
from tests.weather.world import (
    ADDITIONS,
    CANCELLATIONS,
    FORECASTS,
    MOSCOW,
    NOW,
    Operator,
    addition,
    counts,
    lines,
)

EVENTS = Columns("msisdn", ("ts", "msisdn"))
RUSSIAN = ["Ясно и ветер слабый", "Переменная облачность: днём гроза", "НЕБОЛЬШОЙ СНЕГ", "Туман"]
TURKISH = ["Güneşli ve ılık", "Öğleden sonra sağanak yağış", "İç kesimlerde sis, çiğ"]


def table(content: str | bytes, columns: Columns = EVENTS, pieces: int = 7) -> Table:
    raw = content.encode() if isinstance(content, str) else content
    return open_table(
        lambda: iter([raw[at : at + pieces] for at in range(0, len(raw), pieces)]), columns
    )


def rows_of(content: str | bytes, size: int = 3) -> list[tuple[int, list[str]]]:
    return [
        (number, row)
        for chunk in table(content).chunks(size)
        for number, row in zip(chunk.numbers, chunk.rows, strict=True)
    ]


def active() -> set[str]:
    with transaction(read_only=True):
        return set(db.session.scalars(db.select(Subscriber.msisdn).filter_by(state="active")))


class TestQuotes:
    ROWS = [f"2026-05-01 1{at}:00,+7903222000{at},left {at}" for at in range(5)]

    @pytest.mark.parametrize("size", [1, 2, 3, 100])
    def test_one_at_any_place_costs_no_other_row(self, size: int) -> None:
        content = lines("ts,msisdn,reason", *self.ROWS)
        first = content.index("\n") + 1
        for at in range(first, len(content) + 1):
            found = rows_of(content[:at] + '"' + content[at:], size)
            hit = min(content[first:at].count("\n"), len(self.ROWS))

            others = {row[1] for number, row in found if row and number != hit + 2}
            expected = {row.split(",")[1] for n, row in enumerate(self.ROWS) if n != hit}
            assert expected <= others, at
            assert [number for number, _ in found][: len(self.ROWS)] == [2, 3, 4, 5, 6]

    @settings(max_examples=200, deadline=None)
    @given(
        marks=st.lists(st.tuples(st.integers(0, 120), st.sampled_from(['"', '""'])), max_size=4),
        quoted=st.booleans(),
        size=st.integers(1, 7),
    )
    def test_some_anywhere_lose_no_number_without_a_word(
        self, marks: list[tuple[int, str]], quoted: bool, size: int
    ) -> None:
        written = io.StringIO()
        style = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
        writer = csv.writer(written, quoting=style, lineterminator="\n")
        writer.writerows([["ts", "msisdn"], *(row.split(",")[:2] for row in self.ROWS)])
        content = written.getvalue()
        head = content.index("\n") + 1
        for at, mark in marks:
            place = min(head + at, len(content))
            content = content[:place] + mark + content[place:]

        found = rows_of(content, size)

        assert len(found) >= len(self.ROWS)

    def test_a_row_with_an_open_one_is_bad_and_named(self, desk: Operator) -> None:
        numbers = [f"+7903222000{at}" for at in range(6)]
        desk.imported("additions", lines(ADDITIONS, *(f"2026-01-01,{n},1,1,1" for n in numbers)))
        rows = [f"{NOW},{number},tired" for number in numbers]
        rows[2] = f'{NOW},{numbers[2]},"so tired'

        task = desk.imported("cancellations", lines("ts,msisdn,reason", *rows))

        assert counts(task) == (0, 5, 0, 1)
        assert [row for row, _, _ in desk.errors(task["id"])] == [4]
        assert active() == {numbers[2]}

    def test_one_that_is_closed_some_rows_later_takes_no_rows_in(self) -> None:
        rows = list(self.ROWS)
        rows[1] = '2026-05-01 11:00,+79032220001,"5 inch'
        rows[3] = '2026-05-01 13:00,+79032220003,7 inch"'

        found = rows_of(lines("ts,msisdn,reason", *rows))

        assert [isinstance(row, BrokenRow) for _, row in found] == [
            False,
            True,
            False,
            False,
            False,
        ]

    @pytest.mark.parametrize("note", ['"7 cm', '"', '"7" cm', '"a; b', "'\"7 cm"])
    @pytest.mark.parametrize("count", [2, 3, 4, 7])
    def test_one_at_the_beginning_of_rows_in_turn_hides_none_of_them(
        self, note: str, count: int
    ) -> None:
        content = ["note,ts,msisdn"]
        content += [f"{note},2026-05-01 10:00,7903222100{at}" for at in range(count)]
        content += ["plain,2026-05-01 10:00,79032221009"]
        found = rows_of(lines(*content), size=50)
        assert [number for number, _ in found] == list(range(2, count + 3))
        assert found[-1][1] == ["plain", "2026-05-01 10:00", "79032221009"]

    def test_a_value_of_some_lines_may_be_the_first_one(self) -> None:
        content = 'note,ts,msisdn\n"moved\nto ""Bern""",2026-05-01 10:00,79032221001\n'
        row = ['moved\nto "Bern"', "2026-05-01 10:00", "79032221001"]
        assert rows_of(content) == [(2, row)]

    def test_a_value_of_some_lines_is_one_value(self) -> None:
        content = lines(
            "ts,msisdn,reason", '1,+79032220001,"first\nsecond, or so\n\nthird"', "2,3,4"
        )

        found = rows_of(content)

        assert [number for number, _ in found] == [2, 3]
        assert found[0][1][2] == "first\nsecond, or so\n\nthird"

    def test_a_value_beyond_all_limits_is_a_bad_row_of_its_own(self, desk: Operator) -> None:
        content = lines(
            CANCELLATIONS, f"{NOW},+79032220001", f"{NOW},{'7' * 140_000}", f'{NOW},"', f"{NOW},x"
        )

        task = desk.imported("cancellations", content)

        assert [row for row, _, _ in desk.errors(task["id"])] == [2, 3, 4, 5]


class TestTheEndOfAFile:
    def test_a_row_in_which_it_ends_is_bad(self, desk: Operator) -> None:
        content = lines(ADDITIONS, addition("+79032220001"))

        task = desk.imported("additions", content + f"{NOW},+79032220002,1,55")

        assert counts(task) == (1, 0, 0, 1)
        assert active() == {"+79032220001"}

    def test_a_row_that_may_have_been_cut_is_noted(self, desk: Operator) -> None:
        content = lines(ADDITIONS, addition("+79032220001"), addition("+79032220002"))

        assert desk.notes(desk.imported("additions", content)["id"]) == []
        task = desk.imported("additions", content.removesuffix("\n"))
        assert (counts(task), desk.notes(task["id"])) == ((0, 0, 2, 0), [3])

    @pytest.mark.parametrize("end", ["\x1a", "\n\x1a", "\r\n\x1a\x00\x00"])
    def test_may_be_marked_as_dos_did(self, desk: Operator, end: str) -> None:
        content = lines(ADDITIONS, addition("+79032220001")).rstrip("\n") + end

        task = desk.imported("additions", content)

        assert counts(task) == (1, 0, 0, 0), task
        assert desk.shown("+79032220001")["lon"] == MOSCOW[1]


class TestWhatIsNoRow:
    @pytest.mark.parametrize("empty", ["", "   ", ",,,,", " , ,\u00a0, ,", "\ufeff", '"",""'])
    def test_is_passed_over_and_counted(self, desk: Operator, empty: str) -> None:
        content = lines(ADDITIONS, empty, addition("+79032220001"), empty, empty, "x,,,,")

        task = desk.imported("additions", content)

        assert counts(task) == (1, 0, 0, 1)
        assert (task["total"], task["done"], task["blank"]) == (2, 2, 3)
        assert [row for row, _, _ in desk.errors(task["id"])] == [6]

    def test_may_be_more_than_bad_rows_are_allowed(
        self, desk: Operator, change_settings: Any
    ) -> None:
        change_settings(import_max_errors=100, import_chunk_rows=1000)

        task = desk.imported(
            "additions", lines(ADDITIONS, *[",,,,"] * 5000, addition("+79032220001"))
        )

        assert (task["state"], task["blank"], task["created"]) == ("success", 5000, 1)

    @pytest.mark.parametrize(
        "before",
        [
            "sep=;\n",
            '"sep=;"\r\n',
            "\n\n",
            "List of those who left, May\n",
            ";;\nRegion: north;;\n",
            "\n" * 300,
            ";;\n \n" * 300 + "List of May\n",
        ],
        ids=range(7),
    )
    def test_may_stand_before_the_header(self, desk: Operator, before: str) -> None:
        body = lines("ts;msisdn", f"{NOW};+79032220001", f"{NOW};x")

        task = desk.imported("cancellations", before + body)

        assert task["delimiter"] == ";"
        header = before.count("\n") + 1
        assert [row for row, _, _ in desk.errors(task["id"])] == [header + 1, header + 2]

    def test_a_header_is_not_looked_for_without_end(self) -> None:
        with pytest.raises(MissingColumnsError, match="ts, msisdn"):
            table("1,2\n" * 31 + "ts,msisdn\n")

    def test_any_separator_that_is_stated_is_taken(self) -> None:
        found = table("sep=~\nts~msisdn\n1~2\n")

        assert (found.delimiter, found.header_row) == ("~", 2)


class TestValues:
    NUMBER = "+905424440003"

    @pytest.mark.parametrize(
        "written",
        [
            "905424440003.0",
            "'+905424440003",
            '="905424440003"',
            "00905424440003",
            "+90 542 444 00 03",
            "+90 (542) 444-00-03",
            "905424440003\u200b",
            "\u202a+905424440003\u202c",
            "\ufeff905424440003",
            "90\u00a0542\u00a0444\u00a000\u00a003",
            "+90-542-444\u201100\u201103",
        ],
    )
    def test_of_numbers_come_as_spreadsheets_write_them(self, desk: Operator, written: str) -> None:
        quoted = '"' + written.replace('"', '""') + '"'
        row = f'\'{NOW},{quoted},1.0,"41,01","\u221228,9"'

        task = desk.imported("additions", lines(ADDITIONS, row))

        assert counts(task) == (1, 0, 0, 0), desk.errors(task["id"])
        shown = desk.shown(self.NUMBER)
        assert (shown["plan"], shown["lat"], shown["forecast"]) == ("daily", 41.01, None)

    @pytest.mark.parametrize("local", ["5327654321", "5417654321", "9267654321"])
    @pytest.mark.parametrize("written", ["{}", "{}.0", "'{}", '="{}"', "({}", "{}.00"])
    def test_of_numbers_that_lost_their_country_are_refused_however_they_are_written(
        self, desk: Operator, local: str, written: str
    ) -> None:
        quoted = '"' + written.format(local).replace('"', '""') + '"'

        task = desk.imported("additions", lines(ADDITIONS, addition(quoted)))

        assert counts(task) == (0, 0, 0, 1)
        assert "is it a local one" in task["error"]

    def test_of_numbers_with_a_plus_sign_are_what_they_say(self, desk: Operator) -> None:
        rows = [addition(number) for number in ("+5417654321", "005417654322", "'+5417654323")]

        task = desk.imported("additions", lines(ADDITIONS, *rows))

        assert counts(task) == (3, 0, 0, 0)
        assert desk.notes(task["id"]) == [2, 3, 4]

    def test_of_which_digits_are_lost_are_refused_in_words(self, desk: Operator) -> None:
        task = desk.imported("additions", lines(ADDITIONS, addition("9.05424E+11")))

        assert "format the column as text" in task["error"]

    @pytest.mark.parametrize(
        ("plan", "shown"), [("11", "daily"), ("21", "weekly"), ("2.0", "weekly")]
    )
    def test_of_plans_are_those_of_the_older_service_too(
        self, desk: Operator, plan: str, shown: str
    ) -> None:
        header = ADDITIONS.replace("original_sub_plan", "service_id")

        desk.imported("additions", lines(header, addition(self.NUMBER, plan)))

        assert desk.shown(self.NUMBER)["plan"] == shown

    @pytest.mark.parametrize(
        ("form", "zone", "written"),
        [
            ("dmy", None, "03.11.2024 10:00"),
            ("dmy", None, "3/11/24 10:00:00"),
            ("dmy", None, "2024-11-03T10:00:00Z"),
            ("mdy", None, "11/03/2024 10:00 AM"),
            ("mdy", "Europe/Istanbul", "11/3/2024 1:00 pm"),
            ("excel", None, "45599.4166666667"),
            ("%d %b %Y %H.%M", None, "03 Nov 2024 10.00"),
            ("iso", "Asia/Tokyo", "2024-11-03 19:00"),
            ("iso", "Asia/Tokyo", "2024-11-03 10:00:00 UTC"),
            ("iso", "Asia/Tokyo", "2024-11-03t10:00:00z"),
            ("%Y%m%d %H%M%S %z", "Asia/Tokyo", "20241103 130000 +0300"),
        ],
    )
    def test_of_times_are_read_as_is_stated(
        self, desk: Operator, form: str, zone: str | None, written: str
    ) -> None:
        query = {"ts_format": form} | ({"ts_timezone": zone} if zone else {})
        content = lines(ADDITIONS, f"{written},{self.NUMBER},1,1,1")
        answer = desk.upload("additions", content, **query)
        assert answer.status_code == 202, answer.json
        runner.run()

        with transaction(read_only=True):
            at = db.session.scalar(db.select(Subscriber.subscription_event_at))
        assert at is not None
        assert at.isoformat() == "2024-11-03T10:00:00+00:00"

    @pytest.mark.parametrize("written", ["24.11.2026 10:00", "11/24/2026 10:00 AM", "46329.4"])
    def test_of_times_in_a_form_that_is_not_stated_end_in_words(
        self, desk: Operator, written: str
    ) -> None:
        task = desk.imported("cancellations", lines(CANCELLATIONS, f"{written},{self.NUMBER}"))

        assert task["state"] == "failure"
        assert "row 2, ts" in task["error"]
        assert "ts_format" in task["error"]

    @pytest.mark.parametrize(
        "query",
        [
            {"ts_format": "ydm"},
            {"ts_format": "%H:%M"},
            {"ts_format": "%Q%"},
            {"ts_format": "%Y-%m-%d %H:%M %Z"},
            {"encoding": "rot13"},
            {"encoding": "utf-99"},
            {"ts_timezone": "Mars/Base"},
            {"ts_timezone": "../etc/passwd"},
        ],
        ids=str,
    )
    def test_how_they_are_written_must_be_known(
        self, desk: Operator, query: dict[str, str]
    ) -> None:
        answer = desk.upload("additions", lines(ADDITIONS), **query)

        assert answer.status_code == 400
        assert set(answer.json["errors"]) == set(query)


class TestEncodings:
    @pytest.mark.parametrize(
        ("texts", "encoding"),
        [
            (RUSSIAN, "cp1251"),
            (RUSSIAN, "koi8-r"),
            (RUSSIAN, "cp866"),
            (RUSSIAN, "mac-cyrillic"),
            (RUSSIAN, "iso8859-5"),
            (TURKISH, "cp1254"),
            (TURKISH, "iso8859-9"),
            (TURKISH, "cp857"),
            (["Überwiegend sonnig, später mäßiger Wind"], "cp1252"),
            (["Très nuageux, orages à prévoir", "Températures élevées"], "cp1252"),
            (["Mgła, potem słońce", "Przelotne opady śniegu"], "cp1250"),
            (["Βροχή και καταιγίδες", "Αίθριος καιρός"], "cp1253"),
        ],
    )
    def test_are_guessed_right_or_not_at_all(self, texts: list[str], encoding: str) -> None:
        for some in (texts, *([text] for text in texts)):
            content = lines(FORECASTS, *(f"{n},1,1,{text},{text}" for n, text in enumerate(some)))

            found = encoding_of([content.encode(encoding)], None)

            is_right = content.encode(encoding).decode(found.name, "replace") == content
            assert is_right or found.is_doubtful, found
            assert found.note
        if encoding in ("cp1251", "cp1254", "cp866"):
            assert not encoding_of([lines(*texts * 3).encode(encoding)], None).is_doubtful

    def test_utf8_with_a_byte_that_is_none_has_one_bad_row(self, desk: Operator) -> None:
        rows = [f"{gid},1,1,{RUSSIAN[gid % 4]},дождь".encode() for gid in range(1, 4)]
        rows[1] = rows[1][:-1]

        task = desk.imported("forecasts", b"\n".join([FORECASTS.encode(), *rows, b""]))

        assert (task["encoding"], counts(task)) == ("utf-8", (2, 0, 0, 1))
        assert [row for row, _, _ in desk.errors(task["id"])] == [3]
        assert desk.client.get("/api/forecasts/1").json["data"]["fcat48"] == "дождь"

    def test_one_nul_is_one_bad_row(self, desk: Operator) -> None:
        content = lines(
            ADDITIONS,
            addition("+79032220001"),
            addition("+7903222\x00000"),
            addition("+79032220003"),
        )

        task = desk.imported("additions", content)

        assert (task["encoding"], counts(task)) == ("utf-8", (2, 0, 0, 1))

    def test_what_is_stated_is_believed(self, desk: Operator) -> None:
        content = lines(FORECASTS, "1,1,1,НЕБОЛЬШОЙ ДОЖДЬ,НЕБОЛЬШОЙ ДОЖДЬ").encode("koi8-r")
        guessed = desk.imported("forecasts", content)
        assert guessed["state"] == "failure"
        assert "state it by encoding" in guessed["error"]

        task_id = desk.upload("forecasts", content, encoding="KOI8-R").json["task_id"]
        runner.run()

        assert desk.task(task_id)["encoding"] == "koi8-r"
        assert desk.client.get("/api/forecasts/1").json["data"]["fcat24"] == "НЕБОЛЬШОЙ ДОЖДЬ"

    @pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
    def test_utf16_may_be_stated_for_a_file_without_a_mark(
        self, desk: Operator, order: str
    ) -> None:
        content = lines(FORECASTS, "12,55.7,37.6,Ясно,Дождь").encode(order)
        task = desk.imported("forecasts", content, encoding="utf-16")
        assert (task["created"], task["encoding"]) == (1, order)

    def test_utf16_that_is_stated_wrongly_fails_in_words(self, desk: Operator) -> None:
        content = lines(FORECASTS, "12,55.7,37.6,Clear,Rain")
        task = desk.imported("forecasts", content, encoding="utf-16")
        assert task["state"] == "failure"
        assert "Missing columns" in task["error"]

    @pytest.mark.parametrize("stated", ["cp1251", "koi8-r", "cp1254", "iso8859-9", "gb18030"])
    def test_what_is_surely_utf8_is_not_read_as_something_older(
        self, desk: Operator, stated: str
    ) -> None:
        content = lines(FORECASTS, "12,55.7,37.6,Ясно,Дождь")
        task = desk.imported("forecasts", content, encoding=stated)
        assert (task["state"], task["created"]) == ("failure", 0)
        assert task["error"] == f"The file is UTF-8, not {stated} as is stated."

    @pytest.mark.parametrize("encoding", ["cp1252", "cp1254", "cp1251", "cp1250"])
    @pytest.mark.parametrize("text", ["7°C", "Sun 7°", "7°-9° C", "7 °C", "Dry – 7°"])
    def test_signs_beside_plain_letters_are_no_letters(self, encoding: str, text: str) -> None:
        content = lines("gid,fcat24", *[f"{at},Sunny" for at in range(40)], f"40,{text}")
        found = encoding_of([content.encode(encoding)], None)
        assert found.is_doubtful or text in content.encode(encoding).decode(found.name)

    def test_a_guess_is_told(self, desk: Operator) -> None:
        content = lines(FORECASTS, *(f"{n},1,1,{t},{t}" for n, t in enumerate(RUSSIAN, 1)))

        task = desk.imported("forecasts", content.encode("cp866"))

        told = desk.client.get(f"/api/forecasts/task_status/?task_id={task['id']}").json
        assert (told["encoding"], told["failed"]) == ("cp866", 0)
        assert "guess" in told["note"]


class TestHowItEnded:
    def test_a_file_of_which_nothing_was_taken_has_failed(self, desk: Operator) -> None:
        content = lines(ADDITIONS, addition("x"), addition("+79032220001", "7"))

        looked_at = desk.upload("additions", content, dry_run=1).json["data"]
        task = desk.imported("additions", content)

        assert task["state"] == "failure"
        assert task["error"].startswith("None of the 2 rows was taken; the first: row 2, msisdn")
        assert looked_at["error"] == task["error"]

    def test_it_is_read_anew_when_it_is_resumed(self, desk: Operator) -> None:
        task = desk.imported("updates", lines("ts,msisdn,lat,lon", f"{NOW},+79032220001,1,1"))
        assert task["state"] == "failure"
        desk.subscriber("+79032220001")
        assert desk.client.post(f"/api/tasks/{task['id']}/resume").status_code == 202
        runner.run()

        again = desk.task(task["id"])
        assert (again["state"], counts(again)) == ("success", (0, 0, 1, 0))
        assert desk.errors(task["id"]) == []

    def test_bad_rows_are_told_with_the_status(self, desk: Operator) -> None:
        task = desk.imported("additions", lines(ADDITIONS, addition("x"), addition("+79032220001")))

        told = desk.client.get(f"/api/subscribers/task_status/?task_id={task['id']}").json

        assert (told["task_status"], told["failed"]) == ("SUCCESS", 1)
        assert told["message"].startswith("1 of 2 rows were not taken")

    def test_two_files_at_once_are_none(self, desk: Operator) -> None:
        content = lines(CANCELLATIONS, f"{NOW},+79032220001").encode()
        form = {
            "file": [(io.BytesIO(content), "one.csv"), (io.BytesIO(content), "two.csv")],
        }

        answer = desk.client.post("/api/subscribers/upload_cancellations_csv/", data=form)

        assert answer.status_code == 400
