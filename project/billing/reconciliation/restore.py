"""After a restore: the providers' books are read before anybody is charged."""

from datetime import timedelta

import structlog

from project.billing import installation, queries
from project.billing.providers.listing import BooksUnreadable
from project.billing.providers.registry import listing_providers
from project.billing.reconciliation import matching
from project.core import clock
from project.core.db.transaction import transaction

log = structlog.get_logger()

# Our clock may stand where it stood at the backup, as a test clock does: the database keeps it.
CLOCK_BEHIND = timedelta(days=366)


def read_books() -> bool:
    """Read what the database may have lost, if it was restored; tell whether charges may go on.

    What was paid is recorded, and what is under way is waited for. While a provider's books cannot
    be read, charges stay held.
    """
    with transaction():
        held = installation.hold()
    if held is None:
        return True
    if held.unread_from is None:
        return False
    with transaction():
        in_use = queries.providers_in_use()
    end = clock.now()
    for provider in listing_providers():
        if provider.name not in in_use:
            continue
        try:
            report = matching.reconcile(provider, held.unread_from, end)
            report.add(matching.reconcile(provider, end, end + CLOCK_BEHIND))
            matching.match_under_way(provider, held.unread_from, end + CLOCK_BEHIND)
        except BooksUnreadable as error:
            log.error("charges.held", provider=provider.name, books_unreadable=str(error))
            return False
        if report.failed:
            log.error("charges.held", provider=provider.name, not_compared=report.failed)
            return False
    installation.note_books_read(held.unread_from)
    with transaction():
        return installation.hold() is None
