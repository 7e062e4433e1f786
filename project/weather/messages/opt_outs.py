"""STOP: a number that says so gets no message any more, for ever."""

import re
import unicodedata

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from project.core import clock
from project.core.work.claims import RELEASED
from project.extensions import db
from project.weather.billing_sync import wake_billing
from project.weather.endings import ended
from project.weather.messages import queries
from project.weather.states import (
    SUBSCRIBER_MOVES,
    EndReason,
    MessageState,
    SubscriberState,
)

_NO_WORD = re.compile(r"[\W_]+")
# Cyrillic capitals that look like Latin ones: a word may be typed with letters of both.
_LOOKALIKES = str.maketrans("авекмнорстухѕіј", "abekmhopctyxsij")
MAX_TEXT = 500


def _words(text: str) -> list[str]:
    """Return the words as they look: without accents, dots of an i, and signs that nobody sees."""
    seen = "".join(char for char in text if unicodedata.category(char) != "Cf")
    bare = unicodedata.normalize("NFKD", seen).casefold().replace("ı", "i")
    plain = "".join(char for char in bare if not unicodedata.combining(char))
    plain = plain.translate(_LOOKALIKES)
    words = [word for word in _NO_WORD.split(plain) if word]
    is_spelled = len(words) > 1 and all(len(word) == 1 for word in words)
    return ["".join(words)] if is_spelled else words


def _phrases(*texts: str) -> frozenset[str]:
    return frozenset(" ".join(_words(text)) for text in texts)


# The words of the FCC (47 CFR 64.1200(a)(10)) and of Twilio's list, and what our other languages
# have for them; each is meant where it is all that is said.
PHRASES = _phrases(
    *("stop", "stopall", "stop all", "unsubscribe", "unsub", "cancel", "end", "quit", "revoke"),
    *("optout", "opt out", "opt me out", "arret", "stop to end", "stop2end"),
    *("un subscribe", "unsubscribed", "remove", "no more", "withdraw", "i revoke"),
    *(
        "dur",
        "durdur",
        "iptal",
        "iptal et",
        "iptal edin",
        "iptal ettir",
        "çıkmak istiyorum",
        "çık",
        "çıkış",
        "ret",
        "red",
    ),
    *(
        "sonlandır",
        "bitir",
        "abonelikten çık",
        "abonelikten çıkmak istiyorum",
        "abonelik iptal",
        "abonelik iptali",
        "aboneliği iptal et",
        "iptal etmek istiyorum",
        "durdurun",
        "durdurunuz",
        "istemiyorum",
    ),
    *("стоп", "стоп все", "отказ", "отписка", "отписаться", "отпиши", "отпишите", "отмена"),
    *(
        "отменить",
        "отмени",
        "отмените",
        "отключить",
        "отключи",
        "отключите",
        "прекратить",
        "прекратите",
        "отказаться",
        "отказываюсь",
        "не присылайте",
        "не присылать",
        "хватит",
    ),
)
# Words that are no part of anything else that people write first.
FIRST_WORDS = _phrases("stop", "stopall", "unsubscribe", "dur", "durdur", "стоп", "отписаться")
# What people say around it; our own texts say "Reply STOP" and "DUR yazin".
COURTESIES = _phrases(
    *("please", "pls", "plz", "reply", "text", "send", "now", "thanks", "thank", "you", "thx"),
    *("ok", "okay", "all", "it", "consent", "from", "of"),
    *("my", "me", "this", "these", "subscription", "service", "messages", "texts", "sms"),
    *(
        "aboneliğimi",
        "üyeliğimi",
        "lütfen",
        "yazın",
        "yaz",
        "artık",
        "teşekkürler",
        "mesaj",
        "mesajları",
        "hemen",
    ),
    *("пожалуйста", "пожалуиста", "пжл", "спасибо", "меня", "мне", "смс", "рассылку", "подписку"),
    *("от", "рассылки", "подписки"),
)


def says_stop(text: str) -> bool:
    """Tell whether a text asks for no more messages, and for nothing else.

    One of the phrases, with courtesies around it or without; or a text that begins with STOP.
    """
    words = _words(text)
    if not words:
        return False
    asked = " ".join(word for word in words if word not in COURTESIES)
    return words[0] in FIRST_WORDS or asked in PHRASES or " ".join(words) in PHRASES


def hear_inbound(msisdn: str, text: str) -> bool:
    """Take a message from a number; True if it was STOP, which ends its subscription for ever."""
    if not says_stop(text):
        return False
    stop(msisdn, text)
    return True


def stop(msisdn: str, text: str) -> None:
    """End a number's subscription for ever, in the caller's transaction; `text` is what it said."""
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
            table.c.state.in_(SUBSCRIBER_MOVES.before(SubscriberState.STOPPED)),
        )
        .values(ended(EndReason.STOP, now) | {"billing_due_at": now})
    )
    _end_waiting_messages(msisdn)
    wake_billing()


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
            state=MessageState.FAILED,
            never_sent=table.c.gateway.is_(None),
            last_error="subscribes no more",
            failed_at=now,
            due_at=None,
            **RELEASED,
        )
    )
