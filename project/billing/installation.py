"""Which installation this is, and whether its books can be trusted for charging.

A database that was restored, copied or failed over may lack payments that were made. The row of
the installation says where it was written: the transaction, the database, and the timeline, which
are others after `pg_restore`, after CREATE DATABASE … TEMPLATE, and after a standby was promoted.
Charges are then held until the providers' books have been read since the newest known payment.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import structlog
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Table,
    Text,
    and_,
    cast,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from project.billing.models import Installation, Payment, Subscription
from project.core import clock
from project.core.db.transaction import transaction
from project.extensions import db

log = structlog.get_logger()

RESTORED = "the database was restored, copied or failed over: the provider's books are read first"
BEFORE_THE_NEWEST = timedelta(days=1)
_TRANSACTION_IDS = 2**32

_table: Table = Installation.__table__  # type: ignore[assignment]


@dataclass(frozen=True)
class Hold:
    """Why nothing is charged, since when, and from when on the books are yet to be read.

    Without `unread_from` somebody has ordered it, and it stays until somebody ends it.
    """

    reason: str
    since: datetime
    unread_from: datetime | None


def installation_key() -> UUID:
    """Return the id of this installation, made once; part of the present transaction."""
    found: UUID | None = db.session.scalar(select(Installation.key))
    if found is not None:
        return found
    db.session.execute(
        insert(Installation)
        .values(id=1, key=uuid4(), **_present_place())
        .on_conflict_do_nothing(index_elements=["id"])
    )
    return db.session.scalars(select(Installation.key)).one()


def payment_id(
    installation: UUID, reference: str, subscription_id: int, period_start: datetime, number: int
) -> UUID:
    """Return the idempotence key of a period's payment of this number, counted from 0.

    A restored database comes to the same key, so that the provider answers with the payment that
    it made before.
    """
    meaning = f"{reference}/{subscription_id}/{period_start.timestamp():.6f}/{number}"
    return uuid5(installation, meaning)


def hold() -> Hold | None:
    """Return why charges are held, if they are; part of the present transaction."""
    installation_key()
    found = db.session.execute(
        select(
            _is_here().label("is_here"),
            _table.c.held_since,
            _table.c.hold_reason,
            _table.c.books_unread_from,
        )
    ).one()
    if not found.is_here:
        return _hold_what_was_restored(found.held_since, found.hold_reason)
    if found.held_since is None:
        return None
    return Hold(found.hold_reason, found.held_since, found.books_unread_from)


def _hold_what_was_restored(held_since: datetime | None, reason: str | None) -> Hold:
    now = clock.now()
    unread_from = _newest_known() - BEFORE_THE_NEWEST
    _change(
        held_since=held_since or now,
        hold_reason=reason or RESTORED,
        books_unread_from=unread_from,
        restored_at=now,
    )
    log.error("charges.held", reason=RESTORED, books_unread_from=unread_from.isoformat())
    return Hold(reason or RESTORED, held_since or now, unread_from)


def _newest_known() -> datetime:
    newest = db.session.scalar(select(func.max(Payment.created_at)))
    first = db.session.scalar(select(func.min(Subscription.created_at)))
    return newest or first or clock.now()


def hold_charges(reason: str) -> None:
    """Charge nobody until `release_charges`, in the caller's transaction."""
    installation_key()
    _change(held_since=clock.now(), hold_reason=reason)


def release_charges() -> None:
    """Charge again, in the caller's transaction."""
    installation_key()
    _change(held_since=None, hold_reason=None, books_unread_from=None)
    log.info("charges.released")


def note_books_read(unread_from: datetime) -> None:
    """Say that the books have been read from there on; end the hold if it was for that only."""
    with transaction():
        found = hold()
        if found is None or found.unread_from != unread_from:
            return
        if found.reason == RESTORED:
            release_charges()
        else:
            _change(books_unread_from=None)


def hold_reason() -> str | None:
    """Return why charges are held, as it was found when somebody last was to be charged."""
    return db.session.scalar(select(Installation.hold_reason))


def restored_at() -> datetime | None:
    """Return when the database was last found to be restored."""
    return db.session.scalar(select(_table.c.restored_at))


def _change(**values: Any) -> None:
    db.session.execute(update(_table).values(**values, **_present_place()))


def _present_place() -> dict[str, Any]:
    return {
        "timeline": _timeline(),
        "database_oid": _database_oid(),
        "written_by": cast(cast(func.pg_current_xact_id(), Text), BigInteger),
    }


def _is_here() -> ColumnElement[bool]:
    """Hold if the row was written in this very database, and its history went on from there."""
    xmin = cast(cast(text("installation.xmin"), Text), BigInteger)
    return and_(
        _table.c.written_by % _TRANSACTION_IDS == xmin,
        _table.c.database_oid == _database_oid(),
        _table.c.timeline == _timeline(),
    )


def _timeline() -> ColumnElement[str]:
    """Return the timeline, which is another one after each promotion and recovery."""
    return func.left(func.pg_walfile_name(func.pg_current_wal_lsn()), 8)


def _database_oid() -> ColumnElement[int]:
    return cast(
        text("(SELECT oid FROM pg_database WHERE datname = current_database())"), BigInteger
    )
