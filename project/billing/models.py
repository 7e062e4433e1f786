"""Tables of the billing engine: customers, packages, subscriptions, payments, cases."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from project.billing.states import (
    AtRetryEnd,
    Audience,
    CaseKind,
    ChargeTime,
    PaymentState,
    SubscriptionState,
    Trigger,
    may_payment_move,
    may_subscription_move,
)
from project.core.db.models import DATABASE_NOW, Claimable, Timestamp, due_index
from project.extensions import Model

__all__ = [
    "AtRetryEnd",
    "Audience",
    "CaseKind",
    "ChargeTime",
    "Customer",
    "Installation",
    "Package",
    "Payment",
    "PaymentState",
    "ReconciliationCase",
    "Subscription",
    "SubscriptionPeriod",
    "SubscriptionState",
    "Trigger",
    "may_payment_move",
    "may_subscription_move",
]


class Customer(Model):
    """Somebody who is billed: a company, or whoever the provider's metadata names."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    reference: Mapped[str] = mapped_column(Text)
    provider: Mapped[str] = mapped_column(Text)
    payment_method_id: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (UniqueConstraint("kind", "reference"),)

    @property
    def written(self) -> str:
        """Return the customer as `kind:reference`."""
        return f"{self.kind}:{self.reference}"


class Package(Model):
    """What can be subscribed to; the price is in minor units of the currency."""

    __tablename__ = "packages"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    price: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    period: Mapped[str] = mapped_column(Text)
    period_count: Mapped[int]
    status: Mapped[str] = mapped_column(Text)
    retry_attempts: Mapped[int]
    retry_interval_seconds: Mapped[int]
    at_retry_end: Mapped[str] = mapped_column(Text)
    charged: Mapped[str] = mapped_column(
        Text, default=str(ChargeTime.ON_THE_DAY), server_default=str(ChargeTime.ON_THE_DAY)
    )
    audience: Mapped[str] = mapped_column(
        Text, default=str(Audience.COMPANIES), server_default=str(Audience.COMPANIES)
    )
    created_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint("price > 0", name="price"),
        CheckConstraint("period IN ('day', 'week', 'month', 'year')", name="period"),
        CheckConstraint("period_count BETWEEN 1 AND 366", name="period_count"),
        CheckConstraint("status IN ('active', 'inactive')", name="status"),
        CheckConstraint("at_retry_end IN ('expire', 'cancel')", name="at_retry_end"),
        CheckConstraint("charged IN ('on_the_day', 'at_the_end')", name="charged"),
        CheckConstraint("audience IN ('companies', 'internal')", name="audience"),
    )


class Installation(Model):
    """Which copy of the product this is, made once and kept through dumps; at most one row.

    `timeline`, `database_oid` and `written_by` say in which database the row was written: where
    they do not fit, the database was restored, copied or failed over (see `installation.py`).
    """

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("id = 1", name="single_row"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    key: Mapped[UUID]
    timeline: Mapped[str] = mapped_column(Text)
    database_oid: Mapped[int] = mapped_column(BigInteger)
    written_by: Mapped[int] = mapped_column(BigInteger)
    held_since: Mapped[datetime | None] = mapped_column(Timestamp)
    hold_reason: Mapped[str | None] = mapped_column(Text)
    books_unread_from: Mapped[datetime | None] = mapped_column(Timestamp)
    restored_at: Mapped[datetime | None] = mapped_column(Timestamp)


class Subscription(Claimable, Model):
    """A customer's package; due when the next period is to be charged.

    `package_id`, `current_period_start` and `ended_at` are those of the last period that was paid
    for or given, which may be yet to begin: what runs now is told by `subscription_state`.
    `refused_at` is when the last try for the next period was answered without money, and NULL
    while none was; `not_taken` counts the tries since then that came to no answer of that kind.
    """

    __tablename__ = "subscriptions"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    customer_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(Customer.id))
    package_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(Package.id))
    next_package_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey(Package.id))
    state: Mapped[str] = mapped_column(Text)
    anchor_at: Mapped[datetime] = mapped_column(Timestamp)
    current_period_start: Mapped[datetime] = mapped_column(Timestamp)
    ended_at: Mapped[datetime] = mapped_column(Timestamp)
    refusals: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    refused_at: Mapped[datetime | None] = mapped_column(Timestamp)
    not_taken: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    past_due_at: Mapped[datetime | None] = mapped_column(Timestamp)
    exhausted_at: Mapped[datetime | None] = mapped_column(Timestamp)
    canceled_at: Mapped[datetime | None] = mapped_column(Timestamp)
    created_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint(
            "state IN ('pending', 'active', 'past_due', 'canceled', 'expired')", name="state"
        ),
        CheckConstraint("current_period_start < ended_at", name="period"),
        # Past due without a further try: refused for the last time, while the period still runs.
        CheckConstraint(
            "(due_at IS NOT NULL)"
            " = (state = 'active' OR (state = 'past_due' AND exhausted_at IS NULL))",
            name="charged_is_due",
        ),
        due_index("subscriptions"),
        # The sweep for tries that come between two daily runs.
        Index(
            "ix_subscriptions_retried",
            "due_at",
            postgresql_where=text("due_at IS NOT NULL AND (refusals > 0 OR not_taken > 0)"),
        ),
        Index("ix_subscriptions_customer", "customer_id"),
        Index(
            "ix_subscriptions_running_end",
            "ended_at",
            postgresql_where=text("state IN ('active', 'past_due', 'canceled')"),
        ),
        Index(
            "ix_subscriptions_ending",
            "ended_at",
            postgresql_where=text("due_at IS NULL AND state IN ('canceled', 'past_due')"),
        ),
        Index(
            "uq_subscriptions_one_running",
            "customer_id",
            unique=True,
            postgresql_where=text("state IN ('pending', 'active', 'past_due', 'canceled')"),
        ),
    )

    @classmethod
    def is_pausing(cls, now: datetime) -> ColumnElement[bool]:
        """Hold for those that are tried again; the others wait for the end of their period."""
        return cls.ended_at <= now


class Payment(Claimable, Model):
    """One try to be paid for one period; its id is the provider's idempotence key.

    Due while it is pending: when the provider is to be asked what became of it. `description` and
    `plan` are as they were when it was made, so that the same key always carries the same request.
    `made_at` is when by the real clock, by which the provider counts the life of a key; `sends`
    how often it may have been sent; `is_answered` whether an answer came that nobody can read.
    """

    __tablename__ = "payments"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(Customer.id))
    package_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(Package.id))
    subscription_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey(Subscription.id))
    state: Mapped[str] = mapped_column(Text)
    trigger: Mapped[str] = mapped_column(Text)
    attempt: Mapped[int]
    amount: Mapped[int] = mapped_column(BigInteger)
    refunded_amount: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    currency: Mapped[str] = mapped_column(Text)
    period_start: Mapped[datetime | None] = mapped_column(Timestamp)
    period_end: Mapped[datetime | None] = mapped_column(Timestamp)
    provider: Mapped[str] = mapped_column(Text)
    external_id: Mapped[str | None] = mapped_column(Text)
    payment_method_id: Mapped[str | None] = mapped_column(Text)
    return_url: Mapped[str | None] = mapped_column(Text)
    confirmation_url: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    plan: Mapped[str | None] = mapped_column(Text)
    sends: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    is_answered: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    made_at: Mapped[datetime] = mapped_column(Timestamp, server_default=DATABASE_NOW)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    settled_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint("state IN ('pending', 'succeeded', 'canceled', 'expired')", name="state"),
        CheckConstraint(
            "trigger IN ('purchase', 'subscription_cycle', 'retry_dunning', 'retry_customer',"
            " 'retry_admin')",
            name="trigger",
        ),
        CheckConstraint("(state = 'pending') = (due_at IS NOT NULL)", name="pending_is_due"),
        CheckConstraint("amount > 0", name="amount"),
        CheckConstraint("refunded_amount >= 0", name="refunded_amount"),
        UniqueConstraint("provider", "external_id"),
        # Never charge twice: one payment per period that took the money or may yet do so.
        Index(
            "uq_payments_one_per_period",
            "subscription_id",
            "period_start",
            unique=True,
            postgresql_where=text("state IN ('pending', 'succeeded')"),
        ),
        due_index("payments"),
        Index("ix_payments_customer", "customer_id", "created_at"),
        Index("ix_payments_subscription", "subscription_id"),
        Index("ix_payments_created", "created_at"),
        # Reconciliation asks every few minutes what was paid lately.
        Index(
            "ix_payments_paid",
            "provider",
            "settled_at",
            postgresql_where=text("state = 'succeeded'"),
        ),
    )


class SubscriptionPeriod(Model):
    """A period that a subscription was given: paid for by a payment, or a gift without one."""

    __tablename__ = "subscription_periods"

    subscription_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(Subscription.id, ondelete="CASCADE"), primary_key=True
    )
    period_start: Mapped[datetime] = mapped_column(Timestamp, primary_key=True)
    period_end: Mapped[datetime] = mapped_column(Timestamp)
    package_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(Package.id))
    payment_id: Mapped[UUID | None] = mapped_column(
        ForeignKey(Payment.id, ondelete="CASCADE"), unique=True
    )

    __table_args__ = (CheckConstraint("period_start < period_end", name="period"),)


class ReconciliationCase(Model):
    """A difference between the provider's books and ours, with evidence and what was done."""

    __tablename__ = "reconciliation_cases"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    provider: Mapped[str] = mapped_column(Text)
    external_id: Mapped[str | None] = mapped_column(Text)
    payment_id: Mapped[UUID | None] = mapped_column(ForeignKey(Payment.id))
    evidence: Mapped[dict[str, Any]] = mapped_column(JSONB)
    action: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)
    opened_at: Mapped[datetime] = mapped_column(Timestamp)
    resolved_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint("state IN ('open', 'resolved')", name="state"),
        CheckConstraint(
            "kind IN ('paid_there_pending_here', 'paid_there_missing_here',"
            " 'paid_here_unknown_there', 'paid_here_unpaid_there', 'amount_differs',"
            " 'unreadable_there', 'not_taken', 'refunded_there', 'given_up')",
            name="kind",
        ),
        Index(
            "uq_reconciliation_cases_same",
            "kind",
            "provider",
            text("coalesce(external_id, payment_id::text)"),
            unique=True,
        ),
        Index("ix_reconciliation_cases_state", "state", "opened_at"),
    )
