"""What fault tests of charges share: companies that are due, and what the books must say."""

from uuid import UUID

from tests.support.stack import Stack

PRICE = 1000
CHARGES = "/yookassa/v3/payments"
BOOKS = "/yookassa/v3/*"


def seed_due_companies(stack: Stack, count: int, *, prefix: str = "shop") -> None:
    """Make companies with a monthly package whose period ended an hour ago, and a saved card."""
    stack.simulator.control("PUT", "/yookassa/settings", {"default": "succeeded"})
    stack.fetch(
        """
        INSERT INTO packages (name, price, currency, period, period_count, status, retry_attempts,
                              retry_interval_seconds, at_retry_end, created_at)
        VALUES ('Monthly', %(price)s, 'EUR', 'month', 1, 'active', 3, 86400, 'expire', now())
        ON CONFLICT (name) DO NOTHING
        """,
        {"price": PRICE},
    )
    stack.fetch(
        """
        WITH who AS (
            INSERT INTO customers (kind, reference, provider, payment_method_id, created_at)
            SELECT 'company', %(prefix)s || n, 'yookassa', 'card-' || n, now()
            FROM generate_series(1, %(count)s) n
            RETURNING id, reference
        ), companies AS (
            INSERT INTO companies (customer_id, site_url, name, lastname, company_name, email,
                                   password_hash, state, created_at, updated_at)
            SELECT id, 'https://shop.example', 'Ada', 'Byron', reference,
                   reference || '@shop.example', 'none', 'active', now(), now()
            FROM who
        )
        INSERT INTO subscriptions (customer_id, package_id, state, anchor_at, current_period_start,
                                   ended_at, due_at, attempts, created_at)
        SELECT who.id, packages.id, 'active', now() - interval '1 hour' - interval '1 month',
               now() - interval '1 hour' - interval '1 month', now() - interval '1 hour',
               date_trunc('day', now() - interval '1 hour'), 0, now()
        FROM who CROSS JOIN packages
        """,
        {"prefix": prefix, "count": count},
    )
    stack.fetch("ANALYZE")


def paid_there(stack: Stack) -> set[UUID]:
    """Return our payments that the provider has drawn."""
    summary = stack.simulator.control("GET", "/yookassa/summary")
    return {UUID(number) for number, paid in summary["succeeded_by_payment_id"].items() if paid}


def pending_here(stack: Stack) -> set[UUID]:
    """Return our payments whose end is not known."""
    rows = stack.fetch("SELECT id FROM payments WHERE state = 'pending'")
    return {payment_id for (payment_id,) in rows}


def unpaid(stack: Stack) -> int:
    """Count the subscriptions that are still to be charged for the period that is running."""
    return int(
        stack.value(
            """
            SELECT count(*) FROM subscriptions
            WHERE due_at < now() + interval '1 hour' OR claimed_until > clock_timestamp()
            """
        )
    )


def all_is_paid(stack: Stack) -> bool:
    """Tell whether everybody has paid; if not and nobody is at it, do as the sweeps do."""
    if not unpaid(stack) and not pending_here(stack):
        return True
    held = "SELECT count(*) FROM subscriptions WHERE claimed_until > clock_timestamp()"
    if not stack.value(held):
        stack.flask("autopayments-run")
    return False


def assert_each_paid_once(stack: Stack, count: int) -> None:
    """Hold that everybody paid for one period, by the provider's books and by ours."""
    summary = stack.simulator.control("GET", "/yookassa/summary")
    there = paid_there(stack)
    assert summary["paid_more_than_once"] == []
    here = stack.fetch("SELECT id FROM payments WHERE state = 'succeeded'")
    assert {number for (number,) in here} == there
    assert len(there) == count
    sums = {paid["EUR"] for paid in summary["paid_by_customer"].values()}
    assert (len(summary["paid_by_customer"]), sums) == (count, {f"{PRICE / 100:.2f}"})
    standing = stack.fetch(
        """
        SELECT s.state, c.state, count(p.id), count(*) FROM subscriptions s
        JOIN companies c USING (customer_id)
        JOIN payments p ON p.subscription_id = s.id AND p.state = 'succeeded'
                       AND p.period_end = s.ended_at AND p.period_start = s.current_period_start
        GROUP BY 1, 2
        """
    )
    assert standing == [("active", "active", count, count)]
    assert stack.value("SELECT count(*) FROM reconciliation_cases WHERE state = 'open'") == 0


def assert_each_was_told_once(stack: Stack, count: int) -> None:
    """Hold that each renewal and each payment is one event, and nobody was told of a refusal."""
    told = dict(stack.fetch("SELECT type, count(*) FROM events GROUP BY 1"))
    assert told == {"package.renewed": count, "payment.succeeded": count}
