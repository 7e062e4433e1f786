"""A day that does not arrive is sent again, until it has arrived or is given up."""

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from project.clicks.exports import document, queries
from project.clicks.exports.jobs import send_due_exports
from project.clicks.exports.sending import DaySending
from project.clicks.exports.service import Failed
from project.core.db.transaction import transaction
from project.core.work.queues import rq_queue
from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.clicks.finance import DAY, MORNING, arrived, asked, forward, status
from tests.clicks.records import Clicks
from tests.conftest import ChangeSettings
from tests.time_machine import Clock

pytestmark = pytest.mark.usefixtures("noon")


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
