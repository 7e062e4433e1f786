"""Receipts: what gateways say later, kept as it came; states only move forward by it.

They come late, doubled, out of order and for messages that nobody knows; none of that harms.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert

from project.config.environment import get_settings
from project.core import clock
from project.core.net import http_client
from project.core.net.http_client import Answer, Request
from project.core.work.claims import RELEASED, claim, due, lease_for
from project.core.work.queues import QueueName, Wakeup
from project.extensions import db
from project.weather.messages import queries, rejections
from project.weather.settings import SmsSettings
from project.weather.states import MESSAGE_MOVES, MessageEventKind, MessageState

SELF_RECEIPTS_DUE = Wakeup(
    "self_receipts", QueueName.DEFAULT, "project.weather.messages.jobs.send_self_receipts"
)
# The words that gateways use for an end, those of SMPP 3.4 among them; any other, such as its
# ENROUTE, ACCEPTD and UNKNOWN, is kept and moves nothing.
_DELIVERED = ("delivered", "delivrd", "read")
_FAILED = (
    *("failed", "failure", "undelivered", "undeliverable", "undeliv", "rejected", "rejectd"),
    *("expired", "deleted", "canceled", "cancelled"),
)
ENDS = dict.fromkeys(_DELIVERED, MessageState.DELIVERED) | dict.fromkeys(
    _FAILED, MessageState.FAILED
)
EXPIRED_AT_ONCE = 1000
SELF_RECEIPT = b'{"msgid": "%s", "status": "delivered"}'


def callback_url() -> str:
    """Return where gateways send their receipts, with the secret by which they are known."""
    settings = get_settings(SmsSettings)
    return f"{settings.sms_receipt_url}?secret={quote(settings.sms_receipt_secret)}"


def end_said(status: str) -> MessageState | None:
    """Return the end that a receipt's status means, however it is spelled; None if it is none."""
    return ENDS.get("".join(char for char in status.casefold() if char.isalnum()))


def hear_receipt(
    msgid: str, status: str, body: str, *, gateway: str | None = None, reason: str | None = None
) -> None:
    """Keep a receipt, and move the message where it says; saying it again changes nothing.

    A `reason` that is a refusal for good counts as one of the gateway's own.
    """
    message_id = _known_message(msgid)
    db.session.execute(
        insert(queries.events)
        .values(
            message_id=message_id,
            msgid=msgid,
            kind=MessageEventKind.RECEIPT,
            gateway=gateway,
            status=status,
            body=body,
            received_at=clock.now(),
        )
        .on_conflict_do_nothing()
    )
    end = end_said(status)
    if message_id is None or end is None:
        return
    refusal = rejections.for_good(reason)
    if end is MessageState.FAILED and refusal is not None:
        rejections.hear_later(message_id, refusal)
    _move(message_id, end, status)


def _known_message(msgid: str) -> UUID | None:
    try:
        message_id = UUID(msgid)
    except ValueError:
        return None
    table = queries.messages
    found: UUID | None = db.session.scalar(select(table.c.id).where(table.c.id == message_id))
    return found


def _move(message_id: UUID, state: MessageState, status: str) -> None:
    now = clock.now()
    table = queries.messages
    failed = state is MessageState.FAILED
    # Who says that it was delivered has accepted it, though the answer may not be recorded yet.
    db.session.execute(
        update(table)
        .where(table.c.id == message_id, table.c.state.in_(MESSAGE_MOVES.before(state)))
        .values(
            state=state,
            accepted_at=func.coalesce(table.c.accepted_at, now),
            delivered_at=None if failed else now,
            failed_at=now if failed else table.c.failed_at,
            last_error=f"the receipt says {status}" if failed else None,
            due_at=None,
            **RELEASED,
        )
    )


def expire_some() -> int:
    """Expire messages that were accepted long ago and have no receipt; return how many."""
    now = clock.now()
    table = queries.messages
    waited = timedelta(days=get_settings(SmsSettings).sms_receipt_days)
    chosen = due(table, now=now, limit=EXPIRED_AT_ONCE).where(
        queries.in_state(MessageState.ACCEPTED), table.c.accepted_at <= now - waited
    )
    expired = db.session.execute(
        update(table)
        .where(table.c.id.in_(chosen))
        .values(state=MessageState.EXPIRED, due_at=None, **RELEASED)
        .returning(table.c.id)
    )
    return len(expired.all())


class SelfReceipts:
    """Accepted messages whose receipt we send ourselves, where no gateway does (SELF_CALLBACK)."""

    wakeup = SELF_RECEIPTS_DUE

    def __init__(self) -> None:
        settings = get_settings(SmsSettings)
        self.capacity = settings.sms_concurrency
        self.armful = settings.sms_concurrency
        self.url = callback_url()
        self.deadline_seconds = settings.sms_timeout_seconds

    def claim(self, limit: int) -> Sequence[Row[Any]]:
        """Claim accepted messages that wait for their receipt."""
        if not get_settings(SmsSettings).self_callback:
            return []
        columns = queries.messages.c
        accepted = due(queries.messages, now=clock.now(), limit=limit).where(
            queries.in_state(MessageState.ACCEPTED)
        )
        return claim(
            queries.messages,
            accepted,
            lease=lease_for(self.deadline_seconds),
            returning=[columns.id, columns.claim_id, columns.accepted_at, columns.attempts],
        ).rows

    async def call(self, message: Row[Any]) -> Answer:
        """Call our own callback, as a gateway would."""
        return await http_client.send(
            Request(
                "POST",
                self.url,
                SELF_RECEIPT % str(message.id).encode(),
                {"Content-Type": "application/json"},
                deadline_seconds=self.deadline_seconds,
                needs_body=False,
            )
        )

    def record(self, results: Sequence[tuple[Row[Any], Answer]]) -> None:
        """Give back the messages whose receipt has not arrived, to be sent again later."""
        table = queries.messages
        pause = timedelta(seconds=get_settings(SmsSettings).sms_retry_seconds)
        for claim_id in {message.claim_id for message, _ in results}:
            ids = [message.id for message, _ in results if message.claim_id == claim_id]
            db.session.execute(
                update(table)
                .where(table.c.id.in_(ids), table.c.claim_id == claim_id)
                .values(due_at=clock.now() + pause, attempts=table.c.attempts - 1, **RELEASED)
            )

    def is_anything_due(self) -> bool:
        """Tell whether a receipt of our own is to be sent."""
        accepted = queries.in_state(MessageState.ACCEPTED)
        return get_settings(SmsSettings).self_callback and queries.is_any_due(accepted)


def oldest_self_receipt_due_at() -> Any:
    """Return when the longest-waiting receipt of our own was or will be due."""
    if not get_settings(SmsSettings).self_callback:
        return None
    return queries.oldest_unreceipted_due_at()
