"""Asking after payments whose end is not known: soon and often, and once more before expiry."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, select

from project.billing import queries
from project.billing.payments.charging import (
    KEY_LIVES_FOR,
    KEY_USED,
    LATE_CHARGES_DUE,
    ask_by_our_id,
)
from project.billing.payments.settlement import apply
from project.billing.providers.base import (
    NeverMade,
    NotThere,
    ProviderPayment,
    ProviderResult,
    ProviderStatus,
    TimedOut,
    Unknown,
)
from project.billing.providers.listing import BookSearch
from project.billing.providers.registry import provider_named
from project.billing.settings import BillingSettings
from project.config.environment import get_settings
from project.core import clock
from project.core.work.claims import claim, due, is_free, lease_for
from project.core.work.queues import QueueName, Wakeup, wake
from project.extensions import db

INQUIRIES_DUE = Wakeup(
    "match-pending-payments", QueueName.MEDIUM, "project.billing.jobs.match_pending"
)
EXPIRIES_DUE = Wakeup("expire-payments", QueueName.MEDIUM, "project.billing.jobs.expire_payments")
COUNT_AT_MOST = 10_000_000
SEARCHED_AROUND = timedelta(hours=1)
# When this old, a payment is sent no more and nothing that was sent is still on its way.
SENT_BEFORE = KEY_LIVES_FOR + timedelta(minutes=30)
NOT_FOUND = "not in the provider's books around its time"
NEVER_MADE = "not in the provider's books: the request never reached it"


class PendingInquiry:
    """Pending payments whose turn has come, as the pump works through them."""

    wakeup = INQUIRIES_DUE

    def __init__(self) -> None:
        settings = get_settings(BillingSettings)
        self.capacity = settings.provider_concurrency
        self.armful = settings.provider_concurrency
        self._search = BookSearch()

    def claim(self, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
        """Claim pending payments that have waited the longest for an answer."""
        columns = queries.payments.c
        return claim(
            queries.payments,
            self._candidates(limit),
            lease=lease_for(get_settings(BillingSettings).provider_timeout_seconds * 2),
            returning=[
                columns.id,
                columns.claim_id,
                columns.provider,
                columns.external_id,
                columns.created_at,
                columns.reason,
                columns.is_answered,
            ],
        ).rows

    def _candidates(self, limit: int) -> Select[Any]:
        return due(queries.payments, now=clock.now(), limit=limit)

    async def call(self, payment: Row[*tuple[Any, ...]]) -> ProviderResult:
        """Ask the provider: by its id if we know it, else by looking for ours in its books."""
        provider = provider_named(payment.provider)
        if payment.external_id is not None:
            return await provider.get(payment.external_id)
        is_over = _is_sent_no_more(payment)
        if not provider.has_listing:
            word = await ask_by_our_id(payment, provider)
            return NeverMade(NEVER_MADE) if is_over and isinstance(word, NotThere) else word
        searched_from = KEY_LIVES_FOR if payment.reason == KEY_USED else timedelta()
        searched_until = SENT_BEFORE if is_over else timedelta()
        found = await self._search.find(
            provider,
            payment.id,
            payment.created_at - searched_from - SEARCHED_AROUND,
            payment.created_at + searched_until + SEARCHED_AROUND,
        )
        if found is None and payment.reason == KEY_USED:
            return Unknown(KEY_USED)
        return found or (NeverMade(NEVER_MADE) if is_over else Unknown(NOT_FOUND))

    def record(self, results: Sequence[tuple[Row[*tuple[Any, ...]], ProviderResult]]) -> None:
        """Settle what is decided; one found paid is a case that is resolved by it.

        What never reached the provider is charged anew: by tomorrow's run it might have expired.
        """
        self._apply([(payment.id, result) for payment, result in results])

    def _apply(self, results: Sequence[tuple[UUID, ProviderResult]]) -> None:
        apply(results, found={payment_id for payment_id, _ in results})
        if any(isinstance(result, NeverMade) for _, result in results):
            wake(LATE_CHARGES_DUE)

    def is_anything_due(self) -> bool:
        """Tell whether a pending payment is to be asked after."""
        return queries.is_inquiry_due()


def _is_sent_no_more(payment: Row[*tuple[Any, ...]]) -> bool:
    """Tell whether a payment is so old that no worker sends it again (see `is_key_alive`)."""
    return bool(clock.now() - payment.created_at > SENT_BEFORE)


def _is_told_undecided(word: ProviderResult) -> bool:
    """Tell whether the provider was reached, and has not decided; a success is for people here."""
    if isinstance(word, ProviderPayment):
        return word.status is not ProviderStatus.SUCCEEDED
    return not isinstance(word, Unknown) or word.reason == NOT_FOUND


class ExpiringInquiry(PendingInquiry):
    """Payments that have been pending too long: the provider is asked once more, then they end."""

    wakeup = EXPIRIES_DUE

    def __init__(self) -> None:
        super().__init__()
        self._asked: set[UUID] = set()

    def claim(self, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
        """Claim payments that have been pending too long; each is asked after once in a run."""
        rows = super().claim(limit)
        self._asked.update(row.id for row in rows)
        return rows

    def _candidates(self, limit: int) -> Select[Any]:
        return self._overdue().limit(limit).with_for_update(skip_locked=True)

    def _overdue(self) -> Select[Any]:
        table = queries.payments
        days = timedelta(days=get_settings(BillingSettings).payment_waiting_days)
        return (
            select(table.c.id)
            .where(
                table.c.due_at.is_not(None),
                table.c.created_at <= clock.now() - days,
                table.c.id.not_in(self._asked),
                is_free(table),
            )
            .order_by(table.c.created_at)
        )

    def record(self, results: Sequence[tuple[Row[*tuple[Any, ...]], ProviderResult]]) -> None:
        """Settle what the provider has decided, and expire the rest if it could be asked."""
        told = [(payment.id, result) for payment, result in results]
        over = [(payment_id, TimedOut()) for payment_id, one in told if _is_told_undecided(one)]
        self._apply([*told, *over])

    def count_due(self) -> int:
        """Count the payments that have been pending too long."""
        waiting = self._overdue().limit(COUNT_AT_MOST).subquery()
        return int(db.session.scalar(select(func.count()).select_from(waiting)) or 0)

    def is_anything_due(self) -> bool:
        """Tell whether a payment is to be expired."""
        return bool(db.session.execute(self._candidates(1)).all())
