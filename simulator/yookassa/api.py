"""YooKassa: payments by a saved card or by a person, never doubled under one key."""

from datetime import datetime, timedelta
from itertools import islice

from aiohttp import web

from simulator.clock import Clock
from simulator.json_http import json_answer, not_found
from simulator.yookassa.control import YooKassaControl
from simulator.yookassa.outcomes import PENDING, SUCCEEDED, Outcome, Outcomes
from simulator.yookassa.payment_store import PaymentStore
from simulator.yookassa.payments import Payment
from simulator.yookassa.queries import cursor, parse_query
from simulator.yookassa.requests import (
    Refused,
    digest,
    idempotence_key,
    invalid,
    parse_payment,
    read_body,
    refusing,
    shop_id,
)
from simulator.yookassa.webhooks import Webhooks

API = "/yookassa/v3"
PAY = "/yookassa/pay"


class YooKassa:
    """The API of the provider, the page where a person pays, and the control over both."""

    def __init__(self, clock: Clock) -> None:
        self._outcomes = Outcomes()
        self._webhooks = Webhooks()
        self._payments = PaymentStore(clock, on_final=self._webhooks.send)
        self._control = YooKassaControl(self._payments, self._outcomes, self._webhooks)

    def reset(self) -> None:
        """Forget all payments, scripts, settings and notices."""
        self._webhooks.reset()
        self._outcomes.reset()
        self._payments.reset()

    async def close(self, _: web.Application) -> None:
        """Stop the notices."""
        await self._webhooks.close()

    def routes(self) -> list[web.RouteDef]:
        """Return the public and the control routes."""
        return [
            web.post(f"{API}/payments", refusing(self.create_payment)),
            web.get(f"{API}/payments", refusing(self.list_payments)),
            web.get(f"{API}/payments/{{id}}", refusing(self.get_payment)),
            web.get(f"{PAY}/{{id}}", self.pay, allow_head=False),
            *self._control.routes(),
        ]

    async def create_payment(self, request: web.Request) -> web.Response:
        """Make a payment, or answer the one that the same key has made."""
        account_id = shop_id(request)
        key = idempotence_key(request)
        data = await read_body(request)
        body_digest = digest(data)
        now = await self._payments.now()
        made = self._payments.made_with(key, now)
        if made is not None:
            if made.body_digest != body_digest:
                raise invalid("Idempotence key duplicated", "Idempotence-Key")
            return json_answer(made.shown())
        payment = parse_payment(data)
        payment.account_id = account_id
        payment.idempotence_key = key
        payment.body_digest = body_digest
        self._payments.add(payment, now)
        if payment.method_id is None:
            payment.confirmation_url = f"{request.scheme}://{request.host}{PAY}/{payment.id}"
        else:
            outcome = self._outcomes.next(payment.method_id).with_capture(payment.capture)
            self._charge(payment, outcome, payment.created_at)
        return json_answer(payment.shown())

    async def get_payment(self, request: web.Request) -> web.Response:
        """Answer one payment."""
        shop_id(request)
        await self._payments.now()
        payment = self._payments.get(request.match_info["id"])
        if payment is None:
            raise Refused(404, "not_found", "Payment doesn't exist", "payment_id")
        return json_answer(payment.shown())

    async def list_payments(self, request: web.Request) -> web.Response:
        """Answer a page of payments, newest first."""
        shop_id(request)
        query = parse_query(request.query)
        await self._payments.now()
        timeline = (
            self._payments.all if query.status is None else self._payments.by_status[query.status]
        )
        found = filter(query.accepts, timeline.newest_first(query.low, query.high))
        page = list(islice(found, query.limit))
        items = [payment.shown() for payment in page]
        answer: dict[str, object] = {"type": "list", "items": items}
        if next(found, None) is not None:
            answer["next_cursor"] = cursor(page[-1])
        return json_answer(answer)

    async def pay(self, request: web.Request) -> web.Response:
        """Pay as a person would, and go back to the shop."""
        now = await self._payments.now()
        payment = self._payments.get(request.match_info["id"])
        if payment is None or payment.return_url is None:
            raise not_found("no such payment to confirm")
        if payment.status == PENDING:
            self._payments.settle(payment, Outcome(SUCCEEDED).with_capture(payment.capture), now)
        return web.Response(status=302, headers={"Location": payment.return_url})

    def _charge(self, payment: Payment, outcome: Outcome, at: datetime) -> None:
        if outcome.status != PENDING:
            self._payments.settle(payment, outcome, at)
            return
        seconds = self._outcomes.settle_after_seconds
        if seconds is not None and outcome.becomes is not None:
            self._payments.settle_later(payment, outcome.becomes, at + timedelta(seconds=seconds))
