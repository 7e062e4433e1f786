"""Moving in from the older billing service: plans, subscriptions and payments of its users.

Each user becomes the customer `external:<user_id>`, charged by the method that the first payment of
the subscription saved. Nothing is told: these subscriptions began elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import select

from project.billing import queries
from project.billing.customers.service import EXTERNAL, ensure_customers
from project.billing.models import Customer, Package, Payment, Subscription, SubscriptionPeriod
from project.billing.packages.service import create_package
from project.billing.periods import EXPIRED_AFTER, boundary
from project.billing.providers.registry import DEFAULT_PROVIDER
from project.billing.states import AtRetryEnd, PaymentState, PeriodUnit, SubscriptionState, Trigger
from project.billing.subscriptions import rules
from project.core import clock
from project.core.errors import BadRequest, Conflict
from project.core.legacy.importer import (
    ImportReport,
    continue_ids,
    insert,
    moment,
    number,
    rows_by_table,
)
from project.core.legacy.sql_dump import Row
from project.core.money import from_decimal_text
from project.extensions import db

TABLES = ("plans", "prices", "subscriptions", "payments")
IDS_OF_PAYMENTS = UUID("6a1c8a52-3f0e-5a8e-9a53-3f6f0c6f2d11")
_UNITS = {"day": PeriodUnit.DAY, "month": PeriodUnit.MONTH, "year": PeriodUnit.YEAR}
_PAYMENT_STATES = {
    "created": PaymentState.PENDING,
    "pending": PaymentState.PENDING,
    "succeeded": PaymentState.SUCCEEDED,
    "paid": PaymentState.SUCCEEDED,
    "refunded": PaymentState.SUCCEEDED,
    "canceled": PaymentState.CANCELED,
    "expired": PaymentState.EXPIRED,
}


@dataclass(frozen=True)
class _Dump:
    """The rows of the tables that count, and how to read their moments."""

    tables: Mapping[str, Sequence[Row]]
    zone: tzinfo

    def moment(self, row: Row, name: str) -> datetime | None:
        return moment(row.get(name), self.zone)

    def payments_of(self) -> dict[int, list[Row]]:
        """Return the payments by the id of their subscription."""
        found: dict[int, list[Row]] = {}
        for row in self.tables["payments"]:
            found.setdefault(number(row, "subscription_id"), []).append(row)
        return found


def import_subscriptions(rows: Iterable[tuple[str, Row]], *, zone: tzinfo = UTC) -> ImportReport:
    """Import the rows of a dump; those that are here already, from a run before, stay as they are.

    `zone` is the one in which the older service wrote its moments. Raises Conflict where a name or
    an id is taken by something else, BadRequest for plans that cannot be packages.
    """
    report = ImportReport()
    dump = _Dump(rows_by_table(rows, TABLES, report), zone)
    packages = _import_packages(dump, report)
    _import_subscriptions(dump, packages, report)
    _import_payments(dump, report)
    continue_ids(queries.subscriptions)
    return report


def _word(row: Row, name: str) -> str:
    """Return an enum's value in our spelling, whether its name or its value was stored."""
    return (row.get(name) or "").lower().replace("cancelled", "canceled")


def _import_packages(dump: _Dump, report: ImportReport) -> dict[tuple[int, str], Package]:
    """Make a package of each plan and price; return them by plan and currency."""
    plans = {number(row, "id"): row for row in dump.tables["plans"]}
    prices = dump.tables["prices"]
    packages: dict[tuple[int, str], Package] = {}
    for row in prices:
        plan_id, currency = number(row, "plan_id"), _currency(row)
        plan = plans.get(plan_id)
        if plan is None or (plan_id, currency) in packages:
            report.leave_out("prices", row, "has no plan" if plan is None else "is a second price")
            continue
        is_only = sum(number(one, "plan_id") == plan_id for one in prices) == 1
        name = plan.get("name") or f"Plan {plan_id}"
        values = {
            "name": name if is_only else f"{name} {currency}",
            "price": _amount(row, currency),
            "currency": currency,
            **_period(plan),
        }
        packages[plan_id, currency] = _package(values, plan, report)
    return packages


def _currency(row: Row) -> str:
    return (row.get("currency") or "RUB").upper()


def _amount(row: Row, currency: str) -> int:
    try:
        return from_decimal_text(row.get("amount") or "", currency)
    except ValueError as error:
        raise BadRequest(f"{row.get('id')}: {error}.") from error


def _period(plan: Row) -> dict[str, Any]:
    unit = _UNITS.get((plan.get("duration_unit") or "").lower().rstrip("s"))
    count = number(plan, "duration")
    if unit is None or not 0 < count <= 366:
        raise BadRequest(
            f"The plan {plan.get('id')} lasts {plan.get('duration')} {plan.get('duration_unit')}; "
            "a package lasts 1 to 366 days, months or years."
        )
    return {"period": str(unit), "period_count": count}


def _package(values: Mapping[str, Any], plan: Row, report: ImportReport) -> Package:
    here = db.session.scalars(select(Package).where(Package.name == values["name"])).one_or_none()
    if here is None:
        report.imported["packages"] += 1
        is_sold = plan.get("is_active") not in ("f", "false", "0")
        return create_package(
            {
                **values,
                "status": "active" if is_sold else "inactive",
                "retry_attempts": 3,
                "retry_interval_seconds": 86_400,
                "at_retry_end": str(AtRetryEnd.EXPIRE),
            }
        )
    if any(getattr(here, name) != value for name, value in values.items()):
        raise Conflict(
            f"There is another package named {here.name!r} here. Rename it, and import again."
        )
    report.known["packages"] += 1
    return here


def _import_subscriptions(
    dump: _Dump, packages: Mapping[tuple[int, str], Package], report: ImportReport
) -> None:
    rows = []
    for row in dump.tables["subscriptions"]:
        if row.get("user_id"):
            rows.append(row)
        else:
            report.leave_out("subscriptions", row, "has no user_id")
    users = [row["user_id"] or "" for row in rows]
    customers = ensure_customers(EXTERNAL, users, provider=DEFAULT_PROVIDER)
    here = {
        row.id: row.customer_id
        for row in db.session.execute(select(Subscription.id, Subscription.customer_id))
    }
    running = set(
        db.session.scalars(
            select(Subscription.customer_id).where(
                Subscription.state != str(SubscriptionState.EXPIRED)
            )
        )
    )
    payments = dump.payments_of()
    # The newest first: it is the one that runs, if several of a user do.
    for row in reversed(rows):
        subscription_id, customer_id = number(row, "id"), customers[row["user_id"] or ""]
        if subscription_id in here:
            if here[subscription_id] != customer_id:
                raise Conflict(
                    f"The subscription {subscription_id} here is another customer's. Import into "
                    "a copy whose subscriptions do not use these ids yet."
                )
            report.known["subscriptions"] += 1
            continue
        paid = [one for one in payments.get(subscription_id, []) if _is_paid(one)]
        package = packages.get((number(row, "plan_id"), _currency(paid[-1] if paid else {})))
        ended_at = dump.moment(row, "ended_at")
        if package is None or ended_at is None:
            report.leave_out("subscriptions", row, "has no price in its currency, or no ended_at")
            continue
        state = _state(row, ended_at, report)
        if state is not SubscriptionState.EXPIRED:
            if customer_id in running:
                report.leave_out("subscriptions", row, "its user has a newer one that runs")
                continue
            running.add(customer_id)
            _remember_method(customer_id, paid, row, report)
        _add(subscription_id, customer_id, package, state, ended_at, dump.moment(row, "created_at"))
        report.imported["subscriptions"] += 1
    db.session.flush()


def _is_paid(payment: Row) -> bool:
    return _PAYMENT_STATES.get(_word(payment, "status")) is PaymentState.SUCCEEDED


def _state(row: Row, ended_at: datetime, report: ImportReport) -> SubscriptionState:
    """Return where the subscription stands: nobody is charged here for what ended there."""
    now = clock.now()
    word = _word(row, "status")
    if word == "active" and ended_at > now - EXPIRED_AFTER:
        return SubscriptionState.ACTIVE
    if word in ("canceled", "paused") and ended_at > now:
        if word == "paused":
            report.notes.append(
                f"subscriptions {row.get('id')}: was paused; runs to its end and does not renew"
            )
        return SubscriptionState.CANCELED
    return SubscriptionState.EXPIRED


def _remember_method(customer_id: int, paid: Sequence[Row], row: Row, report: ImportReport) -> None:
    customer = db.session.get_one(Customer, customer_id)
    methods = [one["external_payment_id"] for one in paid if one.get("external_payment_id")]
    customer.payment_method_id = customer.payment_method_id or next(iter(methods), None)
    if customer.payment_method_id is None:
        report.notes.append(
            f"subscriptions {row.get('id')}: no payment of it has saved a method; its user must pay"
        )


def _add(
    subscription_id: int,
    customer_id: int,
    package: Package,
    state: SubscriptionState,
    ended_at: datetime,
    created_at: datetime | None,
) -> None:
    start = boundary(ended_at, PeriodUnit(package.period), package.period_count, -1)
    is_active = state is SubscriptionState.ACTIVE
    db.session.add(
        Subscription(
            id=subscription_id,
            customer_id=customer_id,
            package_id=package.id,
            state=str(state),
            anchor_at=ended_at,
            current_period_start=start,
            ended_at=ended_at,
            due_at=rules.charge_time(package, ended_at) if is_active else None,
            created_at=created_at or start,
        )
    )
    db.session.flush()
    db.session.add(
        SubscriptionPeriod(
            subscription_id=subscription_id,
            period_start=start,
            period_end=ended_at,
            package_id=package.id,
        )
    )


def _import_payments(dump: _Dump, report: ImportReport) -> None:
    found = db.session.execute(
        select(Subscription.id, Subscription.customer_id, Subscription.package_id)
    )
    subscriptions = {row.id: row for row in found}
    external_ids: set[str] = set(
        db.session.scalars(select(Payment.external_id).where(Payment.external_id.is_not(None)))
    )
    here = set(db.session.scalars(select(Payment.id)))
    new = []
    for row in dump.tables["payments"]:
        payment_id = uuid5(IDS_OF_PAYMENTS, str(number(row, "id")))
        subscription = subscriptions.get(number(row, "subscription_id"))
        if payment_id in here:
            report.known["payments"] += 1
        elif subscription is None:
            report.leave_out("payments", row, "its subscription was not imported")
        elif _word(row, "status") not in _PAYMENT_STATES:
            report.leave_out("payments", row, f"its status is {row.get('status')!r}")
        else:
            new.append(_payment(row, payment_id, subscription, external_ids, dump))
    report.imported["payments"] += insert(queries.payments, new)


def _payment(
    row: Row, payment_id: UUID, subscription: Any, external_ids: set[str], dump: _Dump
) -> dict[str, Any]:
    now = clock.now()
    state = _PAYMENT_STATES[_word(row, "status")]
    external_id = row.get("external_payment_id")
    reason = "refunded by the older service" if _word(row, "status") == "refunded" else None
    if external_id in external_ids:
        # The older service wrote the first payment's id into every renewal.
        external_id, reason = None, reason or f"renewal by the method of {external_id}"
    elif external_id is not None:
        external_ids.add(external_id)
    if state is PaymentState.PENDING and external_id is None:
        state, reason = PaymentState.EXPIRED, "never reached the provider"
    created_at = dump.moment(row, "created_at") or now
    is_pending = state is PaymentState.PENDING
    return {
        "id": payment_id,
        "customer_id": subscription.customer_id,
        "package_id": subscription.package_id,
        "subscription_id": subscription.id,
        "state": str(state),
        "trigger": str(Trigger.PURCHASE),
        "attempt": 1,
        "attempts": 0,
        "amount": _amount(row, _currency(row)),
        "currency": _currency(row),
        "provider": DEFAULT_PROVIDER,
        "external_id": external_id,
        "reason": reason,
        "created_at": created_at,
        "settled_at": None if is_pending else dump.moment(row, "updated_at") or created_at,
        "due_at": now if is_pending else None,
    }
