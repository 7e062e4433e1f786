"""A carrier that speaks the older service's protocol: no key, no inquiry, success or failure.

Nothing tells such a carrier that a request is the same as one before, and nobody can ask it what
it did. So a request is sent once. One that surely never arrived may be made anew; one that may
have arrived and was not answered is left to people.
"""

import json
from dataclasses import replace

from project.billing.providers.base import (
    Charge,
    NotThere,
    ProviderPayment,
    Rejected,
    Unknown,
)
from project.billing.providers.carrier import REJECTED, Carrier, payment_in
from project.core.net import http_client
from project.core.net.http_client import Request

NO_INQUIRY = "the carrier cannot be asked what it did"
PAYMENT_REQUIRED = 402
# Whoever limits requests has not begun with this one (RFC 6585).
NOT_BEGUN = REJECTED | {429}
REFUSED = b'{"status": "failure", "reason": "payment_required"}'
PLANS = {"day": 11, "week": 21}
PERIODS = {"daily": "day", "weekly": "week"}


class LegacyCarrier(Carrier):
    """A carrier's billing service as the older service knew it."""

    name = "carrier_legacy"
    has_inquiry = False

    async def create(self, charge: Charge) -> ProviderPayment | Rejected | Unknown:
        """Charge the number for a period of its plan."""
        number = (charge.payment_method_id or "").removeprefix("+")
        order = {"msisdn": number, "sub_plan": PLANS[_period(charge)]}
        answer = await http_client.send(
            Request(
                "POST",
                self._url,
                json.dumps(order).encode(),
                {**self._headers, "Content-Type": "application/json"},
                deadline_seconds=self._deadline_seconds,
                once=True,
            )
        )
        if answer.status == PAYMENT_REQUIRED:
            answer = replace(answer, status=200, body=REFUSED)
        if answer.status in NOT_BEGUN:
            return Rejected(f"answered {answer.status}")
        if not answer.connected:
            return Rejected(answer.error or "cannot connect")
        word = payment_in(answer, str(charge.payment_id), (charge.amount, charge.currency))
        return Unknown(NO_INQUIRY) if isinstance(word, NotThere) else word

    async def get(self, external_id: str) -> ProviderPayment | NotThere | Unknown:
        """Say that there is nobody to ask: the carrier has no inquiry."""
        return Unknown(NO_INQUIRY)


def _period(charge: Charge) -> str:
    return charge.plan or PERIODS[charge.description.rpartition("-")[2]]
