"""A run of messages while workers die, gateways go away and Redis is emptied: one for each."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from tests.faults.world import busy, eventually
from tests.support.stack import Stack, running_stack

SENDING = "send_messages"
GATEWAY_SECONDS = 0.5
SETTINGS = {
    "SMS_TIMEOUT_SECONDS": "2",
    "SMS_TRY_PAUSE_SECONDS": "2",
    "SMS_GATEWAY_REST_SECONDS": "1",
    "MAX_SMS_TRY_LIMIT": "50",
    "LEASE_SLACK_SECONDS": "2",
    "SMS_CONCURRENCY": "32",
}
SIZES = pytest.mark.parametrize(
    "count", [1000, pytest.param(20_000, marks=pytest.mark.long)], ids=["short", "long"]
)


@contextmanager
def _a_run(count: int, *, schedulers: int = 0) -> Iterator[Stack]:
    """Give a copy in which so many paid-up numbers are due, and whose run has begun."""
    with running_stack(
        workers=4, schedulers=schedulers, restart=True, environment=SETTINGS
    ) as stack:
        latencies = {"/sms/*": GATEWAY_SECONDS}
        stack.simulator.control("PUT", "/settings", {"latency_seconds": latencies})
        _seed(stack, count)
        stack.flask("messages-run")
        yield stack


def _seed(stack: Stack, count: int) -> None:
    stack.fetch(
        """
        INSERT INTO packages (name, price, currency, period, period_count, status, retry_attempts,
                              retry_interval_seconds, at_retry_end, charged, created_at)
        VALUES ('forecast-daily', 100, 'RUB', 'day', 1, 'active', 3, 60, 'expire', 'at_the_end',
                now())
        """
    )
    stack.fetch(
        """
        INSERT INTO forecasts (gid, lat, lon, fcat24, fcat48, is_active, created_at, updated_at)
        VALUES (1, 55, 37, 'Sunny', 'Rain', true, now(), now())
        """
    )
    stack.fetch(
        """
        INSERT INTO customers (kind, reference, provider, payment_method_id, created_at)
        SELECT 'msisdn', '+7' || 9000000000 + n * 10 + 5, 'carrier', '', now()
        FROM generate_series(1, %(count)s) n
        """,
        {"count": count},
    )
    stack.fetch(
        """
        INSERT INTO subscriptions (customer_id, package_id, state, anchor_at,
                                   current_period_start, ended_at, due_at, created_at)
        SELECT c.id, p.id, 'active', now() - interval '1 hour', now() - interval '1 hour',
               now() + interval '23 hours', now() + interval '23 hours', now()
        FROM customers c, packages p
        """
    )
    stack.fetch(
        """
        INSERT INTO subscribers (customer_id, msisdn, lat, lon, zone, language, plan, state,
                                 forecast_gid, distance_m, created_at, updated_at, paid_until,
                                 next_message_at)
        SELECT id, reference, 55, 37, %(zone)s, 'en', 'daily', 'active', 1, 0, now(), now(),
               now() + interval '23 hours', now()
        FROM customers
        """,
        {"zone": _zone_at_noon()},
    )


def _zone_at_noon() -> str:
    ahead = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/GMT"


def _accepted(stack: Stack) -> int:
    return int(stack.value("SELECT count(*) FROM messages WHERE accepted_at IS NOT NULL"))


def _is_done(stack: Stack, count: int, *, swept: bool = True) -> bool:
    """Tell whether all was delivered; look as the sweeps do, once the leases have ended."""
    done = stack.value("SELECT count(*) FROM messages WHERE state = 'delivered'") == count
    if not done and swept:
        stack.flask("messages-run")
    return bool(done)


def _assert_one_for_each(stack: Stack, count: int) -> None:
    found = stack.simulator.control("GET", "/sms")
    assert (found["accepted"], found["numbers"]) == (count, count)
    assert stack.value("SELECT count(*) FROM messages") == count
    assert stack.value("SELECT count(DISTINCT msisdn) FROM messages") == count


@SIZES
def test_workers_killed_in_the_middle_of_a_run(count: int) -> None:
    with _a_run(count) as stack:
        for _ in range(2):
            so_far = _accepted(stack)
            eventually(lambda so_far=so_far: _accepted(stack) > so_far, within=60, what="progress")
            eventually(lambda: busy(stack, SENDING), within=60, what="a sender")[0].kill()
        assert _accepted(stack) < count, "all was sent before enough workers were killed"
        eventually(lambda: _is_done(stack, count), within=150, every=1, what="all delivered")
        _assert_one_for_each(stack, count)


@SIZES
def test_a_gateway_that_goes_away_and_comes_back(count: int) -> None:
    with _a_run(count) as stack:
        eventually(lambda: _accepted(stack) > 0, within=30, what="progress")
        stack.simulator.add_fault("/sms/*", drop="after")
        eventually(lambda: _heard(stack, "unknown") > 20, within=30, what="lost answers")
        stack.simulator.control("DELETE", "/faults")
        eventually(lambda: _is_done(stack, count), within=150, every=1, what="all delivered")
        _assert_one_for_each(stack, count)


def _heard(stack: Stack, status: str) -> int:
    return int(
        stack.value(
            "SELECT count(*) FROM message_events WHERE status = %(status)s", {"status": status}
        )
    )


@SIZES
def test_an_emptied_redis_loses_no_message(count: int) -> None:
    with _a_run(count, schedulers=1) as stack:
        for _ in range(2):
            so_far = _accepted(stack)
            eventually(lambda so_far=so_far: _accepted(stack) > so_far, within=90, what="progress")
            with stack.redis as redis:
                redis.flushall()
        eventually(
            lambda: _is_done(stack, count, swept=False), within=150, every=0.5, what="delivered"
        )
        _assert_one_for_each(stack, count)
