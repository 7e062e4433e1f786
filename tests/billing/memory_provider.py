"""A payment provider in memory: a second adapter in one file, with trouble to order."""

from collections import Counter, defaultdict, deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from project.billing.providers.base import (
    Charge,
    NotThere,
    Page,
    PaymentProvider,
    ProviderPayment,
    ProviderStatus,
    Rejected,
    Unknown,
)

KEYS_LIVE_FOR = timedelta(hours=24)
SAVED = "saved-"
HARD = frozenset({"card_expired", "permission_revoked"})
LOST_AFTER_THE_WORK = "lost after the work"
LOST_BEFORE_THE_WORK = "lost before the work"


class MemoryProvider(PaymentProvider):
    """Payments kept in a dictionary.

    An outcome is "succeeded", "pending", or "canceled:reason"; what is scripted for a payment
    method comes first, then `default`. Each entry of `trouble` befalls one call of `create`.
    """

    name = "memory"
    page_size = 10

    def __init__(self) -> None:
        self.offset = timedelta()
        self.default = "succeeded"
        self.is_down = False
        self.trouble: deque[str | None] = deque()
        self.scripts: defaultdict[str, deque[str]] = defaultdict(deque)
        self.books: dict[str, ProviderPayment] = {}
        self.made_with: dict[UUID, str] = {}
        self.asked: Counter[UUID] = Counter()

    def now(self) -> datetime:
        """Return the provider's time."""
        return datetime.now(UTC) + self.offset

    async def create(self, charge: Charge) -> ProviderPayment | Rejected | Unknown:
        """Draw money; the same key again is the same payment for a day."""
        self.asked[charge.payment_id] += 1
        trouble = self.trouble.popleft() if self.trouble else None
        if self.is_down or trouble == LOST_BEFORE_THE_WORK:
            return Unknown("no answer")
        made = self.made_with.get(charge.payment_id)
        if made is None or self.now() - self.books[made].created_at >= KEYS_LIVE_FOR:
            if charge.amount <= 0:
                return Rejected("the amount is not above zero")
            made = self._draw(charge)
        return Unknown("no answer") if trouble == LOST_AFTER_THE_WORK else self.books[made]

    def _draw(self, charge: Charge) -> str:
        method = charge.payment_method_id
        confirmed_at = f"memory://confirm/{charge.payment_id}" if method is None else None
        made = self.add(
            charge.amount, charge.currency, dict(charge.metadata), confirmation_url=confirmed_at
        )
        self.made_with[charge.payment_id] = made
        if method is not None:
            script = self.scripts[method]
            self.settle(made, script.popleft() if script else self.default)
        return made

    def add(
        self,
        amount: int,
        currency: str,
        metadata: dict[str, str],
        outcome: str = "pending",
        confirmation_url: str | None = None,
    ) -> str:
        """Put a payment into the books and return its id."""
        made = str(uuid4())
        self.books[made] = ProviderPayment(
            made,
            ProviderStatus.PENDING,
            amount,
            currency,
            self.now(),
            metadata,
            confirmation_url=confirmation_url,
        )
        self.settle(made, outcome)
        return made

    def settle(self, external_id: str, outcome: str) -> None:
        """Give a pending payment its outcome; one that a person confirmed saves the method."""
        status, _, reason = outcome.partition(":")
        payment = self.books[external_id]
        confirmed = payment.confirmation_url is not None and status == ProviderStatus.SUCCEEDED
        self.books[external_id] = replace(
            payment,
            status=ProviderStatus(status),
            reason=reason or None,
            is_hard=reason in HARD,
            saved_method_id=f"{SAVED}{external_id}" if confirmed else None,
        )

    async def get(self, external_id: str) -> ProviderPayment | NotThere | Unknown:
        """Return a payment."""
        if self.is_down:
            return Unknown("no answer")
        return self.books.get(external_id) or NotThere()

    async def page(
        self,
        *,
        created_from: datetime,
        created_before: datetime,
        status: ProviderStatus | None = None,
        cursor: str | None = None,
    ) -> Page | Unknown:
        """Return one page, newest first; the cursor is how many came before."""
        if self.is_down:
            return Unknown("no answer")
        found = [
            payment
            for payment in reversed(self.books.values())
            if created_from <= payment.created_at < created_before
            and status in (None, payment.status)
        ]
        first = int(cursor or 0)
        end = first + self.page_size
        return Page(found[first:end], [], str(end) if end < len(found) else None)

    def paid(self) -> list[ProviderPayment]:
        """Return what was paid."""
        return [one for one in self.books.values() if one.status is ProviderStatus.SUCCEEDED]
