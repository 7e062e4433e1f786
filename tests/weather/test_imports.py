"""Files of subscribers: what their rows change, and what is told of those that are bad."""

import csv
import io
import uuid
from typing import Any

import pytest
from flask.testing import FlaskClient

from project.core import clock
from project.core.db.transaction import transaction
from project.extensions import db
from project.weather.imports import jobs, runner
from project.weather.imports.importers import NO_FORECASTS
from project.weather.models import SmsStop, TaskChunk
from tests.conftest import ChangeSettings
from tests.time_machine import Clock
from tests.weather.world import (
    ADDITIONS,
    CANCELLATIONS,
    ISTANBUL,
    MOSCOW,
    NOW,
    UPDATES,
    Operator,
    addition,
    counts,
    everything,
    lines,
)

ONE, TWO, THREE = "+79160000001", "+79160000002", "+79160000003"
SUBSCRIBER_FILES = ("additions", "cancellations", "updates")


class TestAdditions:
    def test_are_taken_with_the_nearest_forecast(self, desk: Operator) -> None:
        desk.forecast(1, MOSCOW)
        desk.forecast(2, ISTANBUL)
        rows = (addition("79160000001"), addition(TWO, "weekly", ISTANBUL), addition(THREE, "2"))

        task = desk.imported("additions", lines(ADDITIONS, *rows))

        assert (task["state"], task["total"], task["done"]) == ("success", 3, 3)
        assert counts(task) == (3, 0, 0, 0)
        assert [(one["msisdn"], one["plan"], one["forecast_gid"]) for one in everything()] == [
            (ONE, "daily", 1),
            (TWO, "weekly", 2),
            (THREE, "weekly", 1),
        ]
        assert desk.shown(ONE)["state"] == "active"

    def test_are_the_same_as_those_of_the_api(self, desk: Operator) -> None:
        desk.forecast(1, MOSCOW)
        desk.imported("additions", lines(ADDITIONS, addition(ONE)))
        desk.subscriber(TWO)

        by_file, by_api = everything()
        assert {name for name in by_file if by_file[name] != by_api[name]} == {
            "msisdn",
            "customer_id",
        }

    def test_of_somebody_who_is_there_are_updates(self, desk: Operator) -> None:
        desk.subscriber(ONE)
        desk.subscriber(TWO)

        rows = (addition(ONE, "weekly"), addition(TWO, "daily"))
        task = desk.imported("additions", lines(ADDITIONS, *rows))

        assert counts(task) == (0, 1, 1, 0)
        assert desk.shown(ONE)["plan"] == "weekly"

    def test_of_somebody_who_left_start_again(self, desk: Operator) -> None:
        desk.subscriber(ONE)
        desk.client.patch(f"/api/subscribers/{ONE}", json={"state": "canceled"})

        task = desk.imported("additions", lines(ADDITIONS, addition(ONE)))

        assert counts(task) == (0, 1, 0, 0)
        assert desk.shown(ONE)["state"] == "active"

    def test_of_a_number_that_said_stop_are_bad_rows(self, desk: Operator) -> None:
        with transaction():
            db.session.add(SmsStop(msisdn=ONE, text="STOP", received_at=clock.now()))

        task = desk.imported("additions", lines(ADDITIONS, addition(ONE), addition(TWO)))

        assert counts(task) == (1, 0, 0, 1)
        assert desk.errors(task["id"]) == [(2, "msisdn", ONE)]
        assert desk.shown(ONE) is None

    def test_with_the_plan_of_a_cancellation_cancel(self, desk: Operator) -> None:
        for number in (ONE, TWO, THREE):
            desk.subscriber(number)
        rows = (addition(ONE, "0"), addition(TWO, "Cancelled"), addition("+79160000009", "0"))

        task = desk.imported("additions", lines(ADDITIONS, *rows))

        assert counts(task) == (0, 2, 0, 1)
        states = [desk.shown(number)["state"] for number in (ONE, TWO, THREE)]
        assert states == ["canceled", "canceled", "active"]

    @pytest.mark.parametrize("place", [",", "NULL,NULL", "\\\\N,\\\\N", "91,999"])
    def test_who_leaves_need_be_nowhere(self, desk: Operator, place: str) -> None:
        desk.subscriber(ONE)
        content = lines(ADDITIONS, f"{NOW},{ONE},0,{place}", addition(TWO))

        task = desk.imported("additions", content)

        assert counts(task) == (1, 1, 0, 0)
        assert desk.shown(ONE)["state"] == "canceled"

    def test_bad_rows_are_recorded_and_stop_nobody(self, desk: Operator) -> None:
        content = lines(
            ADDITIONS,
            addition(ONE),
            f"{NOW},7916abc0000,1,1,1",
            f"{NOW},+7,1,1,1",
            f"{NOW},{TWO},3,1,1",
            f"{NOW},{TWO},,1,1",
            f"{NOW},{TWO},1,91,1",
            f"{NOW},{TWO},1,1,181",
            f"{NOW},{TWO},1,NaN,1",
            f"{NOW},{TWO},1,1,",
            f"31.01.2026,{TWO},1,1,1",
            f"2026-02-30,{TWO},1,1,1",
            f",{TWO},1,1,1",
            f'{NOW},{TWO},1,"155,75","37,61"',
            f"{NOW},{TWO},1,55,75,37,61",
            f"{NOW},{TWO}",
            "",
            addition(THREE),
        )

        # Two stands in many bad rows; they would otherwise be told as doubles.
        content = "".join(
            line.replace(TWO, f"+7916000{100 + at:04}")
            for at, line in enumerate(content.splitlines(True))
        )
        task = desk.imported("additions", content)

        assert task["state"] == "success"
        assert counts(task) == (2, 0, 0, 14)
        assert [(row, column) for row, column, _ in desk.errors(task["id"])] == [
            (3, "msisdn"), (4, "msisdn"), (5, "original_sub_plan"), (6, "original_sub_plan"),
            (7, "lat"), (8, "lon"), (9, "lat"), (10, "lon"), (11, "ts"), (12, "ts"), (13, "ts"),
            (14, "lat"), (15, ""), (16, "original_sub_plan"),
        ]  # fmt: skip
        assert [one["msisdn"] for one in everything()] == [ONE, THREE]

    def test_numbers_that_nobody_gives_out_are_only_noted(self, desk: Operator) -> None:
        task = desk.imported("additions", lines(ADDITIONS, addition("+71110000000")))

        assert counts(task) == (1, 0, 0, 0)
        assert desk.notes(task["id"]) == [2]

    @pytest.mark.parametrize("rows_per_chunk", [1, 2, 100])
    def test_of_the_same_number_the_last_row_is_taken(
        self, desk: Operator, change_settings: ChangeSettings, rows_per_chunk: int
    ) -> None:
        change_settings(import_chunk_rows=rows_per_chunk)
        rows = (
            addition(ONE, "weekly", ISTANBUL),
            addition(TWO),
            addition(ONE.removeprefix("+"), "0"),
            addition(ONE, "weekly", MOSCOW),
            addition(TWO, "weekly"),
        )

        task = desk.imported("additions", lines(ADDITIONS, *rows))

        assert counts(task) == (2, 0, 3, 0)
        assert desk.notes(task["id"]) == [2, 3, 4]
        assert (desk.shown(ONE)["plan"], desk.shown(ONE)["lat"]) == ("weekly", MOSCOW[0])
        assert desk.shown(TWO)["plan"] == "weekly"

    def test_run_twice_they_change_nothing(self, desk: Operator) -> None:
        desk.forecast(1, MOSCOW)
        rows = (addition(ONE), addition(TWO, "2", ISTANBUL), addition(ONE, "2"), addition("x"))
        content = lines(ADDITIONS, *rows)
        desk.imported("additions", content)
        before = everything()

        task = desk.imported("additions", content)

        assert counts(task) == (0, 0, 3, 1)
        assert everything() == before


class TestCancellations:
    def test_cancel(self, desk: Operator) -> None:
        desk.subscriber(ONE)
        desk.subscriber(TWO)

        task = desk.imported("cancellations", lines(CANCELLATIONS, f"{NOW},{ONE}"))

        assert counts(task) == (0, 1, 0, 0)
        assert desk.shown(ONE)["state"] == "canceled"
        assert desk.shown(TWO)["state"] == "active"

    def test_of_an_unknown_number_are_bad_rows(self, desk: Operator) -> None:
        desk.subscriber(ONE)
        content = lines(CANCELLATIONS, f"{NOW},{TWO}", f"{NOW},{ONE}", f"today,{THREE}")

        task = desk.imported("cancellations", content)

        assert counts(task) == (0, 1, 0, 2)
        assert desk.errors(task["id"]) == [(2, "msisdn", TWO), (4, "ts", "today")]

    def test_run_twice_they_change_nothing(self, desk: Operator) -> None:
        desk.subscriber(ONE)
        content = lines(CANCELLATIONS, f"{NOW},{ONE}")
        desk.imported("cancellations", content)
        before = everything()

        assert counts(desk.imported("cancellations", content)) == (0, 0, 1, 0)
        assert everything() == before


class TestUpdates:
    def test_move_subscribers_to_the_forecast_of_their_new_place(self, desk: Operator) -> None:
        desk.forecast(1, MOSCOW)
        desk.forecast(2, ISTANBUL)
        desk.subscriber(ONE)
        row = f"{NOW},{ONE},{ISTANBUL[0]},{ISTANBUL[1]}"

        task = desk.imported("updates", lines(UPDATES, row, f"{NOW},{TWO},1,1"))

        assert counts(task) == (0, 1, 0, 1)
        assert desk.errors(task["id"]) == [(3, "msisdn", TWO)]
        moved = desk.shown(ONE)
        assert moved["forecast"] == {"gid": 2, "distance_km": 0}
        assert (moved["zone"], moved["plan"]) == ("Europe/Istanbul", "daily")
        assert counts(desk.imported("updates", lines(UPDATES, row))) == (0, 0, 1, 0)

    def test_leave_who_left_where_it_is_not_billed(self, desk: Operator) -> None:
        desk.subscriber(ONE)
        desk.client.patch(f"/api/subscribers/{ONE}", json={"state": "canceled"})

        desk.imported("updates", lines(UPDATES, f"{NOW},{ONE},1,1"))

        assert (desk.shown(ONE)["state"], desk.shown(ONE)["lat"]) == ("canceled", 1)
        assert desk.shown(ONE)["canceled_at"] is not None


class TestHowFilesAreWritten:
    @pytest.mark.parametrize(
        "encoding",
        ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1251", "cp1254"],
    )
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("line_end", ["\n", "\r\n"])
    def test_any_usual_way_is_read(
        self, desk: Operator, encoding: str, delimiter: str, line_end: str
    ) -> None:
        text = (
            "Переменная облачность, днём дождь" if encoding != "cp1254" else "Güneşli, öğle yağışlı"
        )
        rows = [["gid", "lat", "lon", "fcat24", "fcat48"]]
        rows += [[str(gid), "55.5", "37.5", text, text] for gid in range(1, 40)]
        written = io.StringIO()
        csv.writer(written, delimiter=delimiter, lineterminator=line_end).writerows(rows)

        task = desk.imported("forecasts", written.getvalue().encode(encoding))

        assert counts(task) == (39, 0, 0, 0), task
        assert task["delimiter"] == delimiter
        shown = desk.client.get("/api/forecasts/39").json["data"]
        assert shown["fcat24"] == shown["fcat48"] == text

    def test_letters_that_come_late_decide_the_encoding_too(self, desk: Operator) -> None:
        plain = [f"{gid},1,1,{'x' * 150},{'y' * 150}" for gid in range(1, 2000)]
        late = [f"{gid},1,1,Переменная облачность,дождь и снег" for gid in range(2000, 2050)]

        content = lines("gid,lat,lon,fcat24,fcat48", *plain, *late).encode("cp1251")
        task = desk.imported("forecasts", content)

        assert counts(task) == (2049, 0, 0, 0)
        assert task["encoding"] == "cp1251"
        shown = desk.client.get("/api/forecasts/2049").json["data"]
        assert shown["fcat24"] == "Переменная облачность"

    def test_columns_are_found_by_name_in_any_order_and_case(self, desk: Operator) -> None:
        content = lines(
            "Comment;LON; Lat ;Original_Sub_Plan;MSISDN;TS",
            f'"a;b";{MOSCOW[1]};{MOSCOW[0]};DAILY; {ONE} ;1769846400',
        )

        task = desk.imported("additions", content)

        assert counts(task) == (1, 0, 0, 0)
        assert desk.shown(ONE)["lat"] == MOSCOW[0]

    @pytest.mark.parametrize(
        "moment",
        ["2026-01-31", "2026-01-31 08:00", "2026-01-31T08:00:00.5+03:00",
         "2026-01-31 08:00:00 +0300",
         "1769846400", "1769846400000", "1769846400.25"],
    )  # fmt: skip
    def test_times_come_in_the_usual_forms(self, desk: Operator, moment: str) -> None:
        desk.imported("additions", lines(ADDITIONS, f"2026-01-30,{ONE},1,1,1"))

        task = desk.imported("cancellations", lines(CANCELLATIONS, f"{moment},{ONE}"))

        assert counts(task) == (0, 1, 0, 0)

    def test_a_body_of_csv_is_a_file_too(self, desk: Operator) -> None:
        content = lines(ADDITIONS, addition(ONE))
        path = "/subscriptions/api/v1/subscriptions/upload_additions_csv/"
        answer = desk.client.post(path, data=content, content_type="text/csv; charset=utf-8")
        assert answer.status_code == 202
        runner.run()

        assert desk.shown(ONE)["state"] == "active"


class TestFilesThatCannotBeRead:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"   \n \n", "empty"),
            (b"\xef\xbb\xbf", "Missing columns"),
            (
                f"2026-01-05T10:00:00Z,{ONE},1,55,37\n".encode(),
                "Missing columns: ts, msisdn, original_sub_plan",
            ),
            (b"ts,msisdn,lat,lon\n1,2,3,4\n", "Missing columns: original_sub_plan. The file has"),
            (b"ts,msisdn,msisdn,original_sub_plan,lat,lon\n", "twice: msisdn"),
            (bytes(range(256)) * 10, "no text"),
            (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(200), "no text"),
            (b"PK\x03\x04" + bytes(200), "no text"),
            (b"a\x01b,c\n", "no text"),
            (lines(ADDITIONS, '"' + "x" * 200_000).encode(), "row 2: A value is longer than"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_fail_and_say_why(self, desk: Operator, content: bytes, reason: str) -> None:
        task = desk.imported("additions", content)

        assert task["state"] == "failure"
        assert reason in task["error"]
        assert everything() == []

    def test_a_header_alone_is_a_file_without_rows(self, desk: Operator) -> None:
        task = desk.imported("additions", ADDITIONS)

        assert (task["state"], task["total"]) == ("success", 0)

    @pytest.mark.parametrize("what", ["forecasts", *SUBSCRIBER_FILES])
    def test_an_empty_file_is_refused_at_once(self, desk: Operator, what: str) -> None:
        answer = desk.upload(what, b"")

        assert answer.status_code == 400
        assert answer.json["errors"] == {"file": ["Empty."]}

    def test_no_file_is_refused(self, operator: FlaskClient) -> None:
        path = "/api/subscribers/upload_additions_csv/"
        assert operator.post(path).status_code == 400
        assert operator.post(path, data={"name": "x"}).status_code == 415
        form = operator.post(path, data={"x": "y"}, content_type="multipart/form-data")
        assert form.status_code == 400
        assert operator.post(path, json={"file": "x"}).status_code == 415

    @pytest.mark.parametrize("as_form", [True, False])
    def test_one_that_is_too_large_is_413(
        self, desk: Operator, change_settings: ChangeSettings, as_form: bool
    ) -> None:
        change_settings(import_max_bytes=300_000)
        path = "/api/subscribers/upload_additions_csv/"

        def answer(size: int) -> int:
            content = lines(ADDITIONS, *["x" * 99] * (size // 100)).encode()[:size]
            if as_form:
                return int(desk.upload("additions", content).status_code)
            return int(desk.client.post(path, data=content, content_type="text/csv").status_code)

        assert answer(300_001) == 413
        assert answer(10_000_000) == 413
        assert answer(299_999) == 202

    def test_more_than_the_usual_body_is_taken(self, desk: Operator) -> None:
        content = lines(CANCELLATIONS, *[f"{NOW},bad number that is long {'x' * 100}"] * 20_000)
        assert len(content) > 2 * 1024**2

        assert desk.upload("cancellations", content).status_code == 202
        with transaction(read_only=True):
            assert db.session.scalar(db.select(db.func.count()).select_from(TaskChunk)) == 3

    @pytest.mark.parametrize("kind", ["numbers", "plans"])
    def test_one_with_too_many_bad_rows_fails(
        self, desk: Operator, change_settings: ChangeSettings, kind: str
    ) -> None:
        change_settings(import_max_errors=10, import_chunk_rows=4)
        bad = [f"+7917{at:07}" if kind == "plans" else f"x{at}" for at in range(11)]
        rows = [addition(number, "9") for number in bad]

        task = desk.imported("additions", lines(ADDITIONS, addition(ONE), *rows, addition(TWO)))

        assert task["state"] == "failure"
        assert task["error"].startswith("More than 10 rows")
        assert desk.shown(TWO) is None


class TestWithoutForecasts:
    @pytest.mark.parametrize("what", ["additions", "updates"])
    def test_a_file_says_once_that_there_are_none_yet(self, desk: Operator, what: str) -> None:
        header = ADDITIONS if what == "additions" else UPDATES
        plan = "1," if what == "additions" else ""
        desk.subscriber(ONE)
        desk.subscriber(TWO)
        content = lines(header, *(f"{NOW},{number},{plan}59.9,30.3" for number in (ONE, TWO)))

        found = desk.upload(what, content, dry_run=1).json["data"]
        task = desk.imported(what, content)

        assert found["note"] == task["note"] == NO_FORECASTS
        assert (counts(task), desk.notes(task["id"])) == ((0, 2, 0, 0), [])
        desk.forecast(1, (59.9, 30.3))
        assert desk.imported(what, content)["note"] is None

    def test_those_that_say_nothing_of_a_place_do_not_mind(self, desk: Operator) -> None:
        assert desk.imported("cancellations", lines(CANCELLATIONS, f"{NOW},{ONE}"))["note"] is None


class TestTaskStatus:
    PATHS = (
        "/api/forecasts/task_status/",
        "/api/subscribers/task_status/",
        "/forecasts/api/v1/forecasts/task_status",
        "/subscription/api/v1/subscription/task_status/",
    )

    @pytest.mark.parametrize("path", PATHS)
    def test_is_told_by_query_and_by_body_by_get_and_by_post(
        self, desk: Operator, path: str
    ) -> None:
        task_id = desk.upload("cancellations", lines(CANCELLATIONS, "x,y")).json["task_id"]

        answers = [
            desk.client.get(f"{path}?task_id={task_id}"),
            desk.client.get(path, json={"task_id": task_id}),
            desk.client.post(path, json={"task_id": task_id}),
            desk.client.post(f"{path}?task_id={task_id}"),
            desk.client.post(path, data={"task_id": task_id}),
        ]

        assert {answer.status_code for answer in answers} == {200}
        for answer in answers:
            assert (answer.json["task_status"], answer.json["task_id"]) == ("PENDING", task_id)

    def test_tells_how_it_ended(self, desk: Operator) -> None:
        desk.subscriber(ONE)
        content = lines(CANCELLATIONS, "x,y", f"{NOW},{ONE}")
        task_id = desk.imported("cancellations", content)["id"]

        told = desk.client.get(f"/api/subscribers/task_status/?task_id={task_id}").json

        assert told["status"] == "success"
        assert told["task_status"] == "SUCCESS"
        assert (told["total"], told["done"], told["failed"]) == (2, 2, 1)
        assert told["started_at"] <= told["finished_at"]

    def test_is_expired_for_an_unknown_and_for_an_old_task(
        self, desk: Operator, clock: Clock
    ) -> None:
        task_id = desk.imported("cancellations", lines(CANCELLATIONS, "x,y"))["id"]

        def told(asked: Any) -> Any:
            return desk.client.get(f"/api/subscribers/task_status/?task_id={asked}").json

        assert told(uuid.uuid4())["task_status"] == "EXPIRED"
        assert told(task_id)["task_status"] == "FAILURE"
        clock.advance(days=8)
        assert told(task_id) == {"status": "success", "task_status": "EXPIRED", "task_id": task_id}

    @pytest.mark.parametrize("other", ["7", "no-uuid", "celery-task-meta-12", "ё"])
    def test_is_expired_for_an_id_that_no_task_here_can_have(
        self, operator: FlaskClient, other: str
    ) -> None:
        for answer in (
            operator.get("/api/subscribers/task_status/", query_string={"task_id": other}),
            operator.post("/api/subscribers/task_status/", json={"task_id": other}),
        ):
            assert answer.json == {"status": "success", "task_status": "EXPIRED", "task_id": other}

    @pytest.mark.parametrize("wrong", ["", "x" * 300, "%00"])
    def test_of_what_is_no_id_is_bad_input(self, operator: FlaskClient, wrong: str) -> None:
        answer = operator.get(f"/api/subscribers/task_status/?task_id={wrong}")

        assert answer.status_code == 400
        assert set(answer.json["errors"]) == {"task_id"}

    def test_without_an_id_is_bad_input(self, operator: FlaskClient) -> None:
        for answer in (
            operator.get("/api/subscribers/task_status/"),
            operator.post("/api/subscribers/task_status/", json={"task_id": 7}),
            operator.post("/api/subscribers/task_status/", json={}),
        ):
            assert answer.status_code == 400
            assert set(answer.json["errors"]) == {"task_id"}


class TestTasks:
    def test_are_listed_by_kind_and_state(self, desk: Operator) -> None:
        desk.imported("cancellations", lines(CANCELLATIONS, "x,y"))
        desk.upload("additions", lines(ADDITIONS, addition(ONE)))

        def kinds(query: str) -> list[str]:
            return [one["kind"] for one in desk.client.get(f"/api/tasks{query}").json["data"]]

        assert kinds("") == ["additions", "cancellations"]
        assert kinds("?state=pending") == ["additions"]
        assert kinds("?kind=cancellations") == ["cancellations"]
        assert desk.client.get("/api/tasks?state=lost").status_code == 400
        assert desk.client.get(f"/api/tasks/{uuid.uuid4()}").status_code == 404
        assert desk.client.get("/api/tasks/7").status_code == 404

    def test_tell_their_bad_rows_so_that_spreadsheets_run_no_formula(self, desk: Operator) -> None:
        evil = ["=1+2", "+1", "-1", "@SUM(A1)", "\t=1", 'x,"y', "ä" * 300]
        written = io.StringIO()
        csv.writer(written).writerows([["ts", "msisdn"], *([NOW, value] for value in evil)])
        task = desk.imported("cancellations", written.getvalue())

        answer = desk.client.get(f"/api/tasks/{task['id']}/errors.csv")

        assert answer.mimetype == "text/csv"
        assert "attachment" in answer.headers["Content-Disposition"]
        rows = list(csv.DictReader(io.StringIO(answer.data.decode("utf-8-sig"))))
        assert [row["row"] for row in rows] == ["2", "3", "4", "5", "6", "7", "8"]
        assert {row["kind"] for row in rows} == {"error"}
        assert [row["value"] for row in rows[:4]] == ["'=1+2", "'+1", "'-1", "'@SUM(A1)"]
        assert not any(row["value"].startswith(("=", "+", "-", "@", "\t")) for row in rows)
        assert rows[5]["value"] == 'x,"y'
        assert len(rows[6]["value"]) == 100
        assert desk.client.get(f"/api/tasks/{uuid.uuid4()}/errors.csv").status_code == 404

    def test_many_bad_rows_are_all_told(self, desk: Operator) -> None:
        content = lines(CANCELLATIONS, *(f"{NOW},x{at}" for at in range(12_000)))
        task = desk.imported("cancellations", content)

        answer = desk.client.get(f"/api/tasks/{task['id']}/errors.csv")

        rows = list(csv.DictReader(io.StringIO(answer.data.decode("utf-8-sig"))))
        assert [row["value"] for row in rows] == [f"x{at}" for at in range(12_000)]

    def test_a_canceled_one_stops_and_goes_on_when_resumed(self, desk: Operator) -> None:
        answer = desk.upload("additions", lines(ADDITIONS, addition(ONE)))
        path = f"/api/tasks/{answer.json['task_id']}"
        canceled = desk.client.post(f"{path}/cancel")
        assert canceled.json["data"]["state"] == "canceled"
        runner.run()
        assert desk.shown(ONE) is None
        told = desk.client.get(f"/api/subscribers/task_status/?task_id={answer.json['task_id']}")
        assert told.json["task_status"] == "FAILURE"
        assert desk.client.post(f"{path}/cancel").status_code == 409

        assert desk.client.post(f"{path}/resume").status_code == 202
        runner.run()

        assert desk.task(answer.json["task_id"])["state"] == "success"
        assert desk.shown(ONE)["state"] == "active"
        assert desk.client.post(f"{path}/resume").status_code == 409
        assert desk.client.post(f"/api/tasks/{uuid.uuid4()}/resume").status_code == 404

    def test_files_are_dropped_some_days_after_their_end(
        self, desk: Operator, clock: Clock
    ) -> None:
        bad = desk.imported("additions", "nothing")
        desk.upload("additions", lines(ADDITIONS, addition(ONE)))
        clock.advance(days=4)

        assert jobs.drop_old_files() == 1

        with transaction(read_only=True):
            kept = db.session.scalars(db.select(TaskChunk.task_id)).all()
        assert len(kept) == 1
        assert str(kept[0]) != bad["id"]
        assert desk.client.post(f"/api/tasks/{bad['id']}/resume").status_code == 409
        assert jobs.drop_old_files() == 0


class TestDryRun:
    def test_tells_what_would_happen_and_writes_nothing(self, desk: Operator) -> None:
        desk.forecast(1, MOSCOW)
        desk.subscriber(ONE)
        desk.subscriber(TWO)
        runner.run()
        before, tasks = everything(), desk.client.get("/api/tasks").json["pagination"]["total"]
        rows = (
            addition(ONE), addition(TWO, "weekly"), addition(THREE), addition(THREE, "2"),
            addition("x", "1"), addition("+79160000009", "7"),
        )  # fmt: skip

        answer = desk.upload("additions", lines(ADDITIONS, *rows), dry_run=1)

        assert answer.status_code == 200
        found = answer.json["data"]
        assert (found["created"], found["updated"], found["skipped"], found["failed"]) == (
            1,
            1,
            2,
            2,
        )
        assert (found["total"], found["doubles"]) == (6, 1)
        assert (found["error"], found["missing_columns"]) == (None, [])
        assert [(one["row"], one["column"]) for one in found["bad_rows"]] == [
            (6, "msisdn"),
            (7, "original_sub_plan"),
        ]
        assert everything() == before
        assert desk.client.get("/api/tasks").json["pagination"]["total"] == tasks

    def test_is_what_happens_then(self, desk: Operator, change_settings: ChangeSettings) -> None:
        change_settings(import_chunk_rows=3)
        desk.subscriber(ONE)
        rows = [addition(f"+7916{at % 9:07}", "12x"[at % 3]) for at in range(20)]
        content = lines(ADDITIONS, *rows)

        found = desk.upload("additions", content, dry_run="true").json["data"]
        task = desk.imported("additions", content)

        assert counts(task) == counts(found)

    def test_names_missing_columns(self, desk: Operator) -> None:
        found = desk.upload("updates", "ts,msisdn\n", dry_run=1).json["data"]

        assert found["missing_columns"] == ["lat", "lon"]
        assert "Missing columns: lat, lon" in found["error"]

    def test_shows_the_first_twenty_bad_rows(self, desk: Operator) -> None:
        content = lines(CANCELLATIONS, *(f"{NOW},x{at}" for at in range(50)))

        found = desk.upload("cancellations", content, dry_run=1).json["data"]

        assert found["failed"] == 50
        assert [one["row"] for one in found["bad_rows"]] == list(range(2, 22))


def test_uploads_need_a_key_that_may_write(client: FlaskClient) -> None:
    for what in SUBSCRIBER_FILES:
        answer = client.post(f"/api/subscribers/upload_{what}_csv/", data=b"x")
        assert answer.status_code == 401
