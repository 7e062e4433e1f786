"""A weather station in Moscow, at noon of a winter day."""

import os
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, settings

from simulator.client import SimulatorClient
from tests.conftest import ChangeSettings
from tests.time_machine import Clock
from tests.weather.messages.station import Station, rested_out

NOON_IN_MOSCOW = datetime(2027, 1, 15, 9, tzinfo=UTC)

settings.register_profile(
    "messages",
    max_examples=7,
    stateful_step_count=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    "prove messages",
    max_examples=1000,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def profile() -> settings:
    """How long to search: HYPOTHESIS_PROFILE=prove searches for long."""
    long = os.environ.get("HYPOTHESIS_PROFILE") == "prove"
    return settings.get_profile("prove messages" if long else "messages")


@pytest.fixture
def clock(clock: Clock) -> Clock:
    """The test clock, at noon in Moscow."""
    clock.set_to(NOON_IN_MOSCOW)
    return clock


@pytest.fixture
def station(
    clock: Clock, simulator: SimulatorClient, api_url: str, change_settings: ChangeSettings
) -> Station:
    """Subscribers near one forecast; receipts come to the real API when a test lets them."""
    change_settings(sms_receipt_url=f"{api_url}/api/subscribers/callback/", sms_timeout_seconds=3)
    rested_out()
    station = Station(simulator)
    station.silence_receipts()
    station.forecast()
    return station
