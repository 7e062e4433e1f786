"""How days are sent: in little memory, by a command too; and what health tells of finance."""

import re
import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from project.clicks.exports import document, queries
from project.clicks.exports.jobs import send_due_exports
from project.clicks.exports.sending import DaySending
from project.core.http import health
from project.core.work import pump
from project.extensions import db
from simulator.client import SimulatorClient
from tests.api.problems import assert_problem
from tests.clicks.finance import DAY, FORWARD, MORNING, arrived, asked, forward, status
from tests.clicks.records import Clicks
from tests.conftest import ChangeSettings
from tests.processes import free_port
from tests.time_machine import Clock

MANY = 200_000
MORE_MEMORY_BYTES = 32 * 1024 * 1024

pytestmark = pytest.mark.usefixtures("noon")


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
