"""What a payment provider can be asked, and what it can answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID


class ProviderStatus(StrEnum):
    """What a provider says of a payment."""

    PENDING = "pending"
    WAITING_FOR_CAPTURE = "waiting_for_capture"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Charge:
    """Money to be drawn. `payment_id` is the idempotence key; `amount` is in minor units.

    With a saved `payment_method_id` nobody is asked; without one, the customer confirms at the
    provider and comes back to `return_url`. `plan` is the unit of the period that is paid for,
    such as day, for a provider that keeps the prices.
    """

    payment_id: UUID
    amount: int
    currency: str
    payment_method_id: str | None
    return_url: str | None
    description: str
    metadata: Mapping[str, str]
    plan: str | None = None


@dataclass(frozen=True)
class ProviderPayment:
    """A payment in the provider's books; `is_hard` refusals will not change by trying again."""

    external_id: str
    status: ProviderStatus
    amount: int
    currency: str
    created_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None
    is_hard: bool = False
    saved_method_id: str | None = None
    confirmation_url: str | None = None
    names_amount: bool = True
    """False where the provider keeps the prices and says none; `amount` is then ours, or 0."""
    refunded_amount: int = 0
    """How much of it was given back so far, in minor units."""


@dataclass(frozen=True)
class Unknown:
    """No answer that says what became of it: it may have been done, and must be asked for."""

    reason: str


@dataclass(frozen=True)
class Unreadable(Unknown):
    """A payment of the provider that cannot be read, as it was `said`; nothing in it is guessed.

    `external_id` is there if at least that could be read. `is_of_request` if it was the answer to
    a request for money: that one may have been done, and is never sent again.
    """

    external_id: str | None
    said: str
    is_of_request: bool = False


@dataclass(frozen=True)
class NeverMade:
    """The provider's books, read in full, have no such payment, and nobody can make it any more."""

    reason: str


@dataclass(frozen=True)
class Rejected:
    """The provider did not take the request: no payment came of it.

    `is_key_used` if it is because the same key has made another payment before.
    """

    reason: str
    is_key_used: bool = False


@dataclass(frozen=True)
class NotThere:
    """The provider has no such payment."""


@dataclass(frozen=True)
class TimedOut:
    """The provider was asked for the last time, and has still not decided."""

    reason: str = "no answer in time"


ProviderResult = ProviderPayment | Rejected | Unknown | NotThere | NeverMade | TimedOut
"""What there is to say of a payment; of these, providers themselves give all but the last two."""


@dataclass(frozen=True)
class Page:
    """Some payments, and where the next ones are; without a cursor they were the last."""

    items: Sequence[ProviderPayment]
    unreadable: Sequence[Unreadable]
    next_cursor: str | None


class PaymentProvider(Protocol):
    """A place that draws money. Outside trouble is an answer; nothing is raised for it.

    A provider that cannot list its payments sets `has_listing` to False: it is never compared as
    a whole, its `page` is never asked for, and `get` takes our payment's id for its own. One that
    cannot even be asked so sets `has_inquiry` to False: nothing is sent to it twice, and a payment
    without an answer is left to people. `max_sends` is how often one request may be sent.
    `currencies` are those that it draws, None for any; `max_amount` is the most that it draws at
    once, in minor units. One with `lists_by_capture` takes `captured_from` in `page`: what was
    paid from then on, whenever it was begun.
    """

    name: str
    has_listing: bool = True
    has_inquiry: bool = True
    max_sends: int | None = None
    currencies: frozenset[str] | None = None
    max_amount: int | None = None
    lists_by_capture: bool = False

    async def create(self, charge: Charge) -> ProviderPayment | Rejected | Unknown:
        """Draw money; the same payment_id again is the same payment."""

    async def get(self, external_id: str) -> ProviderPayment | NotThere | Unknown:
        """Return a payment."""

    async def page(
        self,
        *,
        created_from: datetime,
        created_before: datetime,
        status: ProviderStatus | None = None,
        cursor: str | None = None,
    ) -> Page | Unknown:
        """Return one page of the payments made in a stretch of time."""
