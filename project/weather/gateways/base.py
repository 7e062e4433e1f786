"""What an SMS gateway can be asked, and what it can answer."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class Sms:
    """A message to send. `msgid` is the idempotence key; receipts go to `callback`.

    Nobody was given it before `made_at`. `is_repeated` if it was given to this gateway before and
    nobody knows what became of it.
    """

    msgid: str
    msisdn: str
    text: str
    callback: str
    made_at: datetime
    is_repeated: bool = False


@dataclass(frozen=True)
class Accepted:
    """The gateway took the message; `reference` is its own name for it."""

    reference: str | None
    body: str


@dataclass(frozen=True)
class Refused:
    """The message will never be sent to this number: it is unknown or has opted out."""

    reason: str
    body: str


@dataclass(frozen=True)
class NotTaken:
    """Surely not sent now; it may be tried again, at another gateway too."""

    reason: str
    body: str = ""


@dataclass(frozen=True)
class Unknown:
    """No word of what became of it: it may be on its way, so only this gateway is asked."""

    reason: str
    body: str = ""


Word = Accepted | Refused | NotTaken | Unknown


class Gateway(Protocol):
    """A place that sends messages. Outside trouble is an answer; nothing is raised for it."""

    name: str
    """Where it is, without credentials; what messages remember of it."""

    async def send(self, sms: Sms) -> Word:
        """Send a message; the same msgid again is the same message."""
