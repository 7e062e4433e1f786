"""The peers: one RQ job per row, written the way it is usually done.

Each job loads its row through the ORM, calls out with `requests`, changes the row and commits.
They run on the same workers, in the same tables, with the same engine as ours.
"""

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import requests
import uuid_utils.compat
from dateutil.relativedelta import relativedelta
from sqlalchemy import select

from project.billing.models import (
    Customer,
    Package,
    Payment,
    PaymentState,
    Subscription,
    Trigger,
)
from project.callbacks.models import Callback, CallbackAttempt, CallbackState, Endpoint, Event
from project.callbacks.signing import signing_headers
from project.companies.models import Company
from project.config import get_settings
from project.core.secrets import decrypt
from project.extensions import db
from project.mobile.models import App, DeviceOs, Purchase, PurchaseState
from project.weather.messages.receipts import callback_url
from project.weather.models import Message, MessageEvent

STORE_TIME = timezone(timedelta(hours=-6))


def check_one(purchase_id: int) -> None:
    """Ask the store about one purchase; record its answer, an event and a callback."""
    settings = get_settings()
    purchase = db.session.get_one(Purchase, purchase_id)
    ios = purchase.os == DeviceOs.IOS
    url = settings.app_store_url if ios else settings.google_play_url
    answer = requests.post(
        f"{url}/verify", json={"receipt": purchase.receipt}, timeout=settings.store_timeout_seconds
    )
    answer.raise_for_status()
    _change(purchase, answer.json())
    db.session.commit()


def _change(purchase: Purchase, said: dict[str, str]) -> None:
    now = datetime.now(UTC)
    if said["status"]:
        local = datetime.fromisoformat(said["expire-date"]).replace(tzinfo=STORE_TIME)
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
            attempts_allowed=get_settings().callback_max_attempts,
            due_at=now,
            created_at=now,
        )
    )


def send_one(message_id: UUID) -> None:
    """Send one message; record the gateway's answer."""
    settings = get_settings()
    message = db.session.get_one(Message, message_id)
    gateway = settings.sms_gateways[0]
    order = {
        "msisdn": message.msisdn,
        "msgid": str(message.id),
        "text": message.text,
        "callback": callback_url(),
    }
    answer = requests.post(gateway, json=order, timeout=settings.sms_timeout_seconds)
    answer.raise_for_status()
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
    db.session.commit()


def deliver_one(callback_id: int) -> None:
    """Send one callback; record the attempt and what became of the callback."""
    callback = db.session.get_one(Callback, callback_id)
    endpoint = db.session.get_one(Endpoint, callback.endpoint_id)
    sent_at = datetime.now(UTC)
    body = callback.body.encode()
    secrets = [decrypt(endpoint.secret)]
    answer = requests.post(
        endpoint.url,
        data=body,
        headers={
            **signing_headers(str(callback.event_id), body, secrets, sent_at),
            "Content-Type": "application/json",
        },
        timeout=get_settings().callback_timeout_seconds,
        allow_redirects=False,
    )
    _record(callback, endpoint, answer, sent_at)
    db.session.commit()


def _record(
    callback: Callback, endpoint: Endpoint, answer: requests.Response, sent_at: datetime
) -> None:
    now = datetime.now(UTC)
    delivered = answer.status_code in (200, 201)
    callback.attempts += 1
    callback.last_status = answer.status_code
    callback.state = CallbackState.DELIVERED if delivered else CallbackState.PENDING
    callback.due_at = (
        None if delivered else now + timedelta(seconds=get_settings().callback_retry_seconds)
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


def charge_one(subscription_id: int) -> None:
    """Charge one subscription: commit its payment, ask the provider, record the answer."""
    subscription = db.session.get_one(Subscription, subscription_id)
    customer = db.session.get_one(Customer, subscription.customer_id)
    package = db.session.get_one(Package, subscription.package_id)
    payment = _new_payment(subscription, customer, package)
    db.session.add(payment)
    db.session.commit()
    answer = requests.post(
        f"{get_settings().yookassa_url}/payments",
        data=json.dumps(_charge(payment, customer)),
        headers={"Idempotence-Key": str(payment.id), "Content-Type": "application/json"},
        auth=(get_settings().yookassa_shop_id, get_settings().yookassa_secret_key),
        timeout=get_settings().provider_timeout_seconds,
    )
    answer.raise_for_status()
    _settle(payment, subscription, answer.json())
    db.session.commit()


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


def _charge(payment: Payment, customer: Customer) -> dict[str, object]:
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


def _settle(payment: Payment, subscription: Subscription, said: dict[str, str]) -> None:
    if said["status"] != "succeeded":
        raise RuntimeError(f"The provider refused: {said}")
    now = datetime.now(UTC)
    payment.external_id = said["id"]
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
