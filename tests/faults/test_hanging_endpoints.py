"""One in five endpoints hangs: the others hear at once, and it gets its own later."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from tests.faults.customers import customers
from tests.faults.world import (
    MadeApp,
    arrivals,
    assert_each_callback_was_delivered,
    eventually,
    make_apps,
    most_in_flight,
    seed_devices,
    undelivered,
)
from tests.support.stack import Stack, running_stack

HEALTHY, HANGING = 16, 4
DEVICES = 400
TIMEOUT_SECONDS = 1
HANG_SECONDS = 30
STEADY_SECONDS = 12
P99_SECONDS = 5


@dataclass(frozen=True)
class Aftermath:
    """A copy in which some endpoints hung, and recovered, while customers bought."""

    stack: Stack
    healthy: Sequence[MadeApp]
    hanging: Sequence[MadeApp]
    asked_while_hanging: Sequence[Sequence[float]]
    """When each hanging endpoint was asked."""


@pytest.fixture(scope="module")
def aftermath() -> Iterator[Aftermath]:
    settings = {
        "CALLBACK_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
        "CALLBACK_RETRY_SECONDS": "3",
        "CALLBACK_MAX_ATTEMPTS": "50",
    }
    with running_stack(workers=4, schedulers=0, environment=settings) as stack:
        healthy = make_apps(stack, HEALTHY, prefix="healthy")
        hanging = make_apps(stack, HANGING, prefix="hanging")
        stack.simulator.add_fault("/inbox/hanging-*", delay_seconds=HANG_SECONDS)
        seed_devices(stack, [*healthy, *hanging], DEVICES)
        with customers(stack, range(1, DEVICES + 1), at_once=4, pause=0.05):
            time.sleep(STEADY_SECONDS)
        asked = [[moment for _, moment in arrivals(stack, app.inbox)] for app in hanging]
        stack.simulator.control("DELETE", "/faults")
        eventually(lambda: _all_is_delivered(stack), within=90, what="delivered")
        yield Aftermath(stack, healthy, hanging, asked)


def _all_is_delivered(stack: Stack) -> bool:
    """Tell whether nothing is left; wake the workers as the sweeps do."""
    if undelivered(stack) == 0:
        return True
    stack.flask("callbacks-run")
    return False


def test_healthy_endpoints_hear_at_once(aftermath: Aftermath) -> None:
    happened = {
        str(event_id): moment.timestamp()
        for event_id, moment in aftermath.stack.fetch("SELECT id, occurred_at FROM events")
    }
    delays = sorted(
        arrived_at - happened[webhook_id]
        for app in aftermath.healthy
        for webhook_id, arrived_at in arrivals(aftermath.stack, app.inbox)
    )
    assert len(delays) > 100
    assert delays[len(delays) * 99 // 100] < P99_SECONDS


def test_hanging_endpoints_are_never_asked_more_than_twice_at_once(aftermath: Aftermath) -> None:
    for moments in aftermath.asked_while_hanging:
        assert 1 <= most_in_flight(moments, seconds=TIMEOUT_SECONDS * 0.95) <= 2


def test_hanging_endpoints_are_tried_again_and_get_everything(aftermath: Aftermath) -> None:
    stack = aftermath.stack
    reasons = stack.fetch("SELECT DISTINCT error FROM callback_attempts WHERE error IS NOT NULL")
    assert reasons == [(f"no answer within {TIMEOUT_SECONDS} s",)]
    tried_in_vain, tried_again = stack.fetch(
        """
        SELECT count(*) FILTER (WHERE number = 1 AND error IS NOT NULL),
               count(*) FILTER (WHERE number = 2)
        FROM callback_attempts
        """
    )[0]
    assert tried_again == tried_in_vain > 0
    assert_each_callback_was_delivered(stack, [*aftermath.healthy, *aftermath.hanging])
