"""Moving in from the older billing service: users go on being charged, once, by their method."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import func, select

from project.billing.jobs import charge_due, match_pending
from project.billing.models import Customer, Package, Payment, Subscription
from project.extensions import db
from simulator.client import SimulatorClient
from tests.billing.desk import Desk
from tests.time_machine import Clock

Import = Callable[..., Result]
TODAY = datetime(2031, 5, 10, 12, tzinfo=UTC)

PLANS = """COPY public.plans (id, name, is_active, duration, duration_unit) FROM stdin;
1\tCinema\tt\t1\tmonth
2\tCinema a year\tt\t1\tyear
3\tOld\tf\t14\tdays
\\.

COPY public.prices (id, plan_id, currency, amount) FROM stdin;
1\t1\tRUB\t299.00
2\t2\tRUB\t2990.00
3\t2\tEUR\t30.50
4\t3\tRUB\t99.90
\\.
"""
SUBSCRIPTIONS = "COPY public.subscriptions (id, user_id, status, ended_at, plan_id, created_at)"
PAYMENTS = (
    "COPY public.payments (id, subscription_id, status, currency, amount, external_payment_id,"
    " created_at, updated_at)"
)


def copied(head: str, *rows: str) -> str:
    lines = "".join(row.replace(" | ", "\t") + "\n" for row in rows)
    return f"{head} FROM stdin;\n{lines}\\.\n\n"


@pytest.fixture
def import_subscriptions(app: Flask, clock: Clock, tmp_path: Path) -> Import:
    """Write a dump of these tables and run the command on it, at noon of a day in 2031."""
    clock.set_to(TODAY)

    def run(*tables: str, options: tuple[str, ...] = ()) -> Result:
        path = tmp_path / "older.sql"
        path.write_text(PLANS + "".join(tables))
        runner = app.test_cli_runner()
        return runner.invoke(args=["import-legacy", "subscriptions", str(path), *options])

    return run


def at(days: int) -> str:
    return (TODAY + timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S")


def test_plans_become_packages_by_price(import_subscriptions: Import) -> None:
    done = import_subscriptions()

    assert done.exit_code == 0, done.output
    found = db.session.scalars(select(Package).order_by(Package.id)).all()
    assert [(one.name, one.price, one.currency, one.period, one.period_count) for one in found] == [
        ("Cinema", 29900, "RUB", "month", 1),
        ("Cinema a year RUB", 299000, "RUB", "year", 1),
        ("Cinema a year EUR", 3050, "EUR", "year", 1),
        ("Old", 9990, "RUB", "day", 14),
    ]
    assert [one.status for one in found] == ["active", "active", "active", "inactive"]


def test_a_user_is_charged_at_the_period_end_by_the_method_of_the_first_payment(
    import_subscriptions: Import, clock: Clock, desk: Desk
) -> None:
    desk.script("first-method")
    done = import_subscriptions(
        copied(SUBSCRIPTIONS, f"70 | user-a | ACTIVE | {at(3)} | 1 | {at(-58)}"),
        copied(
            PAYMENTS,
            f"1 | 70 | SUCCEEDED | RUB | 299.00 | first-method | {at(-58)} | {at(-58)}",
            f"2 | 70 | SUCCEEDED | RUB | 299.00 | first-method | {at(-27)} | {at(-27)}",
        ),
    )

    assert "subscriptions: 1 imported, 0 known" in done.output
    assert "payments: 2 imported, 0 known" in done.output
    customer = db.session.scalars(select(Customer)).one()
    assert (customer.kind, customer.reference) == ("external", "user-a")
    assert customer.payment_method_id == "first-method"
    assert charge_due() == 0
    clock.advance(days=3, hours=12)
    assert charge_due() == 1
    subscription = db.session.get_one(Subscription, 70, populate_existing=True)
    assert subscription.current_period_start == TODAY + timedelta(days=3)
    assert subscription.ended_at == datetime(2031, 6, 13, 12, tzinfo=UTC)
    assert charge_due() == 0


@pytest.mark.parametrize(
    ("status", "ends_in_days", "state"),
    [
        ("ACTIVE", 5, "active"),
        ("ACTIVE", -2, "active"),
        ("ACTIVE", -4, "expired"),
        ("CANCELED", 5, "canceled"),
        ("CANCELED", -1, "expired"),
        ("PAUSED", 5, "canceled"),
        ("EXPIRED", -1, "expired"),
        ("CREATED", 5, "expired"),
        ("DELETED", 5, "expired"),
        ("cancelled", 5, "canceled"),
    ],
)
def test_a_subscription_stands_where_it_stood_and_nobody_is_charged_for_what_had_ended(
    import_subscriptions: Import, status: str, ends_in_days: int, state: str
) -> None:
    import_subscriptions(
        copied(SUBSCRIPTIONS, f"5 | user-b | {status} | {at(ends_in_days)} | 1 | {at(-30)}")
    )

    subscription = db.session.get_one(Subscription, 5)
    assert subscription.state == state
    assert (subscription.due_at is not None) is (state == "active")


def test_of_several_that_run_of_one_user_the_newest_does(import_subscriptions: Import) -> None:
    done = import_subscriptions(
        copied(
            SUBSCRIPTIONS,
            f"8 | user-c | ACTIVE | {at(5)} | 1 | {at(-30)}",
            f"9 | user-c | ACTIVE | {at(9)} | 2 | {at(-20)}",
        )
    )

    assert "subscriptions 8: its user has a newer one that runs" in done.output
    assert db.session.scalars(select(Subscription.id)).all() == [9]


def test_a_pending_payment_is_asked_after(
    import_subscriptions: Import, simulator: SimulatorClient
) -> None:
    import_subscriptions(
        copied(SUBSCRIPTIONS, f"70 | user-a | ACTIVE | {at(3)} | 1 | {at(-58)}"),
        copied(
            PAYMENTS,
            f"1 | 70 | SUCCEEDED | RUB | 299.00 | m-1 | {at(-58)} | {at(-58)}",
            f"2 | 70 | CANCELED | RUB | 299.00 | p-2 | {at(-57)} | {at(-57)}",
            f"3 | 70 | REFUNDED | RUB | 299.00 | p-3 | {at(-57)} | {at(-57)}",
            f"4 | 70 | PENDING | RUB | 299.00 | p-4 | {at(-1)} | {at(-1)}",
            f"5 | 70 | CREATED | RUB | 299.00 | \\N | {at(-1)} | {at(-1)}",
            f"6 | \\N | PENDING | RUB | 299.00 | p-6 | {at(-1)} | {at(-1)}",
        ),
    )

    rows = db.session.scalars(select(Payment).order_by(Payment.created_at, Payment.external_id))
    assert {(one.external_id, one.state) for one in rows} == {
        ("m-1", "succeeded"),
        ("p-2", "canceled"),
        ("p-3", "succeeded"),
        ("p-4", "pending"),
        (None, "expired"),
    }
    assert match_pending() == 1


def test_a_second_run_changes_nothing(import_subscriptions: Import) -> None:
    tables = (
        copied(SUBSCRIPTIONS, f"70 | user-a | ACTIVE | {at(3)} | 1 | {at(-58)}"),
        copied(PAYMENTS, f"1 | 70 | SUCCEEDED | RUB | 299.00 | m-1 | {at(-58)} | {at(-58)}"),
    )
    import_subscriptions(*tables)
    again = import_subscriptions(*tables)

    assert again.exit_code == 0, again.output
    assert "packages: 0 imported, 4 known" in again.output
    assert "payments: 0 imported, 1 known" in again.output
    assert db.session.scalar(select(func.count()).select_from(Payment)) == 1


def test_a_dry_run_keeps_nothing(import_subscriptions: Import) -> None:
    done = import_subscriptions(
        copied(SUBSCRIPTIONS, f"70 | user-a | ACTIVE | {at(3)} | 1 | {at(-58)}"),
        options=("--dry-run",),
    )

    assert "subscriptions: 1 imported" in done.output
    assert db.session.scalar(select(func.count()).select_from(Package)) == 0


def test_an_amount_that_is_none_stops_the_import_in_words(import_subscriptions: Import) -> None:
    done = import_subscriptions(
        copied(SUBSCRIPTIONS, f"70 | user-a | ACTIVE | {at(3)} | 1 | {at(-58)}"),
        copied(PAYMENTS, f"1 | 70 | SUCCEEDED | RUB | much | m-1 | {at(-58)} | {at(-58)}"),
    )

    assert done.exit_code == 1
    assert "'much' is not an amount" in done.output
    assert db.session.scalar(select(func.count()).select_from(Subscription)) == 0


def test_a_subscription_of_nobody_is_listed(import_subscriptions: Import) -> None:
    done = import_subscriptions(
        copied(SUBSCRIPTIONS, f"7 | \\N | ACTIVE | {at(5)} | 1 | {at(-30)}")
    )

    assert done.exit_code == 0, done.output
    assert "subscriptions 7: has no user_id" in done.output
    assert "The dump has no rows of payments." in done.output


def test_a_dump_with_the_line_ends_of_windows_is_read_whole(import_subscriptions: Import) -> None:
    rows = copied(SUBSCRIPTIONS, f"6 | user-w | ACTIVE | {at(5)} | 1 | {at(-30)}")

    done = import_subscriptions(rows.replace("\n", "\r\n"))

    assert "subscriptions: 1 imported, 0 known" in done.output
    assert db.session.get_one(Subscription, 6).state == "active"
