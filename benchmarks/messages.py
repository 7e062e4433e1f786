"""A run of messages: against jobs on RQ, and in a table a hundred times as large."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from benchmarks import data, sizes
from benchmarks.peers.rq_jobs import send_some
from benchmarks.report import Figure, Row, at_least
from benchmarks.rig import Rig
from project.config.environment import get_settings
from project.core import clock
from project.core.db.transaction import transaction
from project.core.work.queues import QueueName, wake
from project.extensions import db, redis_client
from project.weather.billing_sync import plan_packages
from project.weather.messages import jobs, queries
from project.weather.messages.generate import MESSAGES_DUE, MESSAGES_PLANNED
from project.weather.settings import SmsSettings
from project.weather.states import Plan

DUE = 50_000
PEER = 1_500
MILLION = 1_000_000
DUE_OF_MILLION = 10_000
GATEWAY_SECONDS = 0.1
WANTED_RATIO = 8.0
WANTED_RATIO_OF_SIZES = 0.8
WARM_UP_SHARE = 0.05
HELD_BACK_SECONDS = 600

# Numbers end in 5, which no gateway treats in a way of its own.
_CUSTOMERS = """
    INSERT INTO customers (kind, reference, provider, payment_method_id, created_at)
    SELECT 'msisdn', '+7' || 9000000000 + n * 10 + 5, 'carrier', '', now()
      FROM generate_series(1, :count) AS n
"""
_SUBSCRIPTIONS = """
    INSERT INTO subscriptions (customer_id, package_id, state, anchor_at, current_period_start,
                               ended_at, due_at, created_at)
    SELECT id, :package, 'active', now() - interval '1 hour', now() - interval '1 hour',
           now() + interval '23 hours', now() + interval '23 hours', now()
      FROM customers
"""
# Every stride-th subscriber is due in some minutes, the others tomorrow, all over the table.
_SUBSCRIBERS = """
    INSERT INTO subscribers (customer_id, msisdn, lat, lon, zone, language, plan, state,
                             forecast_gid, distance_m, created_at, updated_at, paid_until,
                             next_message_at)
    SELECT id, reference, 55, 37, :zone, 'en', 'daily', 'active', 1 + n % 1000, 1000, now(), now(),
           now() + interval '23 hours',
           now() + make_interval(mins => CASE n % :stride WHEN 0 THEN :due_in ELSE 1200 END)
      FROM (SELECT id, reference, row_number() OVER (ORDER BY id) AS n FROM customers) AS new
"""
_FORECASTS = """
    INSERT INTO forecasts (gid, lat, lon, fcat24, fcat48, is_active, created_at, updated_at)
    SELECT n, 55, 37, 'Sunny with clouds, 20 degrees', 'Rain in the evening', true, now(), now()
      FROM generate_series(1, 1000) AS n
"""
UNFINISHED = """
    (SELECT 1 FROM subscribers WHERE next_message_at <= now() LIMIT 1)
    UNION ALL (SELECT 1 FROM messages WHERE state = 'pending' LIMIT 1)
"""
UNSENT = "SELECT 1 FROM messages WHERE state = 'pending' LIMIT 1"
ACCEPTED = "SELECT count(*) FROM messages WHERE state = 'accepted'"


def measure_against_peer(rig: Rig) -> list[Row]:
    """Measure a whole run, made and sent, and the peer that sends what is made, in turn."""
    due, of_peer = rig.options.size(DUE), rig.options.size(PEER)
    _run_ours(rig, round(due * WARM_UP_SHARE))
    _run_peer(rig, round(of_peer * WARM_UP_SHARE))
    ours, theirs = [], []
    for _ in range(rig.options.rounds):
        ours.append(_run_ours(rig, due))
        theirs.append(_run_peer(rig, of_peer))
    return [
        at_least(
            f"a run of {due:,} messages, made and sent, gateway answers in 100 ms",
            Figure(tuple(ours), "/s"),
            f"jobs on RQ, a commit per message, made already (rate over {of_peer:,})",
            Figure(tuple(theirs), "/s"),
            WANTED_RATIO,
        )
    ]


def measure_sizes(rig: Rig) -> list[Row]:
    """Measure the selection in a small table and in a large one."""
    due, large = rig.options.size(DUE_OF_MILLION), rig.options.size(MILLION)
    _select_ours(rig, due, due, 1)

    def rates(count: int, rounds: int) -> list[float]:
        return _select_ours(rig, count, due, rounds)

    return sizes.measure(
        rig, "the run's selection", rates, due=due, large=large, wanted=WANTED_RATIO_OF_SIZES
    )


def _run_ours(rig: Rig, due: int) -> float:
    _fill(rig, due, due)
    rig.settle()
    seconds = rig.seconds_until_none(UNFINISHED, lambda: wake(MESSAGES_PLANNED))
    _require_each_once(rig, due)
    return due / seconds


def _run_peer(rig: Rig, due: int) -> float:
    _fill(rig, due, due)
    _hold_back_sending()
    jobs.make_messages()
    rig.execute("UPDATE messages SET due_at = now() + interval '1 hour'")
    rig.settle()
    ids = [row.id for row in rig.rows("SELECT id FROM messages ORDER BY id")]
    in_flight = rig.calls_in_flight(get_settings(SmsSettings).sms_concurrency)

    def enqueue() -> None:
        rig.enqueue(QueueName.DEFAULT, send_some, ids, in_flight=in_flight)

    seconds = rig.seconds_until_none(UNSENT, enqueue)
    _require_each_once(rig, due)
    return due / seconds


def _select_ours(rig: Rig, count: int, due: int, rounds: int) -> list[float]:
    """Return how many due subscribers a second one process found.

    They are due in an hour and it asks as if it were then, or the sweeps would take them.
    """
    _fill(rig, count, due, due_in=60)
    rates = []
    for _ in range(rounds):
        rig.settle()
        rates.append(due / _seconds_of(lambda: _select(due)))
    return rates


def _select(due: int) -> None:
    """Find all that is due, with what decides about each, and write nothing."""
    with transaction():
        found = queries.due_recipients(clock.now() + timedelta(hours=2), due)
        db.session.rollback()
    if len(found) != due:
        raise AssertionError(f"{len(found)} were selected, {due} are due")


def _seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _fill(rig: Rig, count: int, due: int, *, due_in: int = -1) -> None:
    data.empty_tables(rig)
    redis_client().delete(_mark())
    rig.simulator.control("PUT", "/settings", {"latency_seconds": {"/sms/*": GATEWAY_SECONDS}})
    rig.simulator.control("PUT", "/sms/settings", {"receipt_after_seconds": None})
    with transaction():
        package = plan_packages()[Plan.DAILY]
    rig.execute(_FORECASTS)
    rig.execute(_CUSTOMERS, count=count)
    rig.execute(_SUBSCRIPTIONS, package=package)
    rig.execute(_SUBSCRIBERS, zone=_zone_at_noon(), stride=count // due, due_in=due_in)


def _zone_at_noon() -> str:
    """Return a zone in which nothing is quiet, whenever this is run."""
    ahead = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/GMT"


def _hold_back_sending() -> None:
    """Let it look as if the senders had been woken already."""
    redis_client().set(_mark(), 1, ex=HELD_BACK_SECONDS)


def _mark() -> str:
    return f"wakeup:{MESSAGES_DUE.name}"


def _require_each_once(rig: Rig, due: int) -> None:
    rig.require(due, ACCEPTED)
    found = rig.simulator.control("GET", "/sms")
    if (found["accepted"], found["numbers"]) != (due, due):
        raise AssertionError(f"{due} messages were made, and the gateways have {found}")
