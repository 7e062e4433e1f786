"""STOP: a number that says so gets no message any more, for ever."""

import re

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from project.core import clock
from project.core.claims import RELEASED
from project.extensions import db
from project.weather.billing import wake_billing
from project.weather.messages import queries
from project.weather.states import (
    EndReason,
    MessageState,
    SubscriberState,
    subscriber_states_before,
)

# What the field understands as STOP, and its words in our other languages.
WORDS = frozenset(
    {"stop", "stopall", "unsubscribe", "cancel", "end", "quit", "dur", "iptal", "стоп", "отказ"}
)
# Words that are no part of anything else that people write first.
FIRST_WORDS = frozenset({"stop", "stopall", "unsubscribe", "dur", "стоп"})
_NO_WORD = re.compile(r"[\W_]+")
MAX_TEXT = 500


def says_stop(text: str) -> bool:
    """Tell whether a text asks for no more messages: the word alone, or STOP, DUR, СТОП first."""
    words = [word for word in _NO_WORD.split(text.casefold().replace("i̇", "i")) if word]
    if not words:
        return False
    return (len(words) == 1 and words[0] in WORDS) or words[0] in FIRST_WORDS


def hear_inbound(msisdn: str, text: str) -> bool:
    """Take a message from a number; True if it was STOP, which ends its subscription for ever."""
    if not says_stop(text):
        return False
    now = clock.now()
    db.session.execute(
        insert(queries.stops)
        .values(msisdn=msisdn, text=text[:MAX_TEXT], received_at=now)
        .on_conflict_do_nothing()
    )
    table = queries.subscribers
    db.session.execute(
        update(table)
        .where(
            table.c.msisdn == msisdn,
            table.c.state.in_(subscriber_states_before(SubscriberState.STOPPED)),
        )
        .values(
            state=str(SubscriberState.STOPPED),
            canceled_at=now,
            end_reason=str(EndReason.STOP),
            updated_at=now,
            next_message_at=None,
            billing_due_at=now,
        )
    )
    _end_waiting_messages(msisdn)
    wake_billing()
    return True


def _end_waiting_messages(msisdn: str) -> None:
    """End what is not on its way yet; what a worker holds it looks at again before the next try."""
    now = clock.now()
    table = queries.messages
    waiting = (
        select(table.c.id)
        .where(
            table.c.msisdn == msisdn,
            queries.in_state(MessageState.PENDING),
            table.c.claim_id.is_(None),
        )
        .with_for_update(skip_locked=True)
    )
    db.session.execute(
        update(table)
        .where(table.c.id.in_(waiting))
        .values(
            state=str(MessageState.FAILED),
            last_error="subscribes no more",
            failed_at=now,
            due_at=None,
            **RELEASED,
        )
    )
