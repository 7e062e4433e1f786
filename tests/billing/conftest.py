"""Billing for tests: a desk, a provider in memory, what billing told."""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings

from project.billing import signals
from project.billing.providers import registry
from project.billing.signals import SettledPayment, SubscriptionChange
from project.core import clock as product_clock
from simulator.client import SimulatorClient
from tests.billing.desk import Desk
from tests.billing.memory_provider import MemoryProvider
from tests.time_machine import Clock

START = datetime(2027, 1, 15, 10, tzinfo=UTC)

settings.register_profile(
    "bounded",
    max_examples=25,
    stateful_step_count=30,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    "prove",
    max_examples=3000,
    stateful_step_count=50,
    derandomize=False,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


class StandingTime:
    """The product's and the provider's time: it moves when it is told to, and never by itself.

    A history that is told again is then the same to the microsecond.
    """

    def __init__(self) -> None:
        self.moment = START

    def now(self) -> datetime:
        return self.moment


@pytest.fixture
def profile() -> settings:
    """How long to search: HYPOTHESIS_PROFILE=prove searches for long."""
    return settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "bounded"))


@pytest.fixture
def clock(clock: Clock) -> Clock:
    """The test clock, at ten in the morning of 15 January 2027."""
    clock.set_to(START)
    return clock


@pytest.fixture
def desk(clock: Clock, simulator: SimulatorClient) -> Desk:
    """Makes customers with packages."""
    return Desk(simulator)


@pytest.fixture
def memory(app: Flask) -> Iterator[MemoryProvider]:
    """A provider in memory, registered as any other."""
    provider = MemoryProvider()
    before = dict(registry._replaced)
    registry.register_provider(provider)
    yield provider
    registry._replaced.clear()
    registry._replaced.update(before)


class Told:
    """What billing told its listeners."""

    def __init__(self) -> None:
        self.changes: list[SubscriptionChange] = []
        self.settled: list[SettledPayment] = []

    def hear_change(self, _sender: Any, happened: Sequence[SubscriptionChange]) -> None:
        self.changes += happened

    def hear_settled(self, _sender: Any, happened: Sequence[SettledPayment]) -> None:
        self.settled += happened

    def types(self) -> list[str]:
        """Return what happened to subscriptions, in its order."""
        return [change.type for change in self.changes]


@pytest.fixture
def told(app: Flask) -> Iterator[Told]:
    """Listens to billing."""
    listener = Told()
    with (
        signals.subscription_changed.connected_to(listener.hear_change),
        signals.payment_settled.connected_to(listener.hear_settled),
    ):
        yield listener


@pytest.fixture
def standing_time(monkeypatch: pytest.MonkeyPatch) -> StandingTime:
    """Have time stand still, here and at the provider in memory."""
    time = StandingTime()
    monkeypatch.setattr(product_clock, "now", time.now)
    monkeypatch.setattr(MemoryProvider, "now", lambda _self: time.now())
    return time
