"""Refusals for good: a gateway that says that a number has opted out, or that there is none.

Nobody is charged for ever for what cannot be sent. Who has opted out has said STOP. Any other
refusal is counted; after `SMS_REFUSAL_LIMIT` messages in a row, of one a day, billing ends.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Text, exists, select, update

from project.config.environment import get_settings
from project.core import clock
from project.core.db import bulk
from project.extensions import db
from project.weather.billing_sync import wake_billing
from project.weather.endings import ended
from project.weather.messages import queries
from project.weather.messages.opt_outs import stop
from project.weather.settings import SmsSettings
from project.weather.states import (
    MESSAGE_MOVES,
    EndReason,
    MessageState,
    SubscriberState,
)

# What gateways call it, without signs between the words.
OPTED_OUT = frozenset(
    {"optedout", "optout", "unsubscribed", "unsubscribe", "stop", "stopped", "userstopped"}
)
UNKNOWN_NUMBER = frozenset(
    {"unknownnumber", "invalidnumber", "unknownsubscriber", "absentnumber", "notanumber"}
)
# Twilio's error dictionary, as its receipts tell it: messages that no handset will ever get.
TWILIO_REFUSALS = {"21610": "opted_out", "30005": "unknown_number", "30006": "unknown_number"}


def is_opt_out(reason: str) -> bool:
    """Tell whether a gateway's reason says that the number wants no messages."""
    return _plain(reason) in OPTED_OUT


def _plain(reason: str) -> str:
    return "".join(char for char in reason.casefold() if char.isalnum())


def for_good(reason: str | None) -> str | None:
    """Return what a receipt's reason says of the number for good; None if it says nothing."""
    said = (reason or "").strip()
    if said in TWILIO_REFUSALS:
        return TWILIO_REFUSALS[said]
    return said if is_opt_out(said) or _plain(said) in UNKNOWN_NUMBER else None


def hear_later(message_id: UUID, reason: str) -> None:
    """Act upon a refusal that only the receipt tells; one that is told again counts once."""
    table = queries.messages
    waiting = select(table.c.id, table.c.msisdn, table.c.local_date).where(
        table.c.id == message_id, table.c.state.in_(MESSAGE_MOVES.before(MessageState.FAILED))
    )
    message = db.session.execute(waiting).one_or_none()
    if message is not None:
        hear([(message, reason)])


def hear(refused: Sequence[tuple[Row[*tuple[Any, ...]], str]], taken: Sequence[str] = ()) -> None:
    """Act upon refusals for good: (message, reason). Numbers that were `taken` count anew.

    Part of the caller's transaction, which has locked none of these messages' subscribers yet.
    """
    _lock([message.msisdn for message, _ in refused] + list(taken))
    for message, reason in refused:
        if is_opt_out(reason):
            stop(message.msisdn, f"the gateway says {reason}")
    counted = [message for message, reason in refused if not is_opt_out(reason)]
    if counted:
        _count({message.msisdn: (message.id, message.local_date) for message in counted})
    if taken:
        table = queries.subscribers
        db.session.execute(
            update(table).where(table.c.msisdn.in_(taken)).values(refused_messages=0)
        )


def _lock(numbers: Sequence[str]) -> None:
    """Lock subscribers in the order of their numbers, as everybody does who changes several."""
    table = queries.subscribers
    if numbers:
        db.session.execute(
            select(table.c.id)
            .where(table.c.msisdn.in_(numbers))
            .order_by(table.c.msisdn)
            .with_for_update()
        )


def _count(messages: dict[str, tuple[Any, date]]) -> None:
    table, other = queries.subscribers, queries.messages
    given = bulk.rows_of(
        {
            "msisdn": (Text(), list(messages)),
            "message_id": (other.c.id.type, [message_id for message_id, _ in messages.values()]),
            "day": (other.c.local_date.type, [day for _, day in messages.values()]),
        }
    )
    counted_today = exists().where(
        other.c.msisdn == given.c.msisdn,
        other.c.local_date == given.c.day,
        other.c.id != given.c.message_id,
        other.c.gateway.is_not(None),
        other.c.never_sent,
    )
    rows = db.session.execute(
        update(table)
        .where(table.c.msisdn == given.c.msisdn, ~counted_today)
        .values(refused_messages=table.c.refused_messages + 1)
        .returning(table.c.id, table.c.refused_messages)
    ).all()
    limit = get_settings(SmsSettings).sms_refusal_limit
    _end([row.id for row in rows if row.refused_messages >= limit], clock.now())


def _end(subscriber_ids: Sequence[int], now: datetime) -> None:
    if not subscriber_ids:
        return
    table = queries.subscribers
    db.session.execute(
        update(table)
        .where(table.c.id.in_(subscriber_ids), table.c.state == SubscriberState.ACTIVE)
        .values(ended(EndReason.UNREACHABLE, now) | {"billing_due_at": now})
    )
    wake_billing()
