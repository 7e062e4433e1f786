"""Billing: autopayments against jobs on RQ, in a large table; books compared."""

from datetime import UTC, datetime, timedelta

from benchmarks import callbacks, data, sizes
from benchmarks.peers.rq_jobs import charge_some
from benchmarks.report import Figure, Row, at_least
from benchmarks.rig import BenchmarkError, Rig
from project.billing.payments.charging import CHARGES_DUE
from project.billing.providers import listing
from project.billing.providers.registry import DEFAULT_PROVIDER, provider_named
from project.billing.reconciliation import matching
from project.billing.settings import BillingSettings
from project.config.environment import get_settings
from project.core import clock
from project.core.net import http_client
from project.core.work.queues import QueueName, wake

DUE = 20_000
PEER = 1_200
MILLION = 1_000_000
PROVIDER_SECONDS = 0.1
WANTED_RATIO = 8.0
WANTED_OF_CALLBACKS = 0.6
ENDPOINTS = 50
WANTED_RATIO_OF_SIZES = 0.8
WARM_UP_SHARE = 0.1

LISTED = 10_000
MISSING_EVERY = 100
PRICE = 1000
WANTED_RATIO_OF_LISTING = 0.5
ADDED_AT_ONCE = 2000
WINDOW = timedelta(hours=1)

UNFINISHED = """
    SELECT 1 FROM subscriptions WHERE due_at <= now()
    UNION ALL SELECT 1 FROM payments WHERE state = 'pending' LIMIT 1
"""
PAID = "SELECT count(*) FROM payments WHERE state = 'succeeded'"
PAYERS = "SELECT count(DISTINCT subscription_id) FROM payments WHERE state = 'succeeded'"
TOLD = "SELECT count(DISTINCT subject_id) FROM events WHERE type = 'package.renewed'"

UNSENT = "SELECT 1 FROM callbacks WHERE due_at <= now() LIMIT 1"
DELIVERED = "SELECT count(*) FROM callbacks WHERE state = 'delivered'"

_ENDPOINTS = """
    UPDATE companies SET endpoint_id = (CAST(:ids AS bigint[]))[1 + id % :count]
"""
_PACKAGE = """
    INSERT INTO packages (name, price, currency, period, period_count, status, retry_attempts,
                          retry_interval_seconds, at_retry_end, created_at)
    VALUES ('Monthly', :price, 'EUR', 'month', 1, 'active', 3, 86400, 'expire', now())
"""
_CUSTOMERS = """
    INSERT INTO customers (kind, reference, provider, payment_method_id, created_at)
    SELECT 'company', n, :provider, 'card-' || n, now() FROM generate_series(1, :count) AS n
"""
_COMPANIES = """
    INSERT INTO companies (customer_id, site_url, name, lastname, company_name, email,
                           password_hash, state, created_at, updated_at)
    SELECT id, 'https://shop.example', 'Ada', 'Byron', 'Byron Looms ' || id,
           'shop-' || id || '@shop.example', 'none', 'active', now(), now()
      FROM customers
"""
# Every stride-th one ended within the last hour, the others end on some day of the next month.
_SUBSCRIPTIONS = """
    INSERT INTO subscriptions (customer_id, package_id, state, anchor_at, current_period_start,
                               ended_at, due_at, attempts, refusals, created_at)
    SELECT id, 1, 'active', ended_at - interval '1 month', ended_at - interval '1 month', ended_at,
           date_trunc('day', ended_at), 0, 0, now()
      FROM (SELECT id, CASE id % :stride WHEN 0 THEN now() - random() * interval '1 hour'
                            ELSE now() + interval '2 days' + random() * interval '28 days'
                       END AS ended_at
              FROM customers) AS new
"""
_DUE_AGAIN = """
    UPDATE subscriptions SET ended_at = moment, due_at = date_trunc('day', moment),
                             anchor_at = moment - interval '1 month',
                             current_period_start = moment - interval '1 month'
      FROM (SELECT id, now() - random() * interval '1 hour' AS moment
              FROM subscriptions WHERE customer_id % :stride = :rest) AS chosen
     WHERE subscriptions.id = chosen.id
"""
# Payments of ours for all but each hundredth of the provider's.
_KNOWN = """
    INSERT INTO payments (id, customer_id, package_id, subscription_id, state, trigger, attempt,
                          attempts, amount, currency, period_start, period_end, provider,
                          external_id, created_at, settled_at)
    SELECT gen_random_uuid(), s.customer_id, 1, s.id, 'succeeded', 'subscription_cycle', 1, 0,
           :price, 'EUR', s.ended_at, s.ended_at + interval '1 month', :provider, given.id,
           now() - interval '10 minutes', now() - interval '10 minutes'
      FROM unnest(CAST(:ids AS text[])) WITH ORDINALITY AS given(id, n)
      JOIN subscriptions AS s ON s.id = n
     WHERE n % :missing_every <> 0
"""


def measure_against_peer(rig: Rig) -> list[Row]:
    """Measure autopayments, their peer, the same with callbacks sent, and these alone, in turn."""
    due, of_peer = rig.options.size(DUE), rig.options.size(PEER)
    _run_ours(rig, round(due * WARM_UP_SHARE))
    _run_peer(rig, round(of_peer * WARM_UP_SHARE))
    ours, theirs, both, alone = [], [], [], []
    for _ in range(rig.options.rounds):
        ours.append(_run_ours(rig, due))
        theirs.append(_run_peer(rig, of_peer))
        both.append(_run_ours_and_deliver(rig, due))
        alone.append(callbacks.deliver(rig, due, endpoints=ENDPOINTS).per_second)
    return [
        at_least(
            f"autopayments, {due:,} due, provider answers in 100 ms",
            Figure(tuple(ours), "/s"),
            f"jobs on RQ, commits per subscription (rate over {of_peer:,})",
            Figure(tuple(theirs), "/s"),
            WANTED_RATIO,
        ),
        at_least(
            "the same, the callbacks of it, until the last is there",
            Figure(tuple(both), "/s"),
            f"as many callbacks alone, {ENDPOINTS} endpoints",
            Figure(tuple(alone), "/s"),
            WANTED_OF_CALLBACKS,
        ),
    ]


def measure_sizes(rig: Rig) -> list[Row]:
    """Measure autopayments in a small table and in a large one."""
    due, large = rig.options.size(DUE), rig.options.size(MILLION)
    _run_ours(rig, round(due * WARM_UP_SHARE))

    def rates(count: int, rounds: int) -> list[float]:
        return _rates_in_table(rig, count, due, rounds)

    return sizes.measure(
        rig, "autopayments", rates, due=due, large=large, wanted=WANTED_RATIO_OF_SIZES
    )


def _rates_in_table(rig: Rig, count: int, due: int, rounds: int) -> list[float]:
    _fill(rig, count, due)
    rates = []
    for number in range(rounds):
        if number:
            rig.execute(_DUE_AGAIN, stride=count // due, rest=number)
            rig.execute("TRUNCATE payments, events CASCADE")
        rig.settle()
        rates.append(_time_ours(rig, due))
    return rates


def _run_ours(rig: Rig, due: int) -> float:
    """Return how many subscriptions a second the workers charged, events written."""
    _fill(rig, due, due)
    rig.settle()
    return _time_ours(rig, due)


def _time_ours(rig: Rig, due: int) -> float:
    seconds = rig.seconds_until_none(UNFINISHED, _wake_charges)
    _require_each_once(rig, due)
    return due / seconds


def _run_ours_and_deliver(rig: Rig, due: int) -> float:
    """Return how many callbacks a second arrived of what the workers charged."""
    _fill(rig, due, due)
    made = data.make_apps(rig, ENDPOINTS, lambda number: f"company-{number}")
    ids = [app.endpoint_id for app in made]
    rig.execute(_ENDPOINTS, ids=ids, count=len(ids))
    rig.settle()
    seconds = rig.seconds_until_none(f"({UNFINISHED}) UNION ALL ({UNSENT})", _wake_charges)
    _require_each_once(rig, due)
    return float(rig.value(DELIVERED)) / seconds


def _wake_charges() -> None:
    wake(CHARGES_DUE)


def _run_peer(rig: Rig, due: int) -> float:
    _fill(rig, due, due)
    # Claimed for the peer, so that no sweep of ours takes them.
    rig.execute(
        "UPDATE subscriptions SET claim_id = gen_random_uuid(),"
        " claimed_until = now() + interval '1 day' WHERE due_at <= now()"
    )
    rig.settle()
    ids = [row.id for row in rig.rows("SELECT id FROM subscriptions ORDER BY due_at")]
    in_flight = rig.calls_in_flight(get_settings(BillingSettings).provider_concurrency)

    def enqueue() -> None:
        rig.enqueue(QueueName.MEDIUM, charge_some, ids, in_flight=in_flight)

    seconds = rig.seconds_until_none(UNFINISHED, enqueue)
    _require_each_once(rig, due)
    return due / seconds


def _fill(rig: Rig, count: int, due: int) -> None:
    data.empty_tables(rig)
    latency = {"/yookassa/*": PROVIDER_SECONDS}
    rig.simulator.control("PUT", "/settings", {"latency_seconds": latency})
    rig.simulator.control("PUT", "/yookassa/settings", {"default": "succeeded"})
    _make_subscriptions(rig, count, due)


def _make_subscriptions(rig: Rig, count: int, due: int) -> None:
    rig.execute(_PACKAGE, price=PRICE)
    rig.execute(_CUSTOMERS, count=count, provider=DEFAULT_PROVIDER)
    rig.execute(_COMPANIES)
    rig.execute(_SUBSCRIPTIONS, stride=count // due if due else count + 1)


def _require_each_once(rig: Rig, due: int) -> None:
    for query in (PAID, PAYERS, TOLD):
        rig.require(due, query)


def measure_matching(rig: Rig) -> list[Row]:
    """Measure a run of match-successful and the bare listing in turn."""
    listed = rig.options.size(LISTED)
    ours, theirs = [], []
    _read_listing(rig, _fill_books(rig, listed))
    for _ in range(rig.options.rounds):
        end = _fill_books(rig, listed)
        theirs.append(_read_listing(rig, end))
        ours.append(_match(rig, end))
    return [
        at_least(
            f"match-successful, {listed:,} payments there, 1 % missing here",
            Figure(tuple(ours), "/s"),
            "the provider's listing alone, its pages read and dropped",
            Figure(tuple(theirs), "/s"),
            WANTED_RATIO_OF_LISTING,
        )
    ]


def _fill_books(rig: Rig, count: int) -> datetime:
    data.empty_tables(rig)
    _make_subscriptions(rig, count, 0)
    now = datetime.now(UTC)
    ids: list[str] = []
    for start in range(0, count, ADDED_AT_ONCE):
        numbers = range(start, min(start + ADDED_AT_ONCE, count))
        orders = [_order(number + 1, now - WINDOW / 2) for number in numbers]
        ids += rig.simulator.control("POST", "/yookassa/payments", orders)["ids"]
    rig.execute(
        _KNOWN, ids=ids, price=PRICE, provider=DEFAULT_PROVIDER, missing_every=MISSING_EVERY
    )
    rig.settle()
    return clock.now()


def _order(number: int, created_at: datetime) -> dict[str, object]:
    return {
        "amount": "10.00",
        "currency": "EUR",
        "status": "succeeded",
        "created_at": created_at.isoformat(),
        "metadata": {"customer": f"company:{number}", "package_id": "1"},
    }


def _read_listing(rig: Rig, end: datetime) -> float:
    """Return how many payments a second are read when nothing is done with them."""
    started = datetime.now(UTC)
    read = http_client.start(_read_and_drop(end)).result()
    _require(read, rig.options.size(LISTED))
    return read / (datetime.now(UTC) - started).total_seconds()


async def _read_and_drop(end: datetime) -> int:
    read = 0
    async for page in listing.pages(provider_named(DEFAULT_PROVIDER), end - WINDOW, end):
        read += len(page.items)
    return read


def _match(rig: Rig, end: datetime) -> float:
    started = datetime.now(UTC)
    report = matching.reconcile(provider_named(DEFAULT_PROVIDER), end - WINDOW, end)
    seconds = (datetime.now(UTC) - started).total_seconds()
    listed = rig.options.size(LISTED)
    _require(report.read, listed)
    _require(report.cases.total(), listed // MISSING_EVERY)
    rig.require(listed, PAID)
    return report.read / seconds


def _require(found: int, wanted: int) -> None:
    if found != wanted:
        raise BenchmarkError(f"{wanted} were expected, {found} were found.")
