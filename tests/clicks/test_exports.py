"""Handing a day's clicks to finance: once it is well, in one request, until it has arrived."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from project.clicks.exports import document, queries
from project.clicks.exports.jobs import send_due_exports
from project.clicks.exports.sending import DaySending
from project.clicks.exports.service import Failed
from project.core import health, pump
from project.core.queues import rq_queue
from project.core.transaction import transaction
from project.extensions import db
from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.clicks.records import Clicks
from tests.conftest import ChangeSettings
from tests.processes import free_port
from tests.time_machine import Clock

NOON = datetime(2027, 3, 10, 12, tzinfo=UTC)
DAY = date(2027, 3, 9)
MORNING = datetime(2027, 3, 9, 6, tzinfo=UTC)
FORWARD = "/api/export/forward"
MANY = 200_000
MORE_MEMORY_BYTES = 32 * 1024 * 1024

pytestmark = pytest.mark.usefixtures("noon")


@pytest.fixture
def noon(clock: Clock, simulator: SimulatorClient) -> None:
    """It is noon on the day after the one that is exported."""
    clock.set_to(NOON)


def forward(operator: FlaskClient, day: object = DAY, status: int = 202) -> dict[str, Any]:
    answer = operator.post(FORWARD, json={"date": str(day)})
    assert answer.status_code == status, answer.get_json()
    told: dict[str, Any] = answer.get_json()
    return told


def status(operator: FlaskClient, day: object = DAY) -> dict[str, Any]:
    answer = operator.get(f"/api/export/status?date={day}")
    assert answer.status_code == 200, answer.get_json()
    told: dict[str, Any] = answer.get_json()["data"]
    return told


def arrived(simulator: SimulatorClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = simulator.control("GET", "/finance")["exports"]
    return found


def asked(simulator: SimulatorClient) -> Mapping[str, int]:
    found: dict[str, int] = simulator.control("GET", "/finance")["requests"]
    return found


def body_of(simulator: SimulatorClient, day: object = DAY) -> bytes:
    return simulator.call("GET", f"/control/finance/{day}").body


def read(body: bytes) -> dict[str, Any]:
    day: dict[str, Any] = json.loads(body)
    for click in day["clicks"]:
        click["timestamp"] = datetime.fromisoformat(click["timestamp"])
    return day


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


class TestRetries:
    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            ({"status": 400}, "answered 400"),
            ({"status": 302}, "answered 302"),
            ({"status": 500}, "answered 500"),
            ({"drop": "before"}, "closed"),
            ({"drop": "after"}, "closed"),
            # The status keeps the simulator from taking the day after all, in another test.
            ({"delay_seconds": 20, "status": 500}, "no answer within"),
        ],
    )
    def test_it_is_tried_again_after_pauses_that_double(
        self,
        operator: FlaskClient,
        simulator: SimulatorClient,
        clicks: Clicks,
        clock: Clock,
        change_settings: ChangeSettings,
        fault: dict[str, Any],
        error: str,
    ) -> None:
        clicks.clicked(MORNING)
        fault_id = simulator.add_fault("/finance/clicks", **fault)
        change_settings(finance_service_timeout_seconds=1.0)
        forward(operator)
        for attempt, pause in ((1, 60), (2, 120), (3, 240)):
            assert send_due_exports() == 1
            told = status(operator)
            assert (told["state"], told["attempts"]) == ("pending", attempt)
            assert error in told["last_error"]
            assert told["finished_at"] is None
            clock.advance(seconds=pause - 5)
            assert send_due_exports() == 0
            clock.advance(seconds=5)

        simulator.control("DELETE", f"/faults/{fault_id}")
        assert send_due_exports() == 1
        told = status(operator)
        assert (told["state"], told["attempts"], told["last_error"]) == ("succeeded", 4, None)
        [arrival] = arrived(simulator)
        assert arrival["times"] == (4 if fault.get("drop") == "after" else 1), (
            "tries have one key, so finance books the day once"
        )

    def test_a_day_that_changed_before_it_was_sent_again_is_not_taken_for_the_former_one(
        self, operator: FlaskClient, simulator: SimulatorClient, clicks: Clicks, clock: Clock
    ) -> None:
        clicks.clicked(MORNING)
        simulator.add_fault("/finance/clicks", drop="after", times=1)
        forward(operator)
        send_due_exports()
        clicks.clicked(MORNING)
        clock.advance(minutes=1)
        send_due_exports()

        former, last = arrived(simulator)
        assert former["key"] != last["key"]
        told = status(operator)
        assert (told["clicks_sent"], told["checksum"]) == (2, last["sha256"])
        assert told["changed_since_export"] is False

    def test_after_the_last_try_it_has_failed_and_can_be_asked_for_again(
        self,
        operator: FlaskClient,
        simulator: SimulatorClient,
        clock: Clock,
        change_settings: ChangeSettings,
    ) -> None:
        change_settings(export_max_attempts=2)
        simulator.add_fault("/finance/clicks", status=500, times=2)
        failed = forward(operator)["export_id"]
        send_due_exports()
        clock.advance(minutes=1)
        send_due_exports()
        told = status(operator)
        assert (told["state"], told["attempts"]) == ("failed", 2)
        assert told["finished_at"] is not None
        clock.advance(days=1)
        assert send_due_exports() == 0

        assert forward(operator)["export_id"] != failed
        send_due_exports()
        assert status(operator)["state"] == "succeeded"

    @pytest.mark.parametrize(
        ("asked_for", "seconds"), [("1800", 1800), ("5", 60), ("tomorrow", 60), ("999999", 86_400)]
    )
    def test_a_longer_pause_that_finance_asks_for_is_kept(
        self,
        operator: FlaskClient,
        simulator: SimulatorClient,
        clock: Clock,
        asked_for: str,
        seconds: int,
    ) -> None:
        simulator.add_fault(
            "/finance/clicks", status=429, headers={"Retry-After": asked_for}, times=1
        )
        forward(operator)
        send_due_exports()

        with transaction():
            due_at = queries.oldest_due_at()
        assert due_at is not None
        assert abs((due_at - clock.now()).total_seconds() - seconds) < 10

    def test_asking_again_does_not_wait_for_the_pause(
        self, operator: FlaskClient, simulator: SimulatorClient
    ) -> None:
        simulator.add_fault("/finance/clicks", status=500, times=1)
        export_id = forward(operator)["export_id"]
        send_due_exports()
        assert send_due_exports() == 0

        assert forward(operator, status=200)["export_id"] == export_id
        assert send_due_exports() == 1
        assert status(operator)["state"] == "succeeded"

    def test_a_day_whose_clicks_are_not_kept_is_not_sent_as_if_it_had_none(
        self, operator: FlaskClient, simulator: SimulatorClient, clicks: Clicks
    ) -> None:
        clicks.summed(DAY, 1, "mail", 7)
        forward(operator)
        send_due_exports()

        told = status(operator)
        assert (told["state"], told["attempts"]) == ("failed", 1)
        assert told["last_error"] == "7 clicks were counted, 0 are kept"
        assert asked(simulator)["clicks"] == 0
        assert_problem(operator.get(f"/api/exports/{DAY}.json"), 404)

    def test_a_day_that_cannot_be_read_is_tried_again(
        self,
        operator: FlaskClient,
        simulator: SimulatorClient,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        forward(operator)
        monkeypatch.setattr(document, "EXPORT_SPOOL_SECONDS", -1)
        send_due_exports()
        told = status(operator)
        assert (told["state"], asked(simulator)["clicks"]) == ("pending", 0)
        assert told["last_error"].startswith("the day could not be read: SpoolTooSlow")

        monkeypatch.undo()
        clock.advance(minutes=1)
        send_due_exports()
        assert status(operator)["state"] == "succeeded"

    def test_the_work_of_a_worker_that_died_is_done_again(
        self, operator: FlaskClient, simulator: SimulatorClient, clicks: Clicks
    ) -> None:
        clicks.clicked(MORNING)
        forward(operator)
        with transaction():
            [dead] = DaySending().claim(1)
        assert send_due_exports() == 0
        with transaction() as session:
            session.execute(text("UPDATE click_exports SET claimed_until = now() - interval '1 s'"))

        assert send_due_exports() == 1
        assert status(operator)["attempts"] == 1
        with transaction():
            DaySending().record([(dead, Failed("from the grave", is_final=True))])
        assert status(operator)["state"] == "succeeded", "its claim does not stand any more"

    def test_the_lease_and_the_job_outlive_the_longest_call(
        self, app: Flask, operator: FlaskClient, change_settings: ChangeSettings
    ) -> None:
        change_settings(finance_service_timeout_seconds=600.0)
        forward(operator)
        [job] = rq_queue("default").jobs
        assert job.func_name == "project.clicks.exports.jobs.send_due_exports"
        assert job.timeout is not None
        assert job.timeout > 600 + 120 + 50
        with transaction() as session:
            DaySending().claim(1)
            lease = session.scalar(text("SELECT claimed_until - now() FROM click_exports"))
        assert isinstance(lease, timedelta)
        assert lease > timedelta(seconds=720)


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


class TestMemory:
    @pytest.fixture
    def peak(self) -> Callable[[], int]:
        """Tell by how many bytes this process grew at the most since the beginning."""
        status_file = Path("/proc/self/status")
        if not status_file.exists():
            pytest.skip("only Linux tells")

        def told(name: str) -> int:
            found = re.search(rf"{name}:\s+(\d+) kB", status_file.read_text())
            assert found is not None
            return int(found[1]) * 1024

        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            pytest.skip("this system does not let the peak be reset")
        before = told("VmRSS")
        return lambda: told("VmHWM") - before

    def test_a_large_day_is_sent_in_the_memory_of_a_small_one(
        self,
        operator: FlaskClient,
        simulator: SimulatorClient,
        clicks: Clicks,
        peak: Callable[[], int],
    ) -> None:
        clicks.many(DAY, MANY)
        forward(operator)
        pump.run(DaySending())

        [arrival] = arrived(simulator)
        assert arrival["total_clicks"] == MANY
        assert arrival["body_bytes"] > MORE_MEMORY_BYTES
        print(f"{arrival['body_bytes']:,} bytes sent with {peak():,} bytes more memory")
        assert peak() < MORE_MEMORY_BYTES

    def test_other_calls_go_on_while_a_day_is_read(
        self,
        operator: FlaskClient,
        simulator: SimulatorClient,
        clicks: Clicks,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The day is read in a thread: here it waits for a call that the event loop makes."""
        called = threading.Event()
        facts = queries.facts_of_day

        def facts_after_the_call(*arguments: Any) -> Any:
            assert called.wait(10), "the event loop stood still"
            return facts(*arguments)

        monkeypatch.setattr(document.queries, "facts_of_day", facts_after_the_call)
        forward(operator)
        sending = threading.Thread(target=in_context(operator.application, send_due_exports))
        sending.start()
        assert status(operator)["finance_service_available"]
        called.set()
        sending.join()
        assert status(operator)["state"] == "succeeded"


def in_context(app: Flask, function: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        with app.app_context():
            function()
            db.session.remove()

    return run


class TestCommand:
    def run(self, app: Flask, *arguments: str) -> Any:
        return app.test_cli_runner().invoke(args=["export-clicks", *arguments])

    def test_a_day_is_sent_here(
        self, app: Flask, simulator: SimulatorClient, clicks: Clicks
    ) -> None:
        clicks.clicked(MORNING)
        for _ in range(2):
            result = self.run(app, str(DAY), "--inline")
            assert result.exit_code == 0, result.output
            assert result.stdout.startswith("1 clicks of 2027-03-09 were sent, SHA-256 ")
        assert len(arrived(simulator)) == 2

    def test_only_that_day_is_sent(
        self, app: Flask, operator: FlaskClient, simulator: SimulatorClient
    ) -> None:
        forward(operator, "2027-03-01")
        self.run(app, str(DAY), "--inline")

        assert [one["date"] for one in arrived(simulator)] == ["2027-03-09"]

    def test_the_workers_are_woken(self, app: Flask, simulator: SimulatorClient) -> None:
        result = self.run(app, str(DAY))

        assert result.stdout == "2027-03-09 is being sent by the workers as export 1.\n"
        assert send_due_exports() == 1

    def test_what_went_wrong_is_one_sentence(
        self, app: Flask, simulator: SimulatorClient, clicks: Clicks
    ) -> None:
        simulator.add_fault("/finance/clicks", status=500, times=1)
        result = self.run(app, str(DAY), "--inline")
        assert result.exit_code == 1
        assert "was not sent and is tried again at" in result.stderr
        assert "answered 500" in result.stderr

        clicks.summed(date(2027, 3, 1), 1, "mail", 3)
        result = self.run(app, "2027-03-01", "--inline")
        assert "given up: 3 clicks were counted, 0 are kept" in result.stderr

    @pytest.mark.parametrize("day", ["2027-03-11", "yesterday", "2027-02-30"])
    def test_a_day_that_cannot_be_sent(self, app: Flask, day: str) -> None:
        result = self.run(app, day)
        assert result.exit_code != 0
        assert "Traceback" not in result.output


class TestHealth:
    def test_health_tells_of_finance_and_is_well_without_it(
        self, client: FlaskClient, simulator: SimulatorClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def services(every_seconds: float) -> Any:
            probe = health._services["finance"]
            fresh = health.ServiceProbe("finance", probe.ask, every_seconds)
            monkeypatch.setitem(health._services, "finance", fresh)
            return client.get("/api/health").get_json()

        well = services(60)
        assert well["services"] == {"finance": {"status": "ok"}}
        simulator.add_fault("/finance/health", status=503)
        ill = services(60)
        assert ill["services"] == {"finance": {"status": "down", "error": "answered 503"}}
        assert ill["status"] == well["status"]

    def test_finance_is_not_asked_by_everybody_who_looks(
        self, client: FlaskClient, simulator: SimulatorClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        probe = health.ServiceProbe("finance", health._services["finance"].ask)
        monkeypatch.setitem(health._services, "finance", probe)
        for _ in range(5):
            client.get("/api/health")
        assert asked(simulator)["health"] == 1

    def test_an_export_that_waits_shows_as_late(
        self, client: FlaskClient, operator: FlaskClient, clock: Clock
    ) -> None:
        forward(operator)
        clock.advance(minutes=5)
        oldest = client.get("/api/health").get_json()["parts"]["due"]["oldest"]
        assert oldest["click-exports"]["late_seconds"] >= 300

    def test_finance_that_is_nowhere(
        self, operator: FlaskClient, change_settings: ChangeSettings
    ) -> None:
        change_settings(finance_service_url=f"http://127.0.0.1:{free_port()}")
        assert_problem(operator.post(FORWARD, json={"date": str(DAY)}), 503)
        assert status(operator)["finance_service_available"] is False
