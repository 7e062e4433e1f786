"""The notices that YooKassa sends of payments that were settled."""

import json
import random
from collections.abc import Mapping
from datetime import datetime
from uuid import uuid4

from simulator.outgoing import Outgoing
from simulator.yookassa.outcomes import SUCCEEDED
from simulator.yookassa.payments import Payment, decimal, iso

LONGEST_SHUFFLE_SECONDS = 0.5


class Webhooks(Outgoing):
    """Sends notices in the background, once and without a promise."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Send nothing any more, also not what was waiting."""
        self.url: str | None = None
        self.times = 1
        self.shuffle = False
        self.forget()

    def send(self, payment: Payment) -> None:
        """Send what the payment is now, as often as it is set."""
        self._post_event(f"payment.{payment.status}", payment.shown())

    def send_refund(self, payment: Payment, minor_units: int, now: datetime) -> None:
        """Send that money of a payment was given back."""
        refund = {
            "id": str(uuid4()),
            "payment_id": payment.id,
            "status": SUCCEEDED,
            "amount": {"value": decimal(minor_units), "currency": payment.currency},
            "created_at": iso(now),
        }
        self._post_event("refund.succeeded", refund)

    def _post_event(self, event: str, payload: Mapping[str, object]) -> None:
        if self.url is None:
            return
        notice = {"type": "notification", "event": event, "object": payload}
        body = json.dumps(notice).encode()
        for _ in range(self.times):
            wait = random.uniform(0, LONGEST_SHUFFLE_SECONDS) if self.shuffle else 0.0
            self.post(self.url, body, after_seconds=wait)
