"""Reading the provider's books, page by page to the last."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from project.billing.providers.base import (
    Page,
    PaymentProvider,
    ProviderPayment,
    ProviderStatus,
    Unknown,
)

MAX_PAGES = 100_000
READ_AHEAD = 10
GATHER_SECONDS = 0.05
GATHERED_WITHIN = timedelta(hours=1)


class BooksUnreadable(Exception):
    """The provider did not give the next page; what was read so far is not the whole."""


async def pages(
    provider: PaymentProvider,
    created_from: datetime,
    created_before: datetime,
    status: ProviderStatus | None = None,
    captured_from: datetime | None = None,
) -> AsyncGenerator[Page, None]:
    """Give every page of a stretch of time; a few are read ahead while these are used.

    `captured_from` is for a provider that `lists_by_capture`. Raises BooksUnreadable when a page
    does not come.
    """

    captured: dict[str, Any] = {} if captured_from is None else {"captured_from": captured_from}

    async def ask(cursor: str | None) -> Page:
        page = await provider.page(
            created_from=created_from,
            created_before=created_before,
            status=status,
            cursor=cursor,
            **captured,
        )
        if isinstance(page, Unknown):
            raise BooksUnreadable(page.reason)
        return page

    ahead: asyncio.Queue[Page | BooksUnreadable | None] = asyncio.Queue(READ_AHEAD)
    reader = asyncio.create_task(_read_ahead(ask, ahead))
    try:
        while (page := await ahead.get()) is not None:
            if isinstance(page, BooksUnreadable):
                raise page
            yield page
    finally:
        reader.cancel()


async def _read_ahead(
    ask: Callable[[str | None], Awaitable[Page]],
    ahead: asyncio.Queue[Page | BooksUnreadable | None],
) -> None:
    cursor: str | None = None
    try:
        for _ in range(MAX_PAGES):
            page = await ask(cursor)
            await ahead.put(page)
            if page.next_cursor is None or page.next_cursor == cursor:
                break
            cursor = page.next_cursor
        await ahead.put(None)
    except BooksUnreadable as error:
        await ahead.put(error)


@dataclass
class _Reading:
    """One reading of the books for all payments that are looked for at about the same time."""

    created_from: datetime
    created_before: datetime
    wanted: set[UUID] = field(default_factory=set)
    found: asyncio.Task[dict[UUID, ProviderPayment]] | None = None


class BookSearch:
    """Looks for payments by our id; those that are looked for together are one reading.

    After an outage thousands of payments wait, and each would else read the same pages.
    """

    def __init__(self) -> None:
        self._gathering: dict[tuple[str, int, timedelta], _Reading] = {}

    async def find(
        self,
        provider: PaymentProvider,
        payment_id: UUID,
        created_from: datetime,
        created_before: datetime,
    ) -> ProviderPayment | Unknown | None:
        """Return the payment that carries our id in its metadata; None if it is not there."""
        reading = self._join(provider, payment_id, created_from, created_before)
        assert reading.found is not None
        try:
            return (await reading.found).get(payment_id)
        except BooksUnreadable as error:
            return Unknown(str(error))

    def _join(
        self,
        provider: PaymentProvider,
        payment_id: UUID,
        created_from: datetime,
        created_before: datetime,
    ) -> _Reading:
        hour = int(created_from.timestamp() // GATHERED_WITHIN.total_seconds())
        length = round((created_before - created_from) / GATHERED_WITHIN) * GATHERED_WITHIN
        key = (provider.name, hour, length)
        reading = self._gathering.get(key)
        if reading is None:
            reading = self._gathering[key] = _Reading(created_from, created_before)
            reading.found = asyncio.create_task(self._read(provider, key, reading))
        reading.wanted.add(payment_id)
        reading.created_from = min(reading.created_from, created_from)
        reading.created_before = max(reading.created_before, created_before)
        return reading

    async def _read(
        self, provider: PaymentProvider, key: tuple[str, int, timedelta], reading: _Reading
    ) -> dict[UUID, ProviderPayment]:
        await asyncio.sleep(GATHER_SECONDS)
        del self._gathering[key]
        found: dict[UUID, ProviderPayment] = {}
        async for page in pages(provider, reading.created_from, reading.created_before):
            for item in page.items:
                own_id = own_id_in(item)
                if own_id is not None and own_id in reading.wanted:
                    found.setdefault(own_id, item)
            if len(found) == len(reading.wanted):
                break
        return found


def own_id_in(item: ProviderPayment) -> UUID | None:
    """Return the id of ours that a payment carries in its metadata."""
    try:
        return UUID(item.metadata.get("payment_id") or "")
    except ValueError:
        return None
