"""The payments of YooKassa, found by id, by idempotence key and by time."""

import heapq
import itertools
import random
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from simulator.clock import Clock
from simulator.yookassa.outcomes import CANCELED, SUCCEEDED, WAITING_FOR_CAPTURE, Outcome
from simulator.yookassa.payments import NEWEST, OLDEST, Order, Payment

KEPT_PAYMENTS = 200_000
FORGOTTEN_AT_ONCE = 2_000
KEYS_LIVE_FOR = timedelta(hours=24)
CAPTURE_WITHIN = timedelta(days=7)
EXPIRED_ON_CAPTURE = Outcome(CANCELED, "expired_on_capture")
IDS_COUNT_FROM = datetime(2000, 1, 1, tzinfo=UTC)


class Timeline:
    """Payments by the time of their creation; a page of them costs no more than its length."""

    def __init__(self) -> None:
        self._payments: list[Payment] = []

    def __len__(self) -> int:
        return len(self._payments)

    def add(self, payment: Payment) -> None:
        """Put a payment in its place, which is nearly always the end."""
        if not self._payments or self._payments[-1].order < payment.order:
            self._payments.append(payment)
        else:
            insort(self._payments, payment, key=_order)

    def remove(self, payment: Payment) -> None:
        """Take a payment out."""
        del self._payments[bisect_left(self._payments, payment.order, key=_order)]

    def oldest(self, count: int) -> list[Payment]:
        """Return the first payments."""
        return self._payments[:count]

    def newest_first(self, low: Order = OLDEST, high: Order = NEWEST) -> Iterator[Payment]:
        """Give the payments from `low` on and before `high`."""
        first = bisect_left(self._payments, low, key=_order)
        end = bisect_left(self._payments, high, key=_order)
        for index in range(end - 1, first - 1, -1):
            yield self._payments[index]


class PaymentStore:
    """All payments; `on_final` is called with each one that becomes final."""

    def __init__(self, clock: Clock, on_final: Callable[[Payment], None]) -> None:
        self._clock = clock
        self._on_final = on_final
        self.reset()

    def reset(self) -> None:
        """Forget all payments."""
        self._numbers = itertools.count(1)
        self._by_id: dict[str, Payment] = {}
        self._by_key: dict[str, Payment] = {}
        self._due: list[tuple[datetime, int, Payment]] = []
        self.all = Timeline()
        self.by_status: defaultdict[str, Timeline] = defaultdict(Timeline)

    async def now(self) -> datetime:
        """Return the time, with everything settled that was to settle by then."""
        now = await self._clock.now()
        while self._due and self._due[0][0] <= now:
            at, _, payment = heapq.heappop(self._due)
            if payment.becomes and payment.settles_at == at and payment.id in self._by_id:
                self.settle(payment, payment.becomes, at)
        return now

    def get(self, payment_id: str) -> Payment | None:
        """Return a payment."""
        return self._by_id.get(payment_id)

    def made_with(self, idempotence_key: str, now: datetime) -> Payment | None:
        """Return the payment that a key made, as long as the key lives."""
        payment = self._by_key.get(idempotence_key)
        if payment is None or now - payment.created_at >= KEYS_LIVE_FOR:
            return None
        return payment

    def add(self, payment: Payment, created_at: datetime) -> None:
        """Enter a pending payment and give it its id."""
        if len(self.all) >= KEPT_PAYMENTS:
            for old in self.all.oldest(FORGOTTEN_AT_ONCE):
                self.forget(old)
        created_at = _whole_milliseconds(created_at)
        payment.order = (created_at, next(self._numbers))
        payment.id = _new_id(created_at)
        self._by_id[payment.id] = payment
        if payment.idempotence_key is not None:
            self._by_key[payment.idempotence_key] = payment
        self.all.add(payment)
        self.by_status[payment.status].add(payment)

    def forget(self, payment: Payment) -> None:
        """Take a payment and its key out of the books, as if they had never been."""
        del self._by_id[payment.id]
        key = payment.idempotence_key
        if key is not None and self._by_key.get(key) is payment:
            del self._by_key[key]
        self.all.remove(payment)
        self.by_status[payment.status].remove(payment)

    def settle(self, payment: Payment, outcome: Outcome, at: datetime) -> None:
        """Give an open payment its next status, and tell if that is the last one."""
        self.change(payment, outcome, at)
        if payment.status == SUCCEEDED and payment.save_method:
            payment.method_saved = True
        if payment.is_final:
            self._on_final(payment)

    def change(self, payment: Payment, outcome: Outcome, at: datetime) -> None:
        """Set the status of any payment, and tell nobody."""
        self.by_status[payment.status].remove(payment)
        payment.status = outcome.status
        payment.reason = outcome.reason
        payment.becomes = payment.settles_at = None
        if payment.status == SUCCEEDED:
            payment.captured_at = _whole_milliseconds(at)
        elif payment.status == WAITING_FOR_CAPTURE:
            self.settle_later(payment, EXPIRED_ON_CAPTURE, at + CAPTURE_WITHIN)
        self.by_status[payment.status].add(payment)

    def settle_later(self, payment: Payment, becomes: Outcome, at: datetime) -> None:
        """Let an open payment settle by itself once the time is `at`."""
        payment.becomes, payment.settles_at = becomes, at
        heapq.heappush(self._due, (at, next(self._numbers), payment))


def _order(payment: Payment) -> Order:
    return payment.order


def _whole_milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _new_id(created_at: datetime) -> str:
    """Return an id as YooKassa makes them: the seconds since 2000, then chance."""
    seconds = int((created_at - IDS_COUNT_FROM).total_seconds()) & 0xFFFFFFFF
    chance = f"{random.getrandbits(60):015x}"
    return f"{seconds:08x}-000f-5000-{8 + random.getrandbits(2):x}{chance[:3]}-{chance[3:]}"
