"""Delivery: due messages are claimed with their gateway written down, then sent, then recorded.

The gateway is committed before it is called, together with the text, which is written then and not
earlier, so that it is the newest. Where nobody knows what came of a call, only that gateway is
asked again, with the same text, for it knows the msgid; another one would send the message twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, Text, Uuid, update

from project.config.environment import get_settings
from project.core import clock
from project.core.db import bulk
from project.core.work.claims import RELEASED, claim, due, lease_for
from project.extensions import db
from project.weather import local_time
from project.weather.gateways.base import Accepted, Gateway, NotTaken, Refused, Sms, Unknown, Word
from project.weather.gateways.registry import rotation
from project.weather.messages import generate, queries, rejections
from project.weather.messages.generate import MESSAGES_DUE
from project.weather.messages.receipts import callback_url
from project.weather.messages.texts import has_forecast, message_text
from project.weather.settings import ForecastSettings, SmsSettings
from project.weather.states import MESSAGE_MOVES, MessageEventKind, MessageState, SubscriberState

AT_ONCE = timedelta()
MAX_ERROR = 500


@dataclass(frozen=True)
class Sending:
    """A claimed message and the gateway that is to send it."""

    message: Row[Any]
    standing: Row[Any]
    gateway: Gateway
    sms: Sms

    @property
    def may_be_sent_already(self) -> bool:
        """Tell whether the gateway was given it before, and nobody knows what became of it."""
        return self.sms.is_repeated


class MessageDelivery:
    """Due messages, as the pump works through them."""

    wakeup = MESSAGES_DUE

    def __init__(self) -> None:
        settings = get_settings(SmsSettings)
        self.capacity = settings.sms_concurrency
        self.armful = settings.sms_concurrency
        self.rotation = rotation()
        self.callback = callback_url()

    def claim(self, limit: int) -> Sequence[Sending]:
        """Claim messages and choose their gateways; what may not be sent any more is ended."""
        if not self.rotation.is_one_fit():
            return []
        columns = queries.messages.c
        claimed = claim(
            queries.messages,
            self._candidates(limit),
            lease=lease_for(get_settings(SmsSettings).sms_timeout_seconds * 2),
            returning=[
                columns.id,
                columns.claim_id,
                columns.msisdn,
                columns.text,
                columns.gateway,
                columns.attempts,
                columns.local_date,
                columns.created_at,
            ],
        )
        return self._prepared(claimed.rows)

    def _candidates(self, limit: int) -> Select[Any]:
        pending = queries.in_state(MessageState.PENDING)
        return due(queries.messages, now=clock.now(), limit=limit).where(pending)

    def _prepared(self, rows: Sequence[Row[Any]]) -> list[Sending]:
        if not rows:
            return []
        now = clock.now()
        standing = queries.standing_of([row.id for row in rows], now)
        sendings: list[Sending] = []
        ends: list[dict[str, Any]] = []
        for row in rows:
            stands = standing[row.id]
            end = _not_to_be_sent(row, stands, now) or self._assign(row, stands, sendings, now)
            if end is not None:
                ends.append(end)
        _write_outcomes(ends)
        generate.look_again_soon(
            [row.msisdn for row in rows if _is_without_forecast(row, standing[row.id])]
        )
        _write_gateways(sendings)
        return sendings

    def _assign(
        self, row: Row[Any], standing: Row[Any], sendings: list[Sending], now: datetime
    ) -> dict[str, Any] | None:
        """Give the message to a gateway; what to write instead where none can have it now."""
        if row.gateway is None:
            gateway = self.rotation.next()
        else:
            gateway = self.rotation.named(row.gateway)
            if gateway is None:
                return _failed(row, f"what {row.gateway} made of it is not known", now)
        if gateway is None or self.rotation.is_resting(gateway.name):
            rest = timedelta(seconds=get_settings(SmsSettings).sms_gateway_rest_seconds)
            return _put_off(row, standing.zone, "its gateway rests", now, rest)
        sms = Sms(
            str(row.id),
            row.msisdn,
            _text(row, standing),
            self.callback,
            made_at=row.created_at,
            is_repeated=row.gateway is not None,
        )
        sendings.append(Sending(row, standing, gateway, sms))
        return None

    async def call(self, sending: Sending) -> Word:
        """Have the gateway send it."""
        word = await sending.gateway.send(sending.sms)
        if isinstance(word, NotTaken | Unknown):
            self.rotation.rest(sending.gateway.name)
        return word

    def record(self, results: Sequence[tuple[Sending, Word]]) -> None:
        """Record what the gateways said; a receipt that was faster stays as it is."""
        now = clock.now()
        rejections.hear(
            [(one.message, word.reason) for one, word in results if isinstance(word, Refused)],
            taken=[
                one.message.msisdn
                for one, word in results
                if isinstance(word, Accepted) and one.standing.refused_messages
            ],
        )
        _write_outcomes([self._outcome(sending, word, now) for sending, word in results])
        bulk.insert_rows(queries.events, [_event(sending, word, now) for sending, word in results])

    def _outcome(self, sending: Sending, word: Word, now: datetime) -> dict[str, Any]:
        row, settings = sending.message, get_settings(SmsSettings)
        match word:
            case Accepted(reference):
                wait = AT_ONCE if settings.self_callback else receipt_wait()
                return _outcome(
                    row,
                    MessageState.ACCEPTED,
                    gateway=sending.gateway.name,
                    gateway_ref=reference,
                    accepted_at=now,
                    due_at=now + wait,
                )
            case Refused(reason):
                return _failed(
                    row, reason, now, sending.gateway.name, not sending.may_be_sent_already
                )
        # What was given to it before and is not taken now may all the same be on its way.
        may_be_sent = isinstance(word, Unknown) or sending.may_be_sent_already
        name = sending.gateway.name if may_be_sent else None
        if row.attempts >= settings.sms_max_attempts:
            return _failed(row, word.reason, now, sending.gateway.name, not may_be_sent)
        is_free = name is None and self.rotation.is_one_fit()
        pause = AT_ONCE if is_free else timedelta(seconds=settings.sms_retry_seconds)
        return _tried_later(row, sending.standing.zone, word.reason, now, pause, name)

    def is_anything_due(self) -> bool:
        """Tell whether a message is due that nobody works on, and a gateway to send it."""
        if not self.rotation.is_one_fit():
            return False
        return queries.is_any_due(queries.in_state(MessageState.PENDING))


def receipt_wait() -> timedelta:
    """Return how long a receipt is waited for."""
    return timedelta(days=get_settings(SmsSettings).sms_receipt_days)


def _not_to_be_sent(row: Row[Any], standing: Row[Any], now: datetime) -> dict[str, Any] | None:
    if standing.is_stopped or standing.state is not SubscriberState.ACTIVE:
        return _failed(row, "subscribes no more", now)
    if local_time.local_date(standing.zone, now) != row.local_date:
        return _failed(row, "its day is over", now)
    if local_time.is_quiet(standing.zone, now):
        return _put_off(row, standing.zone, "quiet hours", now, AT_ONCE)
    if not standing.is_paid:
        return _failed(row, "not paid for any more", now)
    if _is_without_forecast(row, standing):
        return _failed(row, queries.NO_FORECAST, now)
    return None


def _is_without_forecast(row: Row[Any], standing: Row[Any]) -> bool:
    """Tell whether there is nothing to say now; what a gateway was given once has its text."""
    return row.gateway is None and not has_forecast(standing.fcat24, standing.fcat48)


def _text(row: Row[Any], standing: Row[Any]) -> str:
    if row.gateway is not None:
        return str(row.text)
    unit = dict(get_settings(ForecastSettings).forecast_units).get(standing.language, "")
    return message_text(standing.language, standing.fcat24 or "", standing.fcat48 or "", unit=unit)


def _failed(
    row: Row[Any],
    reason: str,
    now: datetime,
    gateway: str | None = None,
    never_sent: bool | None = None,
) -> dict[str, Any]:
    """End a message; one that no gateway has is surely not sent, another may be made today."""
    return _outcome(
        row,
        MessageState.FAILED,
        gateway=gateway or row.gateway,
        never_sent=row.gateway is None if never_sent is None else never_sent,
        last_error=reason[:MAX_ERROR],
        failed_at=now,
    )


def _tried_later(
    row: Row[Any], zone: str, reason: str, now: datetime, wait: timedelta, gateway: str | None
) -> dict[str, Any]:
    due_at = local_time.later_today(zone, now, row.local_date, wait)
    if due_at is None:
        over = f"its day is over: {reason}"
        return _failed(row, over, now, gateway, gateway is None)
    return _outcome(
        row,
        MessageState.PENDING,
        gateway=gateway,
        last_error=reason[:MAX_ERROR],
        due_at=due_at,
    )


def _put_off(
    row: Row[Any], zone: str, reason: str, now: datetime, wait: timedelta
) -> dict[str, Any]:
    """Try later without having tried: the claim's count is given back."""
    later = _tried_later(row, zone, reason, now, wait, row.gateway)
    return later | {"attempts": max(row.attempts - 1, 0)}


def _outcome(row: Row[Any], state: MessageState, **changes: Any) -> dict[str, Any]:
    MESSAGE_MOVES.require(MessageState.PENDING, state)
    return {
        "id": row.id,
        "claim_id": row.claim_id,
        "state": state,
        "never_sent": False,
        "gateway": None,
        "gateway_ref": None,
        "last_error": None,
        "accepted_at": None,
        "failed_at": None,
        "due_at": None,
        "attempts": row.attempts,
    } | changes


def _write_outcomes(outcomes: Sequence[dict[str, Any]]) -> None:
    if not outcomes:
        return
    table = queries.messages
    outcome = bulk.rows_of(
        {name: (table.c[name].type, [row[name] for row in outcomes]) for name in outcomes[0]}
    )
    names = [name for name in outcomes[0] if name not in ("id", "claim_id")]
    db.session.execute(
        update(table)
        .where(table.c.id == outcome.c.id, table.c.claim_id == outcome.c.claim_id)
        .values(**{name: outcome.c[name] for name in names}, **RELEASED)
    )


def _write_gateways(sendings: Sequence[Sending]) -> None:
    """Commit who is about to be asked for what, so that after a crash nobody else is."""
    new = [one for one in sendings if one.message.gateway is None]
    if not new:
        return
    chosen = bulk.rows_of(
        {
            "id": (Uuid(), [one.message.id for one in new]),
            "gateway": (Text(), [one.gateway.name for one in new]),
            "text": (Text(), [one.sms.text for one in new]),
        }
    )
    table = queries.messages
    db.session.execute(
        update(table)
        .where(table.c.id == chosen.c.id)
        .values(gateway=chosen.c.gateway, text=chosen.c.text)
    )


def _event(sending: Sending, word: Word, now: datetime) -> dict[str, Any]:
    status = {Accepted: "accepted", Refused: "refused", NotTaken: "not_taken", Unknown: "unknown"}
    return {
        "message_id": sending.message.id,
        "msgid": str(sending.message.id),
        "kind": MessageEventKind.ANSWER,
        "gateway": sending.gateway.name,
        "status": status[type(word)],
        "body": getattr(word, "reason", "") or word.body,
        "received_at": now,
    }
