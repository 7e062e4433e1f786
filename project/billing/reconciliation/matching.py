"""Two-sided reconciliation of a stretch of time: each difference is a case, repaired where it can.

Nothing is guessed: a payment of the provider whose metadata do not name a package of ours, or
whose amount differs, is left open for people, with both sides as evidence.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import ARRAY, ColumnElement, Row, any_, literal, select, tuple_

from project.billing import cases, queries
from project.billing.models import Payment
from project.billing.payments.settlement import apply
from project.billing.providers import listing
from project.billing.providers.base import (
    NotThere,
    Page,
    PaymentProvider,
    ProviderPayment,
    ProviderStatus,
    Unknown,
    Unreadable,
)
from project.billing.providers.listing import BooksUnreadable, own_id_in
from project.billing.providers.registry import listing_providers
from project.billing.reconciliation.repairs import Repairs
from project.billing.settings import BillingSettings
from project.billing.states import CaseKind, PaymentState
from project.config.environment import get_settings
from project.core.db.transaction import transaction
from project.core.net import http_client
from project.extensions import db

log = structlog.get_logger()

# Clocks of two companies differ: ours is asked a little further than theirs.
TOLERANCE = timedelta(minutes=5)
PAID_WITHIN = timedelta(days=90)
# What was seen there is remembered for a stretch and its neighbours, not for the whole.
SHORTEST_STRETCH = timedelta(hours=6)
MOST_STRETCHES = 12
OURS_AT_ONCE = 1000
PAGES_AT_ONCE = 10
UNDECIDED = (ProviderStatus.PENDING, ProviderStatus.WAITING_FOR_CAPTURE)

Theirs = ProviderPayment | Unreadable
Ours = Row[*tuple[Any, ...]]
"""Of a payment of ours: id, external_id, state, amount, currency, refunded_amount."""
Asked = ProviderPayment | NotThere | Unknown


@dataclass
class Report:
    """How many payments of the provider were read, and what cases came of it.

    `failed` counts payments whose comparison broke off; they are compared again by the next run.
    """

    read: int = 0
    failed: int = 0
    cases: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Report") -> None:
        """Count what another report found as well."""
        self.read += other.read
        self.failed += other.failed
        self.cases.update(other.cases)


def reconcile_all(start: datetime, end: datetime) -> tuple[Report, dict[str, str]]:
    """Compare the books of every provider that has some with ours.

    Returns what was found, and by provider why its books could not be read to the end: one that
    is away holds up no other.
    """
    report = Report()
    unread: dict[str, str] = {}
    for provider in listing_providers():
        try:
            report.add(reconcile(provider, start, end))
        except BooksUnreadable as error:
            log.warning("reconciliation.interrupted", provider=provider.name, reason=str(error))
            unread[provider.name] = str(error)
    return report, unread


def reconcile(provider: PaymentProvider, start: datetime, end: datetime) -> Report:
    """Compare both sides over payments made from start to end.

    What is paid here is looked for in what was just read there; only what is missing there is
    asked for by its id. Raises BooksUnreadable when the provider does not give all of its pages;
    what was found until then is recorded, and the next run begins anew.
    """
    report = Report()
    if provider.lists_by_capture:
        # Begun before, and paid since: a link that was confirmed late, its notice lost.
        match_successful(provider, start - PAID_WITHIN, start - TOLERANCE, report, start)
    waiting: tuple[datetime, datetime] | None = None
    seen: list[set[str]] = [set(), set(), set()]
    for since, until in _stretches(start, end):
        read_from = since - TOLERANCE if since == start else since
        read_before = until + TOLERANCE if until == end else until
        seen = [*seen[1:], match_successful(provider, read_from, read_before, report)]
        if waiting is not None:
            _look_for_ours(provider, *waiting, set().union(*seen), report)
        waiting = (since, until)
    if waiting is not None:
        _look_for_ours(provider, *waiting, set().union(*seen), report)
    return report


def _stretches(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    length = max(SHORTEST_STRETCH, (end - start) / MOST_STRETCHES)
    while start < end:
        until = min(start + length, end)
        yield start, until
        start = until


def match_under_way(provider: PaymentProvider, start: datetime, end: datetime) -> None:
    """Write down what is under way at the provider, was begun by us and is missing here.

    Such payments are lost with a database's last transactions; nobody is to begin them again.
    Raises BooksUnreadable.
    """
    for status in UNDECIDED:
        reading = listing.pages(provider, start, end, status)
        try:
            while some := http_client.start(_next_pages(reading)).result():
                items = [item for page in some for item in page.items]
                with transaction():
                    by_external_id, by_own_id = _known(provider.name, items)
                    Repairs(provider.name).of_under_way(
                        [
                            item
                            for item in items
                            if item.external_id not in by_external_id
                            and own_id_in(item) not in by_own_id
                        ]
                    )
        finally:
            http_client.start(reading.aclose()).result()


def match_successful(
    provider: PaymentProvider,
    start: datetime,
    end: datetime,
    report: Report,
    captured_from: datetime | None = None,
) -> set[str]:
    """Record what succeeded at the provider and is missing or pending here; return its ids."""
    seen: set[str] = set()
    reading = listing.pages(provider, start, end, ProviderStatus.SUCCEEDED, captured_from)
    try:
        while some := http_client.start(_next_pages(reading)).result():
            readable = [item for page in some for item in page.items]
            unreadable = [item for page in some for item in page.unreadable]
            report.read += len(readable) + len(unreadable)
            seen.update(item.external_id for item in readable)
            seen.update(item.external_id for item in unreadable if item.external_id is not None)
            _compare_apart(provider.name, [*unreadable, *readable], report)
    finally:
        http_client.start(reading.aclose()).result()
    return seen


async def _next_pages(reading: AsyncGenerator[Page, None]) -> list[Page]:
    """Return the next pages, as many as are compared at once; none at the end."""
    some: list[Page] = []
    while len(some) < PAGES_AT_ONCE:
        page = await anext(reading, None)
        if page is None:
            break
        some.append(page)
    return some


def _compare_apart(provider_name: str, items: Sequence[Theirs], report: Report) -> None:
    """Compare items in one transaction; if one breaks it off, each half in its own."""
    try:
        with transaction():
            found = _compare(provider_name, items)
    except Exception:
        if len(items) == 1:
            log.exception("reconciliation.item_failed", external_id=items[0].external_id)
            report.failed += 1
            return
        middle = len(items) // 2
        _compare_apart(provider_name, items[:middle], report)
        _compare_apart(provider_name, items[middle:], report)
        return
    report.cases.update(found)


def _compare(provider_name: str, items: Sequence[Theirs]) -> Counter[str]:
    readable = [item for item in items if isinstance(item, ProviderPayment)]
    by_external_id, by_own_id = _known(provider_name, readable)
    repairs = Repairs(provider_name)
    missing: list[ProviderPayment] = []
    for item in items:
        if isinstance(item, Unreadable):
            repairs.of_unreadable(item)
            continue
        own_id = own_id_in(item)
        ours = by_external_id.get(item.external_id) or by_own_id.get(own_id)
        if ours is None:
            missing.append(item)
        elif not _agrees(ours, item):
            repairs.of_known(ours.id, item)
    repairs.of_missing(missing)
    return repairs.write()


def _known(
    provider_name: str, items: Iterable[ProviderPayment]
) -> tuple[Mapping[str | None, Ours], Mapping[UUID | None, Ours]]:
    """Return our payments of these items, by external id and by their own, in two index scans."""
    external_ids = [item.external_id for item in items]
    own_ids = [own_id for item in items if (own_id := own_id_in(item))]
    table = queries.payments
    names = ("id", "external_id", "state", "amount", "currency", "refunded_amount")
    ours = select(*(table.c[name] for name in names)).where(table.c.provider == provider_name)
    by_external_id = {
        row.external_id: row
        for row in db.session.execute(ours.where(_is_one_of(table.c.external_id, external_ids)))
    }
    by_own_id = {row.id: row for row in by_external_id.values()}
    others = [own_id for own_id in own_ids if own_id not in by_own_id]
    if others:
        rows = db.session.execute(ours.where(_is_one_of(table.c.id, others)))
        by_own_id.update((row.id, row) for row in rows)
    return by_external_id, by_own_id


def _is_one_of(column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """Hold for one of many values, sent as one array."""
    return column == any_(literal(list(values), ARRAY(column.type)))


def _agrees(ours: Ours, item: ProviderPayment) -> bool:
    """Tell whether both sides say the same, as nearly all do: nothing more is read for it."""
    return (
        ours.state == PaymentState.SUCCEEDED
        and ours.external_id == item.external_id
        and (ours.amount, ours.currency) == (item.amount, item.currency)
        and ours.refunded_amount >= item.refunded_amount
    )


def _look_for_ours(
    provider: PaymentProvider, start: datetime, end: datetime, seen: set[str], report: Report
) -> None:
    """Ask by id for what was paid here from start to end and was not seen there."""
    after: tuple[datetime, UUID] | None = None
    while True:
        some = _paid_here(provider.name, start, end, after)
        unseen = [row for row in some if row.external_id not in seen]
        asked = http_client.start(_ask(provider, unseen)).result()
        for row, word in zip(unseen, asked, strict=True):
            report.cases.update(_compare_ours(row.id, word))
        if len(some) < OURS_AT_ONCE:
            return
        after = (some[-1].settled_at, some[-1].id)


def _paid_here(
    provider_name: str, start: datetime, end: datetime, after: tuple[datetime, UUID] | None
) -> Sequence[Row[*tuple[Any, ...]]]:
    table = queries.payments
    statement = (
        select(table.c.id, table.c.external_id, table.c.settled_at)
        .where(
            table.c.provider == provider_name,
            table.c.state == str(PaymentState.SUCCEEDED),
            table.c.external_id.is_not(None),
            table.c.settled_at >= start,
            table.c.settled_at < end,
        )
        .order_by(table.c.settled_at, table.c.id)
        .limit(OURS_AT_ONCE)
    )
    if after is not None:
        statement = statement.where(tuple_(table.c.settled_at, table.c.id) > after)
    with transaction():
        return db.session.execute(statement).all()


async def _ask(
    provider: PaymentProvider, payments: Sequence[Row[*tuple[Any, ...]]]
) -> Sequence[Asked]:
    places = asyncio.Semaphore(get_settings(BillingSettings).provider_concurrency)

    async def ask(external_id: str) -> Asked:
        async with places:
            return await provider.get(external_id)

    return await asyncio.gather(*(ask(payment.external_id) for payment in payments))


def _compare_ours(payment_id: UUID, result: Asked) -> Sequence[CaseKind]:
    """Compare a payment that is paid here with what the provider says to its id since."""
    is_undecided = isinstance(result, ProviderPayment) and result.status in UNDECIDED
    with transaction():
        if not is_undecided and not isinstance(result, NotThere):
            return apply([(payment_id, result)]).cases
        unpaid, unknown = CaseKind.PAID_HERE_UNPAID_THERE, CaseKind.PAID_HERE_UNKNOWN_THERE
        kind = unpaid if is_undecided else unknown
        payment = db.session.get_one(Payment, payment_id, populate_existing=True)
        cases.open_cases([cases.new_case(kind, payment.provider, payment, result)])
        return [kind]
