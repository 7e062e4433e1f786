"""The stores accept, refuse, limit and renew receipts by their rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from simulator.client import Answer, SimulatorClient

if TYPE_CHECKING:
    from tests.simulator.conftest import StubClock

STORES = ["app-store", "google-play"]
REFUSED = {"status": False}


def verify(simulator: SimulatorClient, receipt: str, store: str = "app-store") -> Answer:
    return simulator.call("POST", f"/{store}/verify", {"receipt": receipt})


def expiry(simulator: SimulatorClient, receipt: str, store: str = "app-store") -> str:
    answer = verify(simulator, receipt, store).json()
    assert answer["status"] is True
    text: str = answer["expire-date"]
    return text


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    ("receipt", "outcome"),
    [
        ("receipt-1", "accepted"),
        ("receipt-a9", "accepted"),
        ("receipt-13", "accepted"),
        ("receipt-33", "accepted"),
        ("7", "accepted"),
        ("é3", "accepted"),
        ("receipt-2", "refused"),
        ("receipt-6", "refused"),
        ("receipt-14", "refused"),
        ("receipt-a6", "refused"),
        ("receipt-x", "refused"),
        ("1x", "refused"),
        ("0", "refused"),
        ("6", "refused"),
        ("receipt-٣", "refused"),
        ("receipt-00", "limited"),
        ("receipt-06", "limited"),
        ("receipt-12", "limited"),
        ("receipt-96", "limited"),
        ("48", "limited"),
    ],
)
def test_end_of_receipt_decides_the_answer(
    simulator_process: SimulatorClient, store: str, receipt: str, outcome: str
) -> None:
    answer = verify(simulator_process, receipt, store)

    if outcome == "limited":
        assert (answer.status, answer.json()) == (429, {"error": "rate limit"})
        assert "Retry-After" not in answer.headers
    elif outcome == "refused":
        assert (answer.status, answer.json()) == (200, REFUSED)
    else:
        assert answer.status == 200
        assert answer.json().keys() == {"status", "expire-date"}
    assert simulator_process.control("GET", "/stores")[store][outcome] == 1


def test_every_ending_divisible_by_six_is_limited(simulator_process: SimulatorClient) -> None:
    limited = [
        number
        for number in range(100)
        if verify(simulator_process, f"receipt-{number:02}").status == 429
    ]

    assert limited == list(range(0, 100, 6))


def test_expiry_is_told_in_utc_minus_six_without_offset(
    clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> None:
    stub_clock.now = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)

    assert expiry(clocked_simulator, "r-1") == "2026-03-30 20:30:00"


def test_expiry_is_thirty_real_days_ahead_without_a_test_clock(
    simulator_process: SimulatorClient,
) -> None:
    told = datetime.fromisoformat(expiry(simulator_process, "r-1") + "-06:00")

    assert abs(told - datetime.now(UTC) - timedelta(days=30)) < timedelta(seconds=5)


def test_same_receipt_keeps_its_expiry_until_it_expires(
    clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> None:
    first = expiry(clocked_simulator, "r-1")
    stub_clock.now += timedelta(days=29, hours=23)

    assert expiry(clocked_simulator, "r-1") == first


@pytest.mark.parametrize(
    ("passed", "renewed_until"),
    [
        (timedelta(days=30, hours=1), "2026-03-01 18:00:00"),
        (timedelta(days=59, hours=23), "2026-03-01 18:00:00"),
        (timedelta(days=60, hours=1), "2026-03-31 18:00:00"),
        (timedelta(days=365), "2027-01-25 18:00:00"),
    ],
)
def test_expired_receipt_is_renewed_by_whole_periods(
    clocked_simulator: SimulatorClient,
    stub_clock: StubClock,
    passed: timedelta,
    renewed_until: str,
) -> None:
    expiry(clocked_simulator, "r-1")
    stub_clock.now += passed

    renewed = datetime.fromisoformat(expiry(clocked_simulator, "r-1"))

    assert abs(renewed - datetime.fromisoformat(renewed_until)) <= timedelta(seconds=1)


def test_period_can_be_set(clocked_simulator: SimulatorClient) -> None:
    clocked_simulator.control("PUT", "/settings", {"period_seconds": 3600})

    assert clocked_simulator.control("GET", "/settings")["period_seconds"] == 3600
    assert expiry(clocked_simulator, "r-1").startswith("2025-12-31 19:00:0")


def test_each_store_remembers_its_own_receipts(
    clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> None:
    at_app_store = expiry(clocked_simulator, "r-1")
    stub_clock.now += timedelta(days=1)

    assert expiry(clocked_simulator, "r-1", "google-play") > at_app_store


@pytest.mark.parametrize("receipt", ["r-1", "r-2", "r-06"])
def test_canceled_receipt_is_refused_until_back_to_default(
    simulator_process: SimulatorClient, receipt: str
) -> None:
    by_rule = verify(simulator_process, receipt)
    simulator_process.control("PUT", f"/receipts/app-store/{receipt}", {"state": "canceled"})
    assert verify(simulator_process, receipt).json() == REFUSED

    simulator_process.control("PUT", f"/receipts/app-store/{receipt}", {"state": "default"})
    again = verify(simulator_process, receipt)
    assert (again.status, again.body) == (by_rule.status, by_rule.body)


@pytest.mark.parametrize("receipt", ["r-1", "r-2", "r-06"])
def test_forced_active_receipt_has_the_forced_expiry(
    simulator_process: SimulatorClient, receipt: str
) -> None:
    simulator_process.control(
        "PUT",
        f"/receipts/google-play/{receipt}",
        {"state": "active", "expires_at": "2020-01-01T00:00:00Z"},
    )

    assert expiry(simulator_process, receipt, "google-play") == "2019-12-31 18:00:00"


def test_forced_active_receipt_without_expiry_lives_by_the_period(
    clocked_simulator: SimulatorClient,
) -> None:
    clocked_simulator.control("PUT", "/receipts/app-store/r-2", {"state": "active"})

    assert expiry(clocked_simulator, "r-2").startswith("2026-01-30 18:00:0")


def test_counters_tell_what_was_asked(simulator_process: SimulatorClient) -> None:
    for receipt in ["a-1", "a-1", "a-2", "a-06"]:
        verify(simulator_process, receipt)

    assert simulator_process.control("GET", "/stores") == {
        "app-store": {
            "requests": 4,
            "accepted": 2,
            "refused": 1,
            "limited": 1,
            "distinct_receipts": 3,
        },
        "google-play": {
            "requests": 0,
            "accepted": 0,
            "refused": 0,
            "limited": 0,
            "distinct_receipts": 0,
        },
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"receipt=1",
        b"[]",
        b"[1]",
        b'"x"',
        b"null",
        b"{}",
        b'{"receipt": ""}',
        b'{"receipt": 1}',
        b'{"receipt": null}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_request_without_receipt_is_a_bad_request(
    simulator_process: SimulatorClient, body: bytes
) -> None:
    answer = simulator_process.call("POST", "/app-store/verify", body)

    assert answer.status == 400
    assert "receipt" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "data", "status"),
    [
        ("/receipts/play-store/r-1", {"state": "canceled"}, 404),
        ("/receipts/app-store/r-1", {"state": "broken"}, 400),
        ("/receipts/app-store/r-1", {}, 400),
        ("/receipts/app-store/r-1", {"state": "active", "expires_at": "soon"}, 400),
        ("/receipts/app-store/r-1", {"state": "active", "until": "2026-01-01"}, 400),
        ("/receipts/app-store/r-1", {"state": "active", "expires_at": "0001-01-01"}, 400),
        ("/settings", {"period_seconds": 0}, 400),
        ("/settings", {"period_seconds": "30"}, 400),
        ("/settings", {"period": 30}, 400),
        ("/settings", {"latency_seconds": 1}, 400),
        ("/settings", {"latency_seconds": {"/x": -1}}, 400),
        ("/settings", [], 400),
    ],
)
def test_senseless_control_is_refused(
    simulator_process: SimulatorClient, path: str, data: Any, status: int
) -> None:
    answer = simulator_process.call("PUT", f"/control{path}", data)

    assert answer.status == status
    assert answer.json()["error"]
