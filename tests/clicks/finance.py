"""What an operator asks of exports, and what finance tells of what arrived."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from flask.testing import FlaskClient

from simulator.client import SimulatorClient

NOON = datetime(2027, 3, 10, 12, tzinfo=UTC)
DAY = date(2027, 3, 9)
MORNING = datetime(2027, 3, 9, 6, tzinfo=UTC)
FORWARD = "/api/export/forward"


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
