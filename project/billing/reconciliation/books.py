"""Reading the provider's books, page by page to the last."""

from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

from project.billing.providers.base import (
    Page,
    PaymentProvider,
    ProviderPayment,
    ProviderStatus,
    Unknown,
)

MAX_PAGES = 100_000


class BooksUnreadable(Exception):
    """The provider did not give the next page; what was read so far is not the whole."""


async def pages(
    provider: PaymentProvider,
    created_from: datetime,
    created_before: datetime,
    status: ProviderStatus | None = None,
) -> AsyncIterator[Page]:
    """Give every page of a stretch of time. Raises BooksUnreadable when one does not come."""
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await provider.page(
            created_from=created_from, created_before=created_before, status=status, cursor=cursor
        )
        if isinstance(page, Unknown):
            raise BooksUnreadable(page.reason)
        yield page
        if page.next_cursor is None or page.next_cursor == cursor:
            return
        cursor = page.next_cursor


async def find_by_payment_id(
    provider: PaymentProvider, payment_id: UUID, created_from: datetime, created_before: datetime
) -> ProviderPayment | Unknown | None:
    """Return the payment that carries our id in its metadata; None if it is not in the books."""
    try:
        async for page in pages(provider, created_from, created_before):
            for item in page.items:
                if item.metadata.get("payment_id") == str(payment_id):
                    return item
    except BooksUnreadable as error:
        return Unknown(str(error))
    return None
