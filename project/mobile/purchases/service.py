"""The rules of purchases: what a receipt starts, what the store's answer changes, what is told."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Date, Integer, Row, Select, Text, case, func, select, update
from sqlalchemy.dialects.postgresql import insert

from project.callbacks import service as callbacks
from project.callbacks.service import NewEvent
from project.config.environment import get_settings
from project.core import clock
from project.core.db import bulk
from project.core.db.rows import current, get_current
from project.core.db.types import StringEnum
from project.core.errors import Conflict, NotFound
from project.core.work.claims import RELEASED, Claim, claim, is_free, lease_for
from project.core.work.queues import QueueName, Wakeup
from project.extensions import db
from project.mobile.apps import service as apps
from project.mobile.models import Purchase, PurchaseDaily
from project.mobile.purchases import queries
from project.mobile.settings import StoreSettings
from project.mobile.states import PURCHASE_MOVES, DeviceOs, PurchaseState
from project.mobile.stores.base import Limited, Refused, StoreAnswer, Unavailable, Verified

PURCHASES_DUE = Wakeup(
    "purchases", QueueName.MEDIUM, "project.mobile.purchases.jobs.verify_due_purchases"
)
SUBJECT_TYPE = "purchase"
FIRST_RETRY_SECONDS = 60
MAX_RETRY_SECONDS = 3600
# Stores tell whole seconds and renew at their own moment: one asked at the expiry, or somewhat
# later, may still name the period that has just ended.
STORE_LAG = timedelta(seconds=60)
RENEWAL_LAG = timedelta(hours=1)


class PurchaseEvent(StrEnum):
    """What is told of a purchase."""

    STARTED = "started"
    RENEWED = "renewed"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Outcome:
    """What the store's answer makes of a purchase. `resets_attempts`: the store did answer."""

    state: PurchaseState
    expire_date: datetime | None
    due_at: datetime | None
    reason: str | None
    event: PurchaseEvent | None
    resets_attempts: bool


def submit_receipt(device: Row[int, int, DeviceOs], receipt: str) -> tuple[int, Claim | None]:
    """Write the receipt down before anything else; return the purchase's id and a claim on it.

    There is no claim if the store need not be asked now: the purchase is active, or waits for its
    turn, or somebody else is asking. A receipt that came from another device of the app moves to
    this one, which is told of both. Until a store has said yes, it belongs to whoever handed it in
    last. Raises Conflict for one of another app.
    """
    now = clock.now()
    key = receipt_hash(receipt)
    db.session.execute(
        insert(Purchase)
        .values(
            app_id=device.app_id,
            device_id=device.id,
            os=device.os,
            receipt=receipt,
            receipt_hash=key,
            state=PurchaseState.PENDING,
            due_at=now,
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["receipt_hash"])
    )
    handed_in = select(Purchase).where(Purchase.receipt_hash == key).with_for_update()
    purchase = db.session.scalars(current(handed_in)).one()
    _give_to(purchase, device, now)
    db.session.flush()
    return purchase.id, _claim_to_ask(purchase, now)


def receipt_hash(receipt: str) -> bytes:
    """Return what a receipt is known by."""
    return hashlib.sha256(receipt.encode()).digest()


def _give_to(purchase: Purchase, device: Row[int, int, DeviceOs], now: datetime) -> None:
    is_active = purchase.state is PurchaseState.ACTIVE
    was_never_good = purchase.started_at is None and not is_active
    if purchase.app_id != device.app_id and not was_never_good:
        raise belongs_to_another_app()
    if was_never_good:
        purchase.app_id = device.app_id
        if purchase.os != device.os:
            # What the other store is saying at this moment is no answer any more.
            purchase.os, purchase.due_at = device.os, now
            purchase.claim_id = purchase.claimed_until = None
    if is_active and purchase.device_id != device.id:
        _tell_of_move(purchase, device.id, now)
    purchase.device_id = device.id
    if purchase.state is PurchaseState.CANCELED:
        purchase.state = PurchaseState.PENDING
        purchase.due_at = now


def belongs_to_another_app() -> Conflict:
    """Return the answer to a receipt that a device of another app has paid for."""
    return Conflict(
        "This receipt belongs to another app.", {"receipt": ["Belongs to another app."]}
    )


def _tell_of_move(purchase: Purchase, device_id: int, now: datetime) -> None:
    """Tell that the subscription ended on one device and began on another of the same app."""
    endpoint_id = apps.endpoint_ids([purchase.app_id])[purchase.app_id]
    moves = (
        (PurchaseEvent.CANCELED, purchase.device_id, {"transferred_to": device_id}),
        (PurchaseEvent.STARTED, device_id, {"transferred_from": purchase.device_id}),
    )
    callbacks.emit(
        [
            _event(purchase, event, now, endpoint_id, deviceID=device, **more)
            for event, device, more in moves
        ]
    )
    _count(Counter((purchase.app_id, purchase.os, event) for event, _, _ in moves), now.date())


def _claim_to_ask(purchase: Purchase, now: datetime) -> Claim | None:
    if purchase.due_at is None or purchase.due_at > now:
        return None
    free = is_free(queries.purchases)
    this_one = select(queries.purchases.c.id).where(queries.purchases.c.id == purchase.id, free)
    claimed = claim_purchases(this_one)
    return claimed if claimed.rows else None


def claim_purchases(candidates: Select[Any]) -> Claim:
    """Claim purchases in order to ask their store."""
    columns = queries.purchases.c
    return claim(
        queries.purchases,
        candidates,
        lease=lease_for(get_settings(StoreSettings).store_timeout_seconds),
        returning=[
            columns.id,
            columns.os,
            columns.receipt,
            columns.state,
            columns.expire_date,
            columns.attempts,
            columns.claim_id,
        ],
    )


def outcome_of(purchase: Row[Any], answer: StoreAnswer, now: datetime) -> Outcome:
    """Decide what the store's answer makes of a purchase."""
    match answer:
        case Verified(expires_at) if expires_at > now:
            return _good(purchase, expires_at)
        case Verified(expires_at) if now - expires_at < _lag(purchase):
            return _ask_again(purchase, now, _backoff(purchase), "the store has yet to renew it")
        case Verified():
            return _ended(purchase, "expired at the store")
        case Refused(reason):
            return _ended(purchase, reason)
        case Limited(retry_after_seconds):
            wait = retry_after_seconds or get_settings(StoreSettings).store_limit_retry_seconds
            return _ask_again(purchase, now, wait, "the store limits how often it is asked")
        case Unavailable(reason):
            return _ask_again(purchase, now, _backoff(purchase), f"store: {reason}")


def _lag(purchase: Row[Any]) -> timedelta:
    """Return for how long after an expiry the store may still be about to renew.

    One that runs is not ended for good because its store is late; access has ended meanwhile.
    """
    return RENEWAL_LAG if purchase.state is PurchaseState.ACTIVE else STORE_LAG


def _backoff(purchase: Row[Any]) -> int:
    doublings: int = min(purchase.attempts - 1, 10)
    return min(FIRST_RETRY_SECONDS << doublings, MAX_RETRY_SECONDS)


def _good(purchase: Row[Any], expires_at: datetime) -> Outcome:
    event: PurchaseEvent | None = PurchaseEvent.STARTED
    if purchase.state is PurchaseState.ACTIVE:
        renewed = expires_at > purchase.expire_date
        event = PurchaseEvent.RENEWED if renewed else None
    return _moved(
        purchase, Outcome(PurchaseState.ACTIVE, expires_at, expires_at, None, event, True)
    )


def _ended(purchase: Row[Any], reason: str) -> Outcome:
    was_active = purchase.state is PurchaseState.ACTIVE
    event = PurchaseEvent.CANCELED if was_active else None
    outcome = Outcome(PurchaseState.CANCELED, purchase.expire_date, None, reason, event, True)
    return _moved(purchase, outcome)


def _ask_again(purchase: Row[Any], now: datetime, seconds: int, reason: str) -> Outcome:
    due_at = now + timedelta(seconds=seconds)
    return Outcome(purchase.state, purchase.expire_date, due_at, reason[:500], None, False)


def _moved(purchase: Row[Any], outcome: Outcome) -> Outcome:
    PURCHASE_MOVES.require(purchase.state, outcome.state)
    return outcome


def record_answers(answers: Sequence[tuple[Row[Any], StoreAnswer]]) -> None:
    """Record the store's answers on purchases whose claim still stands.

    In the caller's one transaction: the purchases, their events, the callbacks that tell of them,
    and the counts of the day. An answer whose claim was lost changes nothing; whoever holds the
    purchase now asks again.
    """
    if not answers:
        return
    now = clock.now()
    outcomes = {row.id: (row.claim_id, outcome_of(row, answer, now)) for row, answer in answers}
    recorded = _update_purchases(outcomes, now)
    happened = [
        (row, outcome.event)
        for row in recorded
        if (outcome := outcomes[row.id][1]).event is not None
    ]
    endpoints = apps.endpoint_ids(sorted({row.app_id for row, _ in happened}))
    callbacks.emit(
        [_event(row, event, now, endpoints.get(row.app_id)) for row, event in happened if event]
    )
    _count(Counter((row.app_id, row.os, event) for row, event in happened if event), now.date())


def _update_purchases(
    outcomes: dict[int, tuple[UUID, Outcome]], now: datetime
) -> Sequence[Row[Any]]:
    table = queries.purchases
    found = [outcome for _, outcome in outcomes.values()]
    new = bulk.rows_of(
        {
            "id": (BigInteger(), list(outcomes)),
            "claim_id": (table.c.claim_id.type, [claim_id for claim_id, _ in outcomes.values()]),
            "state": (table.c.state.type, [outcome.state for outcome in found]),
            "expire_date": (table.c.expire_date.type, [outcome.expire_date for outcome in found]),
            "due_at": (table.c.due_at.type, [outcome.due_at for outcome in found]),
            "reason": (Text(), [outcome.reason for outcome in found]),
            "event": (StringEnum(PurchaseEvent), [outcome.event for outcome in found]),
            "attempts": (Integer(), [0 if outcome.resets_attempts else None for outcome in found]),
        }
    )
    started = new.c.event == PurchaseEvent.STARTED
    ended = new.c.event == PurchaseEvent.CANCELED
    statement = (
        update(table)
        .where(table.c.id == new.c.id, table.c.claim_id == new.c.claim_id)
        .values(
            state=new.c.state,
            expire_date=new.c.expire_date,
            due_at=new.c.due_at,
            reason=new.c.reason,
            attempts=func.coalesce(new.c.attempts, table.c.attempts),
            checked_at=case((new.c.attempts == 0, now), else_=table.c.checked_at),
            started_at=case((started, now), else_=table.c.started_at),
            canceled_at=case((started, None), (ended, now), else_=table.c.canceled_at),
            **RELEASED,
        )
        .returning(table.c.id, table.c.app_id, table.c.device_id, table.c.os, table.c.expire_date)
    )
    return db.session.execute(statement).all()


def _event(
    row: Row[Any] | Purchase,
    event: PurchaseEvent,
    now: datetime,
    endpoint_id: int | None,
    **more: int,
) -> NewEvent:
    data = {
        "appID": row.app_id,
        "deviceID": row.device_id,
        "purchaseID": row.id,
        "expire-date": row.expire_date.isoformat() if row.expire_date else None,
        **more,
    }
    return NewEvent(event, SUBJECT_TYPE, row.id, data, now, endpoint_id)


def _count(happened: Counter[tuple[int, DeviceOs, PurchaseEvent]], day: date) -> None:
    """Add to the day's counts, in the order of the key, so that two workers never deadlock."""
    if not happened:
        return
    keys = sorted({(app_id, os) for app_id, os, _ in happened})
    new = bulk.rows_of(
        {
            "app_id": (BigInteger(), [app_id for app_id, _ in keys]),
            "day": (Date(), [day] * len(keys)),
            "os": (StringEnum(DeviceOs), [os for _, os in keys]),
            **{
                event.value: (Integer(), [happened[app_id, os, event] for app_id, os in keys])
                for event in PurchaseEvent
            },
        }
    )
    statement = insert(PurchaseDaily).from_select(list(new.c.keys()), select(*new.c))
    added = {
        event.value: getattr(PurchaseDaily, event) + getattr(statement.excluded, event)
        for event in PurchaseEvent
    }
    db.session.execute(
        statement.on_conflict_do_update(index_elements=["app_id", "day", "os"], set_=added)
    )


def existing_purchase(purchase_id: int) -> Purchase:
    """Return the purchase. Raises NotFound."""
    purchase = get_current(Purchase, purchase_id)
    if purchase is None:
        raise NotFound(f"There is no purchase {purchase_id}.")
    return purchase
