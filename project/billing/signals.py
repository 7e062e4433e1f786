"""What billing tells, in the transaction in which it happened; it knows none of its listeners.

Each signal is sent with `happened`, a list, so that a listener can act on a batch at once.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from blinker import Namespace

from project.billing.states import PaymentState, SubscriptionState

_signals = Namespace()

subscription_changed = _signals.signal("subscription-changed")
"""Sent with a list of SubscriptionChange."""
charge_planned = _signals.signal("charge-planned")
"""Sent with a list of PlannedCharge, before a payment is written for any of them.

Who knows that one would be for nothing answers {subscription id: when to look at it again}: it is
put off until then, which is no try and no refusal.
"""
payment_settled = _signals.signal("payment-settled")
"""Sent with a list of SettledPayment."""


@dataclass(frozen=True)
class SubscriptionChange:
    """Something that happened to a subscription.

    `type` is assigned, renewed, past_due, canceled, exhausted (the last try was refused),
    expired, or changed (another package from a period's end on). `state` is the one it led to.
    Package and period are those of the last one that was paid for or given: of what `renewed`
    tells, that is what was paid for, also if it begins later. `is_exhausted` if the last try was
    refused and nothing was paid since.
    """

    type: str
    subscription_id: int
    customer_id: int
    package_id: int
    current_period_start: datetime
    ended_at: datetime
    occurred_at: datetime
    state: SubscriptionState
    next_package_id: int | None
    is_exhausted: bool


@dataclass(frozen=True)
class PlannedCharge:
    """A period that a customer is about to be charged for."""

    subscription_id: int
    customer_id: int
    customer_kind: str
    period_start: datetime
    period_end: datetime


@dataclass(frozen=True)
class SettledPayment:
    """A payment that has come to an end; `is_final` if no further try follows a refusal."""

    payment_id: UUID
    customer_id: int
    subscription_id: int | None
    state: PaymentState
    amount: int
    currency: str
    attempt: int
    trigger: str
    reason: str | None
    period_start: datetime | None
    period_end: datetime | None
    is_final: bool
    occurred_at: datetime
