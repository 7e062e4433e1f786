"""What there is to know about purchases; nothing here writes."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    null,
    select,
)

from project.core import clock
from project.core.db.rows import table_of
from project.core.fast_path.reading import PreparedQuery
from project.core.secrets import token_hash
from project.core.work.claims import due, is_due, is_free
from project.extensions import db
from project.mobile.models import Device, Purchase
from project.mobile.states import PurchaseState

purchases = table_of(Purchase)
devices = table_of(Device)


def effective_state(
    stored: PurchaseState, expire_date: datetime | None, now: datetime
) -> PurchaseState:
    """Return the state as the world sees it: an active purchase whose time is up is expired."""
    if stored is PurchaseState.ACTIVE and (expire_date is None or expire_date <= now):
        return PurchaseState.EXPIRED
    return stored


def in_state(state: PurchaseState, now: datetime) -> ColumnElement[bool]:
    """Hold for purchases in the state as the world sees it."""
    if state is PurchaseState.EXPIRED:
        return and_(Purchase.state == PurchaseState.ACTIVE, Purchase.expire_date <= now)
    if state is PurchaseState.ACTIVE:
        return and_(Purchase.state == state, Purchase.expire_date > now)
    return Purchase.state == state


# Made once: this is the query behind every `purchase/check`.
_RANK = case(
    (purchases.c.state == PurchaseState.ACTIVE, 0),
    (purchases.c.state == PurchaseState.PENDING, 1),
    else_=2,
)
_ENTITLEMENT = PreparedQuery(
    select(devices.c.id.label("device_id"), purchases.c.state, purchases.c.expire_date)
    .outerjoin_from(devices, purchases, purchases.c.device_id == devices.c.id)
    .where(devices.c.token_hash == bindparam("token_hash"))
    .order_by(_RANK, purchases.c.expire_date.desc().nulls_last(), purchases.c.id.desc())
    .limit(1)
)


class Entitlement(NamedTuple):
    """A device and its best purchase, if it ever made one."""

    device_id: int
    state: PurchaseState | None
    expire_date: datetime | None


async def entitlement(client_token: str) -> Entitlement | None:
    """Return the best purchase of the token's device.

    An active one before a pending one before a canceled one, among equals the one that lasts
    longest. State is None for a device without purchases; the row is None for an unknown token.
    """
    row = await _ENTITLEMENT.read({"token_hash": token_hash(client_token)})
    return Entitlement(*row) if row is not None else None


def listed_purchases(filters: Mapping[str, Any]) -> Select[Any]:
    """Select purchases, newest first; filters: app_id, device_id, state, expires_before."""
    statement = select(Purchase).order_by(Purchase.id.desc())
    for name in ("app_id", "device_id"):
        if name in filters:
            statement = statement.where(getattr(Purchase, name) == filters[name])
    if "state" in filters:
        statement = statement.where(in_state(filters["state"], clock.now()))
    if "expires_before" in filters:
        statement = statement.where(Purchase.expire_date < filters["expires_before"])
    return statement


def due_purchases(*, limit: int) -> Select[Any]:
    """Select the ids of purchases whose store is to be asked, the longest due first."""
    return due(purchases, now=clock.now(), limit=limit)


def is_anything_due() -> bool:
    """Tell whether a purchase is due that nobody works on."""
    return bool(db.session.scalar(select(exists().where(is_due(purchases, clock.now())))))


def count_due(*, at_most: int) -> int:
    """Count the purchases that are due, up to a bound that keeps the count cheap."""
    some = select(null()).where(is_due(purchases, clock.now())).limit(at_most).subquery()
    return int(db.session.scalar(select(func.count()).select_from(some)) or 0)


def oldest_due_at() -> datetime | None:
    """Return when the longest-waiting purchase that nobody works on was or will be due."""
    statement = (
        select(purchases.c.due_at)
        .where(purchases.c.due_at.is_not(None), is_free(purchases))
        .order_by(purchases.c.due_at)
        .limit(1)
    )
    return db.session.scalar(statement)
