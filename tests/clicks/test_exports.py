"""Handing a day's clicks to finance: once it is well, whole, in one request."""

import hashlib
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from project.clicks.exports.jobs import send_due_exports
from project.core.db.transaction import transaction
from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.clicks.finance import (
    DAY,
    FORWARD,
    MORNING,
    NOON,
    arrived,
    asked,
    body_of,
    forward,
    read,
    status,
)
from tests.clicks.records import Clicks
from tests.conftest import ChangeSettings

pytestmark = pytest.mark.usefixtures("noon")


class TestForward:
    def test_the_day_arrives_whole_in_the_order_of_its_clicks(
        self, operator: FlaskClient, simulator: SimulatorClient, clicks: Clicks
    ) -> None:
        late = clicks.clicked(MORNING + timedelta(hours=5), offer_id=2, source="ads")
        tie_b = clicks.clicked(MORNING, click_id="b")
        tie_a = clicks.clicked(MORNING, click_id="a", signature=None)
        first = clicks.clicked(datetime(2027, 3, 9, 0, 0, 0, tzinfo=UTC))
        last = clicks.clicked(datetime(2027, 3, 9, 23, 59, 59, 999_999, tzinfo=UTC))
        clicks.clicked(datetime(2027, 3, 8, 23, 59, 59, 999_999, tzinfo=UTC))
        clicks.clicked(datetime(2027, 3, 10, 0, 0, 0, tzinfo=UTC))

        told = forward(operator)
        assert told.keys() == {"status", "message", "date", "export_id"}
        assert (told["status"], told["date"]) == ("success", "2027-03-09")
        assert send_due_exports() == 1

        sent = read(body_of(simulator))
        assert list(sent) == ["date", "total_clicks", "clicks"]
        assert (sent["date"], sent["total_clicks"]) == ("2027-03-09", 5)
        assert sent["clicks"] == [first, tie_a, tie_b, late, last]
        fields = ["click_id", "offer_id", "source", "timestamp", "signature"]
        assert [list(click) for click in sent["clicks"]] == [fields] * 5

    def test_what_arrived_is_on_record(
        self, operator: FlaskClient, simulator: SimulatorClient, clicks: Clicks
    ) -> None:
        clicks.clicked(MORNING)
        export_id = forward(operator)["export_id"]
        send_due_exports()

        [arrival] = arrived(simulator)
        assert arrival["key"] == f"click-export-{export_id}-{arrival['sha256'][:16]}"
        assert arrival["authorization"] is None
        assert arrival["sha256"] == hashlib.sha256(body_of(simulator)).hexdigest()
        told = status(operator)
        assert datetime.fromisoformat(told.pop("finished_at")) >= NOON
        assert told == {
            "date": "2027-03-09",
            "finance_service_available": True,
            "export_ready": True,
            "state": "succeeded",
            "clicks_sent": 1,
            "attempts": 1,
            "last_error": None,
            "checksum": arrival["sha256"],
            "changed_since_export": False,
        }

    def test_a_day_without_clicks_is_sent_too(
        self, operator: FlaskClient, simulator: SimulatorClient
    ) -> None:
        forward(operator)
        send_due_exports()

        assert read(body_of(simulator)) == {"date": "2027-03-09", "total_clicks": 0, "clicks": []}
        assert status(operator)["clicks_sent"] == 0

    def test_a_token_is_sent_along(
        self,
        operator: FlaskClient,
        simulator: SimulatorClient,
        change_settings: ChangeSettings,
    ) -> None:
        change_settings(finance_service_token="finance-knows-this")
        forward(operator)
        send_due_exports()

        assert arrived(simulator)[0]["authorization"] == "Bearer finance-knows-this"

    def test_the_present_day_may_be_sent_and_has_then_changed(
        self, operator: FlaskClient, clicks: Clicks
    ) -> None:
        clicks.clicked(NOON - timedelta(hours=1))
        forward(operator, NOON.date())
        send_due_exports()
        told = status(operator, NOON.date())
        assert (told["state"], told["export_ready"]) == ("succeeded", False)
        assert told["changed_since_export"] is False

        clicks.clicked(NOON)
        assert status(operator, NOON.date())["changed_since_export"] is True

    @pytest.mark.parametrize("day", ["2027-03-11", "9999-12-31"])
    def test_a_future_day_is_refused_and_finance_not_asked(
        self, operator: FlaskClient, simulator: SimulatorClient, day: str
    ) -> None:
        assert_problem(operator.post(FORWARD, json={"date": day}), 400, "date")
        assert asked(simulator)["health"] == 0

    @pytest.mark.parametrize(
        "body", [{}, {"date": None}, {"date": "yesterday"}, {"date": 5}, {"date": "2027-02-30"}]
    )
    def test_a_day_that_is_none(self, operator: FlaskClient, body: dict[str, Any]) -> None:
        assert_problem(operator.post(FORWARD, json=body), 400, "date")

    @pytest.mark.parametrize(
        "fault", [{"status": 500}, {"status": 301}, {"drop": "before"}, {"delay_seconds": 20}]
    )
    def test_finance_that_is_not_well_gets_nothing(
        self,
        operator: FlaskClient,
        simulator: SimulatorClient,
        monkeypatch: pytest.MonkeyPatch,
        fault: dict[str, Any],
    ) -> None:
        monkeypatch.setattr("project.clicks.exports.finance.HEALTH_DEADLINE_SECONDS", 0.3)
        simulator.add_fault("/finance/health", **fault)

        answer = operator.post(FORWARD, json={"date": str(DAY)})

        assert_problem(answer, 503)
        assert answer.headers["Retry-After"] == "60"
        assert send_due_exports() == 0
        told = status(operator)
        assert (told["state"], told["finance_service_available"]) == (None, False)

    def test_the_same_day_while_it_is_pending_is_the_same_export(
        self, operator: FlaskClient, simulator: SimulatorClient
    ) -> None:
        first = forward(operator)
        again = forward(operator, status=200)
        other = forward(operator, DAY - timedelta(days=1))
        assert first["export_id"] == again["export_id"] != other["export_id"]

        assert send_due_exports() == 2
        assert sorted(one["date"] for one in arrived(simulator)) == ["2027-03-08", "2027-03-09"]
        assert forward(operator)["export_id"] not in (first["export_id"], other["export_id"])

    def test_asking_at_once_makes_one_export(
        self, app: Flask, operator: FlaskClient, simulator: SimulatorClient
    ) -> None:
        told: list[int] = []
        barrier = threading.Barrier(4)

        def ask() -> None:
            barrier.wait()
            answer = operator.application.test_client().post(
                FORWARD,
                json={"date": str(DAY)},
                headers={"Authorization": operator.environ_base["HTTP_AUTHORIZATION"]},
            )
            told.append(answer.get_json()["export_id"])

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(told) == 4
        assert len(set(told)) == 1

    def test_an_idempotency_key_is_honoured(self, operator: FlaskClient) -> None:
        headers = {"Idempotency-Key": "months-end"}
        first = operator.post(FORWARD, json={"date": str(DAY)}, headers=headers)
        send_due_exports()
        again = operator.post(FORWARD, json={"date": str(DAY)}, headers=headers)

        assert (first.status_code, again.status_code) == (202, 202)
        assert first.get_json() == again.get_json()
        assert send_due_exports() == 0

    def test_a_read_key_may_not_forward(self, app: Flask, operator: FlaskClient) -> None:
        made = app.test_cli_runner().invoke(args=["api-key", "create", "reader", "--scope", "read"])
        headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
        client = app.test_client()

        answer = client.post(FORWARD, json={"date": str(DAY)}, headers=headers)
        assert_problem(answer, 403)
        assert client.get(f"/api/export/status?date={DAY}", headers=headers).status_code == 200
        assert client.get(f"/api/exports/{DAY}.json", headers=headers).status_code == 200


class TestStatus:
    def test_a_day_that_was_never_exported_has_no_state(self, operator: FlaskClient) -> None:
        told = status(operator)
        assert told == {
            "date": "2027-03-09",
            "finance_service_available": True,
            "export_ready": True,
            **dict.fromkeys(("state", "clicks_sent", "attempts", "last_error", "finished_at")),
            "checksum": None,
            "changed_since_export": None,
        }

    @pytest.mark.parametrize(
        ("day", "is_ready"),
        [(DAY, True), (NOON.date(), False), ("2027-03-11", False), ("9999-12-31", False)],
    )
    def test_a_day_is_ready_when_it_is_over(
        self, operator: FlaskClient, day: object, is_ready: bool
    ) -> None:
        assert status(operator, day)["export_ready"] is is_ready

    @pytest.mark.parametrize(("age", "is_ready"), [("59 s", True), ("61 s", False)])
    def test_a_day_is_not_ready_while_counting_is_behind(
        self, operator: FlaskClient, age: str, is_ready: bool
    ) -> None:
        with transaction() as session:
            session.execute(
                text(
                    "INSERT INTO click_inbox (click_ids, offer_ids, sources, clicked_at,"
                    " signatures, size, received_at) VALUES ('{a}', '{1}', '{mail}',"
                    " ARRAY[now()], '{s}', 1, now() - CAST(:age AS interval))"
                ),
                {"age": age},
            )
        assert status(operator)["export_ready"] is is_ready

    def test_a_late_click_shows_until_the_day_is_sent_again(
        self, operator: FlaskClient, simulator: SimulatorClient, clicks: Clicks
    ) -> None:
        clicks.clicked(MORNING)
        forward(operator)
        send_due_exports()
        clicks.clicked(MORNING)
        told = status(operator)
        assert (told["clicks_sent"], told["changed_since_export"]) == (1, True)

        forward(operator)
        pending = status(operator)
        assert (pending["state"], pending["changed_since_export"]) == ("pending", True)
        send_due_exports()
        told = status(operator)
        assert (told["clicks_sent"], told["changed_since_export"]) == (2, False)
        assert [one["total_clicks"] for one in arrived(simulator)] == [1, 2]

    @pytest.mark.parametrize("query", ["", "?date=", "?date=x", "?date=2027-03-09&day=1"])
    def test_a_status_that_cannot_be_told(self, operator: FlaskClient, query: str) -> None:
        assert_problem(operator.get(f"/api/export/status{query}"), 400)


class TestPull:
    def test_it_is_what_is_sent_byte_for_byte(
        self, operator: FlaskClient, simulator: SimulatorClient, clicks: Clicks
    ) -> None:
        for hour in range(5):
            clicks.clicked(MORNING + timedelta(hours=hour), source='a "quoted" \N{SNOWMAN} source')
        forward(operator)
        send_due_exports()

        answer = operator.get(f"/api/exports/{DAY}.json")
        assert answer.mimetype == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.get_data() == body_of(simulator)
        assert hashlib.sha256(answer.get_data()).hexdigest() == status(operator)["checksum"]

    @pytest.mark.parametrize(
        "day",
        ["2027-03-11", "9999-12-31", "yesterday", "2027-02-30", "20270309", "2027-W10-1", "1"],
    )
    def test_there_is_no_other_day(self, operator: FlaskClient, day: str) -> None:
        assert_problem(operator.get(f"/api/exports/{day}.json"), 404)

    def test_it_is_for_operators(self, client: FlaskClient) -> None:
        assert_problem(client.get(f"/api/exports/{DAY}.json"), 401)

    def test_more_than_a_batch_comes_in_pieces_of_one_moment(
        self, operator: FlaskClient, clicks: Clicks
    ) -> None:
        clicks.many(DAY, 5000)
        answer = operator.get(f"/api/exports/{DAY}.json", buffered=False)
        pieces = iter(answer.response)
        first = next(pieces)
        clicks.clicked(MORNING + timedelta(hours=10))
        rest = list(pieces)
        answer.close()

        assert len(rest) >= 3
        day = read(first + b"".join(rest))
        assert day["total_clicks"] == len(day["clicks"]) == 5000
