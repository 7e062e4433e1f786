"""Control over YooKassa: its settings and scripts, and its books behind its back."""

import json
from collections import Counter, defaultdict
from datetime import datetime

from aiohttp import web

from simulator.json_http import bad_request, json_answer, not_found, read_object, reject_unknown
from simulator.yookassa.control_orders import (
    AddedPayment,
    outcome_text,
    outcome_texts,
    parse_added,
    parse_refund,
    parse_settlement,
    parse_tampering,
    seconds_or_none,
    seed_or_none,
    times,
    truth,
    url_or_none,
)
from simulator.yookassa.outcomes import SUCCEEDED, Outcomes, Script
from simulator.yookassa.payment_store import PaymentStore
from simulator.yookassa.payments import Payment, decimal
from simulator.yookassa.webhooks import Webhooks

BASE = "/control/yookassa"
SHOWN_PAYMENTS = 100

SETTINGS = frozenset(
    {
        "seed",
        "default",
        "settle_after_seconds",
        "webhook_url",
        "webhook_times",
        "webhook_shuffle",
    }
)


class YooKassaControl:
    """The control API of the provider; it asks for no credentials."""

    def __init__(self, payments: PaymentStore, outcomes: Outcomes, webhooks: Webhooks) -> None:
        self._payments = payments
        self._outcomes = outcomes
        self._webhooks = webhooks

    def routes(self) -> list[web.RouteDef]:
        """Return the control routes."""
        return [
            web.get(f"{BASE}/settings", self.show_settings),
            web.put(f"{BASE}/settings", self.change_settings),
            web.get(f"{BASE}/methods/{{id:.+}}", self.show_script),
            web.put(f"{BASE}/methods/{{id:.+}}", self.set_script),
            web.get(f"{BASE}/payments", self.show_payments),
            web.post(f"{BASE}/payments", self.add_payments),
            web.patch(f"{BASE}/payments/{{id}}", self.tamper),
            web.delete(f"{BASE}/payments/{{id}}", self.forget),
            web.post(f"{BASE}/payments/{{id}}/settle", self.settle),
            web.post(f"{BASE}/payments/{{id}}/refund", self.refund),
            web.get(f"{BASE}/summary", self.show_summary),
        ]

    async def show_settings(self, request: web.Request) -> web.Response:
        """Answer the settings, and how the notices fared."""
        return json_answer(
            {
                "seed": self._outcomes.seed,
                "default": self._outcomes.default,
                "settle_after_seconds": self._outcomes.settle_after_seconds,
                "webhook_url": self._webhooks.url,
                "webhook_times": self._webhooks.times,
                "webhook_shuffle": self._webhooks.shuffle,
                "webhooks": self._webhooks.counters(),
            }
        )

    async def change_settings(self, request: web.Request) -> web.Response:
        """Change the settings that are given and leave the others."""
        data = await read_object(request)
        reject_unknown(data, SETTINGS)
        outcomes, webhooks = self._outcomes, self._webhooks
        default = outcome_text("default", data.get("default", outcomes.default))
        settle_after_seconds = seconds_or_none(
            "settle_after_seconds", data.get("settle_after_seconds", outcomes.settle_after_seconds)
        )
        seed = seed_or_none("seed", data.get("seed"))
        url = url_or_none("webhook_url", data.get("webhook_url", webhooks.url))
        webhook_times = times("webhook_times", data.get("webhook_times", webhooks.times))
        shuffle = truth("webhook_shuffle", data.get("webhook_shuffle", webhooks.shuffle))

        outcomes.default, outcomes.settle_after_seconds = default, settle_after_seconds
        webhooks.url, webhooks.times, webhooks.shuffle = url, webhook_times, shuffle
        if "seed" in data:
            outcomes.sow(seed)
        return await self.show_settings(request)

    async def show_script(self, request: web.Request) -> web.Response:
        """Answer what is still to come for a payment method."""
        script = self._outcomes.script(request.match_info["id"])
        return json_answer({"outcomes": list(script.outcomes), "then": script.then})

    async def set_script(self, request: web.Request) -> web.Response:
        """Script the payments of a payment method; {} goes back to the default."""
        data = await read_object(request)
        reject_unknown(data, frozenset({"outcomes", "then"}))
        then = data.get("then")
        script = Script(
            outcome_texts("outcomes", data.get("outcomes", [])),
            None if then is None else outcome_text("then", then),
        )
        self._outcomes.set_script(request.match_info["id"], script)
        return await self.show_script(request)

    async def show_payments(self, request: web.Request) -> web.Response:
        """Answer the counts and the last payments, newest first."""
        limit = request.query.get("limit", str(SHOWN_PAYMENTS))
        if not limit.isdecimal() or len(limit) > 9:
            raise bad_request("limit is not a whole number")
        await self._payments.now()
        newest = zip(range(int(limit)), self._payments.all.newest_first(), strict=False)
        return json_answer(
            {
                "count": len(self._payments.all),
                "by_status": {
                    status: len(timeline)
                    for status, timeline in self._payments.by_status.items()
                    if len(timeline)
                },
                "items": [_shown(payment) for _, payment in newest],
            }
        )

    async def add_payments(self, request: web.Request) -> web.Response:
        """Put payments into the books that nobody asked for: one, or all of a list."""
        try:
            data = json.loads(await request.read())
        except (ValueError, RecursionError):
            raise bad_request("the body is not JSON") from None
        if not isinstance(data, list):
            payment = self._add(parse_added(data), await self._payments.now())
            return json_answer(_shown(payment), status=201)
        added = [parse_added(one) for one in data]
        now = await self._payments.now()
        return json_answer({"ids": [self._add(one, now).id for one in added]}, status=201)

    async def tamper(self, request: web.Request) -> web.Response:
        """Change a payment behind the provider's back, also a final one; no notice is sent."""
        change = parse_tampering(await read_object(request))
        now = await self._payments.now()
        payment = self._payment(request)
        payment.value = change.value or payment.value
        payment.currency = change.currency or payment.currency
        if change.metadata is not None:
            payment.metadata = change.metadata
        if change.outcome is not None:
            self._payments.change(payment, change.outcome, now)
        return json_answer(_shown(payment))

    async def forget(self, request: web.Request) -> web.Response:
        """Take a payment and its idempotence key out of the books."""
        self._payments.forget(self._payment(request))
        return json_answer({"removed": 1})

    async def settle(self, request: web.Request) -> web.Response:
        """Settle an open payment, as a person or the bank would."""
        outcome = parse_settlement(await read_object(request))
        now = await self._payments.now()
        payment = self._payment(request)
        if payment.is_final:
            raise bad_request(f"the payment is {payment.status} already")
        self._payments.settle(payment, outcome, now)
        return json_answer(_shown(payment))

    async def refund(self, request: web.Request) -> web.Response:
        """Give money of a payment back, as the shop would in its cabinet: a part, or the rest."""
        order = parse_refund(await read_object(request))
        now = await self._payments.now()
        payment = self._payment(request)
        left = payment.minor_units - payment.refunded
        amount = left if order.minor_units is None else order.minor_units
        if payment.status != SUCCEEDED or not 0 < amount <= left:
            raise bad_request(f"{decimal(left)} of the {payment.status} payment can be refunded")
        payment.refunded += amount
        if order.notify:
            self._webhooks.send_refund(payment, amount, now)
        return json_answer(_shown(payment))

    async def show_summary(self, request: web.Request) -> web.Response:
        """Answer how often each thing was paid for, and what each customer paid."""
        await self._payments.now()
        payment_ids: Counter[str] = Counter()
        keys: Counter[str] = Counter()
        customers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for payment in self._payments.all.newest_first():
            paid = int(payment.status == SUCCEEDED)
            metadata = payment.metadata or {}
            if "payment_id" in metadata:
                payment_ids[metadata["payment_id"]] += paid
            if payment.idempotence_key is not None:
                keys[payment.idempotence_key] += paid
            if paid and "customer" in metadata:
                customers[metadata["customer"]][payment.currency] += payment.minor_units
        return json_answer(
            {
                "succeeded_by_payment_id": payment_ids,
                "succeeded_by_idempotence_key": keys,
                "paid_more_than_once": sorted(
                    payment_id for payment_id, paid in payment_ids.items() if paid > 1
                ),
                "paid_by_customer": {
                    customer: {name: decimal(total) for name, total in totals.items()}
                    for customer, totals in customers.items()
                },
            }
        )

    def _payment(self, request: web.Request) -> Payment:
        payment = self._payments.get(request.match_info["id"])
        if payment is None:
            raise not_found("no such payment")
        return payment

    def _add(self, added: AddedPayment, now: datetime) -> Payment:
        payment = added.payment
        self._payments.add(payment, added.created_at or now)
        self._payments.change(payment, added.outcome, payment.created_at)
        if added.notify and payment.is_final:
            self._webhooks.send(payment)
        return payment


def _shown(payment: Payment) -> dict[str, object]:
    return {**payment.shown(), "idempotence_key": payment.idempotence_key}
