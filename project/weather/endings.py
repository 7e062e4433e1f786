"""What is written of a subscriber that ends, whoever ends it: it is sent nothing more."""

from datetime import datetime
from typing import Any

from project.weather.states import EndReason, SubscriberState


def ended(reason: EndReason, now: datetime) -> dict[str, Any]:
    """Return the values of a subscriber that ends now; only STOP is for ever."""
    is_stop = reason is EndReason.STOP
    return {
        "state": SubscriberState.STOPPED if is_stop else SubscriberState.CANCELED,
        "end_reason": reason,
        "canceled_at": now,
        "updated_at": now,
        "next_message_at": None,
    }
