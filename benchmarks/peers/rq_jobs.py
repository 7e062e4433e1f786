"""The peers on RQ: rows through the ORM and a commit for each, as it is usually written.

A job takes some rows, calls out with `requests` over kept connections, as many at once as ours, and
records each answer as it comes. They run on the same workers, in the same
tables, with the same engine as ours.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import TypeVar
from uuid import UUID

import requests
import uuid_utils.compat
from dateutil.relativedelta import relativedelta
from requests.adapters import HTTPAdapter
from sqlalchemy import select

from project.billing.models import (
    Customer,
    Package,
    Payment,
    PaymentState,
    Subscription,
    Trigger,
)
from project.billing.providers.settings import YooKassaSettings
from project.billing.settings import BillingSettings
from project.callbacks.models import Callback, CallbackAttempt, Endpoint, Event
from project.callbacks.settings import CallbackSettings
from project.callbacks.signing import signing_headers
from project.callbacks.states import CallbackState
from project.companies.models import Company
from project.config.environment import get_settings
from project.core.secrets import decrypt
from project.extensions import db
from project.mobile.models import App, Purchase
from project.mobile.settings import StoreSettings
from project.mobile.states import DeviceOs, PurchaseState
from project.weather.messages.receipts import callback_url
from project.weather.models import Message, MessageEvent
from project.weather.settings import SmsSettings

STORE_TIME = timezone(timedelta(hours=-6))
JSON = {"Content-Type": "application/json"}

Row = TypeVar("Row")
Id = TypeVar("Id", int, UUID)


@dataclass(frozen=True)
class Call:
    """A POST to be made by a thread, which touches no row."""

    url: str
    body: bytes
    timeout_seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)
    auth: tuple[str, str] | None = None


def _work_through(
    ids: Sequence[Id],
    threads: int,
    prepare: Callable[[Id], tuple[Row, Call]],
    record: Callable[[Row, requests.Response], None],
) -> None:
    """Load each row, make its call in a thread, record and commit each answer as it comes."""
    with requests.Session() as session, ThreadPoolExecutor(threads) as pool:
        session.mount("http://", HTTPAdapter(pool_maxsize=threads))

        def post(call: Call) -> requests.Response:
            return session.post(
                call.url,
                data=call.body,
                headers=call.headers,
                auth=call.auth,
                timeout=call.timeout_seconds,
                allow_redirects=False,
            )

        rows = {}
        for id_ in ids:
            row, call = prepare(id_)
            db.session.commit()
            rows[pool.submit(post, call)] = row
        for answered in as_completed(rows):
            answer = answered.result()
            answer.raise_for_status()
            record(rows[answered], answer)
            db.session.commit()


def check_some(ids: Sequence[int], threads: int) -> None:
    """Ask the store about purchases; record its answers, an event and a callback for each."""
    _work_through(ids, threads, _question, _change)


def _question(purchase_id: int) -> tuple[Purchase, Call]:
    settings = get_settings(StoreSettings)
    purchase = db.session.get_one(Purchase, purchase_id)
    ios = purchase.os == DeviceOs.IOS
    url = settings.app_store_url if ios else settings.google_play_url
    body = json.dumps({"receipt": purchase.receipt}).encode()
    return purchase, Call(f"{url}/verify", body, settings.store_timeout_seconds, JSON)


def _change(purchase: Purchase, answer: requests.Response) -> None:
    verdict = answer.json()
    now = datetime.now(UTC)
    if verdict["status"]:
        local = datetime.fromisoformat(verdict["expire-date"]).replace(tzinfo=STORE_TIME)
        purchase.state = PurchaseState.ACTIVE
        purchase.expire_date = purchase.due_at = local.astimezone(UTC)
        _tell(purchase, "renewed", now)
    else:
        purchase.state = PurchaseState.CANCELED
        purchase.due_at = None
        purchase.canceled_at = now
        _tell(purchase, "canceled", now)
    purchase.checked_at = now
    purchase.claim_id = purchase.claimed_until = None


def _tell(purchase: Purchase, type_: str, now: datetime) -> None:
    data = {
        "appID": purchase.app_id,
        "deviceID": purchase.device_id,
        "purchaseID": purchase.id,
        "expire-date": purchase.expire_date.isoformat() if purchase.expire_date else None,
    }
    event = Event(
        id=uuid_utils.compat.uuid7(),
        type=type_,
        subject_type="purchase",
        subject_id=purchase.id,
        data=data,
        occurred_at=now,
    )
    db.session.add(event)
    db.session.flush()
    body = {"id": str(event.id), "type": type_, **data, "occurred_at": now.isoformat()}
    db.session.add(
        Callback(
            event_id=event.id,
            endpoint_id=db.session.get_one(App, purchase.app_id).endpoint_id,
            type=type_,
            body=json.dumps(body),
            state=CallbackState.PENDING,
            attempts_allowed=get_settings(CallbackSettings).callback_max_attempts,
            due_at=now,
            created_at=now,
        )
    )


def send_some(ids: Sequence[UUID], threads: int) -> None:
    """Send messages; record the gateway's answers."""
    _work_through(ids, threads, _order, _accept)


def _order(message_id: UUID) -> tuple[Message, Call]:
    settings = get_settings(SmsSettings)
    message = db.session.get_one(Message, message_id)
    order = {
        "msisdn": message.msisdn,
        "msgid": str(message.id),
        "text": message.text,
        "callback": callback_url(),
    }
    body = json.dumps(order).encode()
    return message, Call(settings.sms_gateways[0], body, settings.sms_timeout_seconds, JSON)


def _accept(message: Message, answer: requests.Response) -> None:
    gateway = get_settings(SmsSettings).sms_gateways[0]
    now = datetime.now(UTC)
    message.state = answer.json()["status"]
    message.gateway = gateway
    message.gateway_ref = answer.json()["reference"]
    message.attempts += 1
    message.accepted_at = now
    message.due_at = now + timedelta(days=3)
    db.session.add(
        MessageEvent(
            message_id=message.id,
            msgid=str(message.id),
            kind="answer",
            gateway=gateway,
            status="accepted",
            body=answer.text,
            received_at=now,
        )
    )


def deliver_some(ids: Sequence[int], threads: int) -> None:
    """Send callbacks; record each attempt and what became of its callback."""
    _work_through(ids, threads, _delivery, _record)


@dataclass(frozen=True)
class _Delivery:
    callback: Callback
    endpoint: Endpoint
    sent_at: datetime


def _delivery(callback_id: int) -> tuple[_Delivery, Call]:
    callback = db.session.get_one(Callback, callback_id)
    endpoint = db.session.get_one(Endpoint, callback.endpoint_id)
    sent_at = datetime.now(UTC)
    body = callback.body.encode()
    headers = signing_headers(str(callback.event_id), body, [decrypt(endpoint.secret)], sent_at)
    timeout = get_settings(CallbackSettings).callback_timeout_seconds
    return (
        _Delivery(callback, endpoint, sent_at),
        Call(endpoint.url, body, timeout, {**headers, **JSON}),
    )


def _record(delivery: _Delivery, answer: requests.Response) -> None:
    callback, endpoint, sent_at = delivery.callback, delivery.endpoint, delivery.sent_at
    now = datetime.now(UTC)
    delivered = answer.status_code in (200, 201)
    callback.attempts += 1
    callback.last_status = answer.status_code
    callback.state = CallbackState.DELIVERED if delivered else CallbackState.PENDING
    callback.due_at = (
        None
        if delivered
        else now + timedelta(seconds=get_settings(CallbackSettings).callback_retry_seconds)
    )
    callback.delivered_at = now if delivered else None
    db.session.add(
        CallbackAttempt(
            callback_id=callback.id,
            number=callback.attempts,
            trigger=callback.trigger,
            url=endpoint.url,
            status=answer.status_code,
            answer=answer.text[:500],
            duration_ms=round((now - sent_at).total_seconds() * 1000),
            attempted_at=sent_at,
        )
    )


def charge_some(ids: Sequence[int], threads: int) -> None:
    """Charge subscriptions: commit a payment, ask the provider, record the answer."""
    _work_through(ids, threads, _charge, _settle)


def _charge(subscription_id: int) -> tuple[tuple[Payment, Subscription], Call]:
    shop = get_settings(YooKassaSettings)
    subscription = db.session.get_one(Subscription, subscription_id)
    customer = db.session.get_one(Customer, subscription.customer_id)
    package = db.session.get_one(Package, subscription.package_id)
    payment = _new_payment(subscription, customer, package)
    db.session.add(payment)
    return (payment, subscription), Call(
        f"{shop.yookassa_url}/payments",
        json.dumps(_order_of(payment, customer)).encode(),
        get_settings(BillingSettings).provider_timeout_seconds,
        {"Idempotence-Key": str(payment.id), **JSON},
        (shop.yookassa_shop_id, shop.yookassa_secret_key),
    )


def _new_payment(subscription: Subscription, customer: Customer, package: Package) -> Payment:
    now = datetime.now(UTC)
    start = subscription.ended_at
    return Payment(
        id=uuid_utils.compat.uuid7(),
        customer_id=customer.id,
        package_id=package.id,
        subscription_id=subscription.id,
        state=PaymentState.PENDING,
        trigger=Trigger.SUBSCRIPTION_CYCLE,
        attempt=1,
        amount=package.price,
        currency=package.currency,
        period_start=start,
        period_end=start + relativedelta(months=package.period_count),
        provider=customer.provider,
        payment_method_id=customer.payment_method_id,
        created_at=now,
        due_at=now,
    )


def _order_of(payment: Payment, customer: Customer) -> dict[str, object]:
    return {
        "amount": {"value": f"{payment.amount / 100:.2f}", "currency": payment.currency},
        "capture": True,
        "payment_method_id": payment.payment_method_id,
        "metadata": {
            "payment_id": str(payment.id),
            "customer": f"{customer.kind}:{customer.reference}",
            "package_id": str(payment.package_id),
        },
    }


def _settle(charged: tuple[Payment, Subscription], answer: requests.Response) -> None:
    payment, subscription = charged
    result = answer.json()
    if result["status"] != "succeeded":
        raise RuntimeError(f"The provider refused: {result}")
    now = datetime.now(UTC)
    payment.external_id = result["id"]
    payment.state = PaymentState.SUCCEEDED
    payment.settled_at = now
    payment.due_at = None
    assert payment.period_end is not None
    subscription.current_period_start = subscription.ended_at
    subscription.ended_at = subscription.due_at = payment.period_end
    subscription.claim_id = subscription.claimed_until = None
    company_id = db.session.scalar(
        select(Company.id).where(Company.customer_id == subscription.customer_id)
    )
    for type_ in ("payment.succeeded", "package.renewed"):
        db.session.add(
            Event(
                id=uuid_utils.compat.uuid7(),
                type=type_,
                subject_type="company",
                subject_id=company_id,
                data={"company_id": company_id, "subscription_id": subscription.id},
                occurred_at=now,
            )
        )
