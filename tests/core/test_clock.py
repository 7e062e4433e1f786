"""The test clock: one for all processes, and out of reach without TEST_CLOCK."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from project.core import clock as product_clock
from project.core.db.transaction import transaction
from project.core.errors import BadRequest, NotFound
from project.core.http.auth import Scope, create_api_key
from tests.conftest import ChangeSettings
from tests.core.commands import run_flask
from tests.time_machine import Clock

A_MOMENT = timedelta(seconds=5)


def is_about(one: datetime, other: datetime) -> bool:
    return abs(one - other) < A_MOMENT


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1s", 1),
        ("90m", 5_400),
        ("25h", 90_000),
        ("30d", 2_592_000),
        ("2w", 1_209_600),
        ("1d12h", 129_600),
        ("1w1d1h1m1s", 694_861),
        ("0s", 0),
        ("1h1h", 7_200),
    ],
)
def test_durations_that_can_be_read(written: str, seconds: int) -> None:
    assert product_clock.parse_duration(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written",
    ["", " ", "25", "h", "25 h", "-1h", "1.5h", "1y", "25H", "1h ", "1h,2m", "PT1H", "1e3s", "٢h"],
)
def test_durations_that_cannot(written: str) -> None:
    with pytest.raises(BadRequest) as raised:
        product_clock.parse_duration(written)

    assert raised.value.errors == {"advance": ["Not a duration."]}


@pytest.mark.parametrize("written", ["999999999w", "201w" * 60, "73001d"])
def test_durations_that_are_too_long(written: str) -> None:
    with pytest.raises(BadRequest):
        product_clock.parse_duration(written)


def test_time_is_real_at_first(clock: Clock) -> None:
    assert is_about(clock.now(), datetime.now(UTC))
    assert clock.now().tzinfo is UTC


def test_it_runs_on_from_where_it_was_set(clock: Clock) -> None:
    moment = datetime(2030, 1, 31, 12, tzinfo=UTC)
    clock.set_to(moment)
    time.sleep(0.05)

    assert timedelta(milliseconds=50) <= clock.now() - moment < A_MOMENT


def test_advances_add_up_and_reset_takes_them_back(clock: Clock) -> None:
    clock.advance(hours=25)
    clock.advance(days=1)
    assert is_about(clock.now(), datetime.now(UTC) + timedelta(hours=49))

    product_clock.reset()

    assert is_about(clock.now(), datetime.now(UTC))


def test_real_time_stays_what_it_is(clock: Clock) -> None:
    clock.advance(days=100)

    assert is_about(product_clock.real_now(), datetime.now(UTC))


def test_a_move_is_seen_in_the_middle_of_a_transaction(clock: Clock) -> None:
    with transaction():
        assert is_about(clock.now(), datetime.now(UTC))
        run = run_flask("clock", "advance", "10d")
        assert run.returncode == 0, run.stderr

        assert is_about(clock.now(), datetime.now(UTC) + timedelta(days=10))


def test_every_process_sees_a_move_at_once(clock: Clock) -> None:
    clock.set_to(datetime(2031, 5, 6, 7, 8, tzinfo=UTC))

    shown = run_flask("clock", "show").stdout

    assert shown.startswith("2031-05-06T07:08:")


def test_it_does_not_move_out_of_the_calendar(clock: Clock) -> None:
    for moment in (datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)):
        with pytest.raises(BadRequest):
            clock.set_to(moment)


class TestWithoutTestClock:
    @pytest.fixture(autouse=True)
    def _real_time(self, clock: Clock, change_settings: ChangeSettings) -> None:
        clock.advance(days=100)
        change_settings(test_clock=False)

    def test_time_is_real_though_the_table_says_otherwise(self) -> None:
        assert is_about(product_clock.now(), datetime.now(UTC))

    @pytest.mark.parametrize("body", [{"advance": "1h"}, {"reset": True}])
    def test_there_is_nothing_at_the_address(
        self, client: FlaskClient, operator: FlaskClient, body: dict[str, Any]
    ) -> None:
        assert client.get("/api/clock").status_code == 404
        assert operator.post("/api/clock", json=body).status_code == 404

    def test_nothing_moves_it(self) -> None:
        for move in (
            lambda: product_clock.advance(timedelta(hours=1)),
            lambda: product_clock.set_to(datetime(2030, 1, 1, tzinfo=UTC)),
            product_clock.reset,
        ):
            with pytest.raises(NotFound):
                move()


class TestOverHttp:
    def test_everybody_may_ask(self, client: FlaskClient, clock: Clock) -> None:
        clock.advance(hours=25)

        told = client.get("/api/clock").get_json()

        assert told["status"] == "success"
        assert is_about(datetime.fromisoformat(told["now"]), clock.now())
        assert told["offset_seconds"] == pytest.approx(90_000, abs=1)

    def test_an_operator_moves_it(self, operator: FlaskClient, clock: Clock) -> None:
        moved = operator.post("/api/clock", json={"advance": "1d12h"})
        assert moved.status_code == 200
        assert is_about(clock.now(), datetime.now(UTC) + timedelta(hours=36))

        operator.post("/api/clock", json={"set": "2030-01-01T00:00:00-06:00"})
        assert is_about(clock.now(), datetime(2030, 1, 1, 6, tzinfo=UTC))

        back = operator.post("/api/clock", data={"reset": "true"}).get_json()
        assert back["offset_seconds"] == pytest.approx(0, abs=1)

    def test_moving_takes_the_write_scope(self, client: FlaskClient) -> None:
        with transaction():
            _, secret = create_api_key("reader", [Scope.READ])
        headers = {"Authorization": f"Bearer {secret}"}

        assert client.post("/api/clock", json={"advance": "1h"}).status_code == 401
        answer = client.post("/api/clock", json={"advance": "1h"}, headers=headers)

        assert answer.status_code == 403
        assert is_about(product_clock.now(), datetime.now(UTC))

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"advance": "1h", "reset": True},
            {"reset": False},
            {"advance": "soon"},
            {"advance": 25},
            {"advance": "h" * 41},
            {"advance": "999999999w"},
            {"set": "2030-01-01T00:00:00"},
            {"set": "yesterday"},
            {"set": "9999-12-31T23:59:59+00:00"},
            {"set": "0001-01-01T00:00:00+05:00"},
            {"rewind": "1h"},
        ],
    )
    def test_what_cannot_be_done_is_refused(
        self, operator: FlaskClient, body: dict[str, Any]
    ) -> None:
        answer = operator.post("/api/clock", json=body)

        assert answer.status_code == 400
        assert answer.get_json()["errors"]
        assert is_about(product_clock.now(), datetime.now(UTC))
