"""Tables of the kernel: API keys, the test clock, idempotency keys; and the claimable mixin."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ColumnElement,
    DateTime,
    Index,
    LargeBinary,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from project.extensions import Model

Timestamp = DateTime(timezone=True)
DATABASE_NOW = text("now()")


class ApiKey(Model):
    """An operator's key; only its SHA-256 is kept."""

    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    prefix: Mapped[str] = mapped_column(Text)
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(Timestamp, server_default=DATABASE_NOW)
    revoked_at: Mapped[datetime | None] = mapped_column(Timestamp)


class ClockOffset(Model):
    """How far the test clock stands from the real one; at most one row."""

    __tablename__ = "clock"
    __table_args__ = (CheckConstraint("id = 1", name="single_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    offset_seconds: Mapped[float]


class IdempotencyKey(Model):
    """The answer to a POST that carried an Idempotency-Key, encrypted, kept for 24 hours.

    Until there is one, `claimed_until` says how long the request may still be at work.
    """

    __tablename__ = "idempotency_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    scope_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[int | None]
    answer: Mapped[bytes | None] = mapped_column(LargeBinary)
    claimed_until: Mapped[datetime | None] = mapped_column(Timestamp)
    created_at: Mapped[datetime] = mapped_column(Timestamp, server_default=DATABASE_NOW, index=True)


class Claimable:
    """Columns of a row that is work: due at a time, held by one claimant until its lease ends.

    `due_at` is NULL when there is nothing to do. `due_at` follows the product's clock;
    `claimed_until` follows the database's real clock, so that moving the test clock ends no lease.
    """

    due_at: Mapped[datetime | None] = mapped_column(Timestamp)
    claim_id: Mapped[UUID | None]
    claimed_until: Mapped[datetime | None] = mapped_column(Timestamp)
    attempts: Mapped[int] = mapped_column(server_default=text("0"), default=0)

    @classmethod
    def is_pausing(cls, now: datetime) -> ColumnElement[bool]:
        """Hold for rows whose `due_at` ends a pause, and is no date that means something.

        Of the rows that are due later; a pause keeps its length when the test clock is set back.
        """
        return cls.due_at > now


def due_index(table: str, *columns: str) -> Index:
    """Return the index that keeps the cost of finding due rows apart from how many rows exist."""
    names = [*columns, "due_at"]
    return Index(
        f"ix_{table}_{'_'.join(names)}", *names, postgresql_where=text("due_at IS NOT NULL")
    )
