"""What billing tells, in the transaction in which it happened; it knows none of its listeners.

Each signal is sent with `happened`, a list, so that a listener can act on a batch at once.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from blinker import Signal

from project.billing.states import PaymentState, SubscriptionState


class BillingSignal(Signal):
    """A signal that must be heard: to bill a customer and not its company is half the work."""

    def send(self, sender: Any = None, /, **happened: Any) -> list[tuple[Any, Any]]:
        """Tell every listener. Raises RuntimeError in a process that has loaded none."""
        if not self.receivers:
            raise RuntimeError("Nobody here listens to billing: import project.background first.")
        return super().send(sender, **happened)


subscription_changed = BillingSignal()
"""Sent with a list of SubscriptionChange."""
charge_planned = BillingSignal()
"""Sent with a list of PlannedCharge, before a payment is written for any of them.

Who knows that one would be for nothing answers {subscription id: when to look at it again}: it is
put off until then, which is no try and no refusal.
"""
payment_settled = BillingSignal()
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
