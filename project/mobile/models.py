"""Tables of the mobile domain: apps, devices, purchases and their daily counts."""

from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    or_,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from project.core.db.models import Claimable, Timestamp, due_index
from project.extensions import Model

MAX_TOKEN_LENGTH = 200


class DeviceOs(StrEnum):
    """The systems whose store can be asked."""

    IOS = "ios"
    ANDROID = "android"


class PurchaseState(StrEnum):
    """Where a purchase stands.

    Pending until the store has said yes or no; active while the store says yes; canceled when it
    has said no. Expired is never stored: it is what an active purchase is called whose time is up
    and whose store has not confirmed the next period yet.
    """

    PENDING = "pending"
    ACTIVE = "active"
    CANCELED = "canceled"
    EXPIRED = "expired"


_MOVES = {
    PurchaseState.PENDING: {PurchaseState.ACTIVE, PurchaseState.CANCELED},
    PurchaseState.ACTIVE: {PurchaseState.CANCELED},
    PurchaseState.CANCELED: {PurchaseState.PENDING, PurchaseState.ACTIVE},
    PurchaseState.EXPIRED: set[PurchaseState](),
}


def may_move(old: PurchaseState, new: PurchaseState) -> bool:
    """Tell whether a purchase may go from one state to another; staying is always allowed."""
    return old == new or new in _MOVES[old]


class App(Model):
    """An app of the publisher; its callbacks go to its endpoint.

    With `require_proof` a device that is known gets a new client-token for a proof only.
    """

    __tablename__ = "apps"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    endpoint_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("endpoints.id"))
    require_proof: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class Device(Model):
    """A device on which an app is installed; it proves itself with its client-token.

    `token_hash` is of the token in force: the first one, and then the last that came into use.
    """

    __tablename__ = "devices"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    app_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(App.id))
    uid: Mapped[str] = mapped_column(Text)
    language: Mapped[str] = mapped_column(Text)
    os: Mapped[str] = mapped_column(Text)
    click_id: Mapped[str | None] = mapped_column(Text)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint("os IN ('ios', 'android')", name="os"),
        UniqueConstraint("app_id", "uid"),
    )


class NewToken(Model):
    """A client-token that a known device was given and has not used yet.

    Its first use puts it in force, and ends those that were in force or given before it.
    """

    __tablename__ = "device_new_tokens"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    device_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(Device.id), index=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class Purchase(Claimable, Model):
    """A receipt and what the store last said of it; due when the store is to be asked again."""

    __tablename__ = "purchases"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    app_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(App.id))
    device_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(Device.id))
    os: Mapped[str] = mapped_column(Text)
    receipt: Mapped[str] = mapped_column(Text)
    receipt_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    state: Mapped[str] = mapped_column(Text)
    expire_date: Mapped[datetime | None] = mapped_column(Timestamp)
    reason: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    canceled_at: Mapped[datetime | None] = mapped_column(Timestamp)
    checked_at: Mapped[datetime | None] = mapped_column(Timestamp)
    created_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint("state IN ('pending', 'active', 'canceled')", name="state"),
        CheckConstraint("state <> 'active' OR expire_date IS NOT NULL", name="active_expires"),
        CheckConstraint("state = 'canceled' OR due_at IS NOT NULL", name="unfinished_is_due"),
        CheckConstraint("os IN ('ios', 'android')", name="os"),
        due_index("purchases"),
        Index("ix_purchases_device", "device_id"),
        Index("ix_purchases_app_state", "app_id", "state"),
        Index("ix_purchases_expire_date", "expire_date"),
    )

    @classmethod
    def is_pausing(cls, now: datetime) -> ColumnElement[bool]:
        """Hold for those that the store is to be asked of again; the others wait for their end."""
        return or_(cls.expire_date.is_(None), cls.expire_date <= now)


class PurchaseDaily(Model):
    """How many purchases of an app were started, renewed and canceled on a day (UTC)."""

    __tablename__ = "purchase_daily"

    app_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(App.id), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    os: Mapped[str] = mapped_column(Text, primary_key=True)
    started: Mapped[int] = mapped_column(server_default=text("0"))
    renewed: Mapped[int] = mapped_column(server_default=text("0"))
    canceled: Mapped[int] = mapped_column(server_default=text("0"))

    __table_args__ = (
        CheckConstraint("os IN ('ios', 'android')", name="os"),
        Index("ix_purchase_daily_day", "day"),
    )
