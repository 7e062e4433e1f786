"""What a device and an operator do, in one word each."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.factories import MadeDevice

Buy = Callable[[MadeDevice, str], TestResponse]
Check = Callable[[MadeDevice], dict[str, Any]]
Shown = Callable[[int], dict[str, Any]]
Told = Callable[[int], list[str]]


@pytest.fixture
def buy(client: FlaskClient) -> Buy:
    """Send a receipt from a device."""

    def send(device: MadeDevice, receipt: str) -> TestResponse:
        body = {"client-token": device.token, "receipt": receipt}
        return client.post("/api/purchase", json=body)

    return send


@pytest.fixture
def check(client: FlaskClient) -> Check:
    """Ask whether the device's subscription is active."""

    def ask(device: MadeDevice) -> dict[str, Any]:
        answer = client.post("/api/purchase/check", json={"client-token": device.token})
        assert answer.status_code == 200
        found: dict[str, Any] = answer.get_json()
        return found

    return ask


@pytest.fixture
def only_purchase(operator: FlaskClient) -> Callable[[], dict[str, Any]]:
    """Show the one purchase there is, with its events."""

    def show() -> dict[str, Any]:
        listed = operator.get("/api/purchases").get_json()["data"]
        assert len(listed) == 1
        shown: dict[str, Any] = operator.get(f"/api/purchases/{listed[0]['id']}").get_json()["data"]
        return shown

    return show


@pytest.fixture
def told(operator: FlaskClient) -> Told:
    """List what was told of a purchase, oldest first."""

    def types(purchase_id: int) -> list[str]:
        answer = operator.get(f"/api/purchases/{purchase_id}")
        return [event["type"] for event in answer.get_json()["data"]["events"]]

    return types
