"""The notices that YooKassa sends of payments that were settled."""

import json
import random

from simulator.outgoing import Outgoing
from simulator.yookassa.payments import Payment

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

    def tell(self, payment: Payment) -> None:
        """Send what the payment is now, as often as it is set."""
        if self.url is None:
            return
        notice = {
            "type": "notification",
            "event": f"payment.{payment.status}",
            "object": payment.shown(),
        }
        body = json.dumps(notice).encode()
        for _ in range(self.times):
            wait = random.uniform(0, LONGEST_SHUFFLE_SECONDS) if self.shuffle else 0.0
            self.post(self.url, body, after_seconds=wait)
