"""Frozen copies of rows: what rules decide about, without a session and without a clock."""

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from project.billing.states import (
    AtRetryEnd,
    ChargeTime,
    PaymentState,
    PeriodUnit,
    SubscriptionState,
    Trigger,
)

Rhythm = tuple[PeriodUnit, int]
"""How long a package's periods are: a number of units."""


@dataclass(frozen=True)
class Snapshot:
    """Values of a row under the names of its columns."""

    @classmethod
    def of(cls, row: Any, **more: Any) -> Self:
        """Copy a row; `more` are the values that it does not have itself."""
        names = [one.name for one in fields(cls) if one.name not in more]
        return cls(**{name: getattr(row, name) for name in names}, **more)

    def write_to(self, row: Any) -> None:
        """Write what differs to a row."""
        for name in (one.name for one in fields(self) if one.name in row.__table__.c):
            value = getattr(self, name)
            if getattr(row, name) != value:
                setattr(row, name, str(value) if isinstance(value, StrEnum) else value)


@dataclass(frozen=True)
class PackageSnapshot(Snapshot):
    """The terms of a package; with `bill_missed`, periods that nobody could charge are charged."""

    id: int
    period: PeriodUnit
    period_count: int
    retry_attempts: int
    retry_interval_seconds: int
    at_retry_end: AtRetryEnd
    charged: ChargeTime
    bill_missed: bool = False

    @property
    def rhythm(self) -> Rhythm:
        """Return how long its periods are."""
        return PeriodUnit(self.period), self.period_count


@dataclass(frozen=True)
class SubscriptionSnapshot(Snapshot):
    """A subscription; `rhythm` is that of its package. One that has no `id` is yet to be made."""

    id: int | None
    customer_id: int
    package_id: int
    rhythm: Rhythm
    state: SubscriptionState
    anchor_at: datetime
    current_period_start: datetime
    ended_at: datetime
    due_at: datetime | None = None
    next_package_id: int | None = None
    refusals: int = 0
    refused_at: datetime | None = None
    not_taken: int = 0
    past_due_at: datetime | None = None
    exhausted_at: datetime | None = None
    canceled_at: datetime | None = None


@dataclass(frozen=True)
class PaymentSnapshot(Snapshot):
    """A payment; amounts are in minor units of its currency."""

    id: UUID
    customer_id: int
    package_id: int
    subscription_id: int | None
    state: PaymentState
    trigger: Trigger
    amount: int
    currency: str
    created_at: datetime
    due_at: datetime | None
    refunded_amount: int = 0
    period_start: datetime | None = None
    period_end: datetime | None = None
    external_id: str | None = None
    confirmation_url: str | None = None
    reason: str | None = None
    is_answered: bool = False
    settled_at: datetime | None = None
    claim_id: UUID | None = None
    claimed_until: datetime | None = None
