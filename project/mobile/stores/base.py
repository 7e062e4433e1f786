"""What a store can answer, and what an adapter must be able to do."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class Verified:
    """The receipt is good until `expires_at` (UTC)."""

    expires_at: datetime


@dataclass(frozen=True)
class Refused:
    """The store says that this receipt buys nothing."""

    reason: str


@dataclass(frozen=True)
class Limited:
    """The store has had too many questions; ask after so many seconds, if it said so."""

    retry_after_seconds: int | None


@dataclass(frozen=True)
class Unavailable:
    """No answer that says anything of the receipt: it must be asked again."""

    reason: str


StoreAnswer = Verified | Refused | Limited | Unavailable


class Store(Protocol):
    """A place that sold subscriptions and can say whether a receipt is good."""

    async def verify(self, receipt: str, *, deadline_seconds: float) -> StoreAnswer:
        """Ask about a receipt. Outside trouble is an answer; nothing is raised for it."""
