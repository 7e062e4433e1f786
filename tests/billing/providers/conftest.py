"""The providers whose adapters are held to the contract, each with its own way to be told."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import pytest
import uuid_utils.compat

from project.billing.providers.base import Charge, PaymentProvider
from project.billing.providers.carrier import Carrier
from project.billing.providers.yookassa import YooKassa
from project.core import clock as product_clock
from project.core.net import http_client
from simulator.client import SimulatorClient
from tests.billing.memory_provider import MemoryProvider
from tests.time_machine import Clock


class House(Protocol):
    """A provider, and what a test can have it do."""

    provider: PaymentProvider

    def decide(self, card: str, *outcomes: str) -> None:
        """Say what becomes of the next charges of a card."""

    def settle(self, external_id: str, outcome: str) -> None:
        """Let a pending payment come to its end."""

    def move(self, clock: Clock, **by: float) -> datetime:
        """Let time go by."""


class YooKassaHouse:
    def __init__(self, simulator: SimulatorClient) -> None:
        self.simulator = simulator
        self.provider: PaymentProvider = yookassa(simulator)

    def decide(self, card: str, *outcomes: str) -> None:
        order = {"outcomes": list(outcomes), "then": "succeeded"}
        self.simulator.control("PUT", f"/yookassa/methods/{card}", order)

    def settle(self, external_id: str, outcome: str) -> None:
        status, _, reason = outcome.partition(":")
        order = {"status": status} | ({"reason": reason} if reason else {})
        self.simulator.control("POST", f"/yookassa/payments/{external_id}/settle", order)

    def move(self, clock: Clock, **by: float) -> datetime:
        return clock.advance(**by)


class MemoryHouse:
    def __init__(self, provider: MemoryProvider) -> None:
        self.memory = provider
        self.provider: PaymentProvider = provider
        self.memory.offset = product_clock.read_offset()

    def decide(self, card: str, *outcomes: str) -> None:
        self.memory.scripts[card].extend(outcomes)

    def settle(self, external_id: str, outcome: str) -> None:
        self.memory.settle(external_id, outcome)

    def move(self, clock: Clock, **by: float) -> datetime:
        now = clock.advance(**by)
        self.memory.offset = product_clock.read_offset()
        return now


def yookassa(simulator: SimulatorClient, *, secret: str = "key", deadline: float = 3) -> YooKassa:
    url = f"{simulator.base_url}/yookassa/v3"
    return YooKassa(url, "shop", secret, deadline_seconds=deadline)


class CarrierHouse:
    """The carrier, whose outcomes go by the number that is charged."""

    KINDS = {"succeeded": "charged", "canceled": "refused"}

    def __init__(self, simulator: SimulatorClient) -> None:
        self.simulator = simulator
        self.provider: PaymentProvider = carrier(simulator)

    def decide(self, card: str, *outcomes: str) -> None:
        kinds = [
            ":".join([self.KINDS[kind], *reason])
            for kind, *reason in (outcome.split(":") for outcome in outcomes)
        ]
        self.simulator.control("PUT", f"/carrier/numbers/{card}", {"outcomes": kinds})


def carrier(simulator: SimulatorClient, *, token: str = "token", deadline: float = 3) -> Carrier:
    return Carrier(f"{simulator.base_url}/carrier/billing", token, deadline_seconds=deadline)


@pytest.fixture(params=["yookassa", "memory"])
def house(
    request: pytest.FixtureRequest, simulator: SimulatorClient, clock: Clock
) -> Iterator[House]:
    """Each provider in turn."""
    if request.param == "yookassa":
        yield YooKassaHouse(simulator)
    else:
        yield MemoryHouse(request.getfixturevalue("memory"))


def charge(card: str | None = "card-1", *, amount: int = 99_000, **changes: Any) -> Charge:
    payment_id: UUID = changes.pop("payment_id", None) or uuid_utils.compat.uuid7()
    values: dict[str, Any] = {
        "currency": "RUB",
        "return_url": None if card else "https://shop.example/back",
        "description": "Monthly",
        "metadata": {
            "payment_id": str(payment_id),
            "customer": "external:customer-1",
            "package_id": "1",
        },
    }
    return Charge(payment_id, amount, payment_method_id=card, **(values | changes))


def ask(call: Any) -> Any:
    return http_client.start(call).result()
