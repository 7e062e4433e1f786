"""Every change of a company is called back, signed, with the same shape of body."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from standardwebhooks import Webhook, WebhookVerificationError

from tests.api.problems import assert_problem
from tests.companies.conftest import NewPackage, NewShop
from tests.companies.shop import END, NEXT_END, PASSWORD, START, Run, Shop, day
from tests.factories import Factory
from tests.time_machine import Clock


@pytest.fixture
def hearing(new_shop: NewShop) -> Shop:
    """A shop that hears of everything, logged in, whose card is good."""
    shop = new_shop(hears=True)
    shop.log_in()
    shop.card()
    return shop


def heard(shop: Shop, run: Run) -> list[dict[str, Any]]:
    """Deliver what is due, verify each signature, and return the bodies as things happened."""
    run("callbacks-run", "--inline")
    bodies = []
    for message in shop.messages():
        body = Webhook(shop.secret or "").verify(message["body"], message["headers"])
        assert body == json.loads(message["body"])
        assert body.keys() == {"id", "type", "company_id", "occurred_at", "data"}
        assert body["id"] == message["headers"]["webhook-id"]
        assert body["company_id"] == shop.id
        assert datetime.fromisoformat(body["occurred_at"]).utcoffset() == timedelta(0)
        bodies.append(body)
    assert len({body["id"] for body in bodies}) == len(bodies)
    return sorted(bodies, key=lambda body: (body["occurred_at"], body["id"]))


def types(bodies: list[dict[str, Any]]) -> list[str]:
    return [body["type"] for body in bodies]


def of_type(bodies: list[dict[str, Any]], type_: str) -> dict[str, Any]:
    [found] = [body["data"] for body in bodies if body["type"] == type_]
    data: dict[str, Any] = found
    return data


def test_a_login_and_a_change(hearing: Shop, run: Run) -> None:
    hearing.log_in()
    changes = {"name": "Augusta", "email": "augusta@example.com", "current_password": PASSWORD}
    hearing.call("PATCH", "/me", json=changes)

    bodies = heard(hearing, run)

    assert types(bodies) == ["company.activated", "company.updated"]
    assert of_type(bodies, "company.activated") == {"reason": "first login"}
    assert of_type(bodies, "company.updated") == {"changed": ["email", "name"]}


def test_a_package_taken_renewed_and_canceled(
    hearing: Shop, new_package: NewPackage, clock: Clock, run: Run
) -> None:
    package_id = new_package()
    hearing.take(package_id)
    clock.set_to(END)
    run("autopayments-run", "--inline")
    hearing.call("POST", "/packages/cancel", json={})
    hearing.call("POST", "/packages/cancel", json={})
    clock.set_to(NEXT_END)
    run("expire-subscriptions-run", "--inline")

    bodies = heard(hearing, run)

    assert sorted(types(bodies)) == [
        "company.activated",
        "package.assigned",
        "package.canceled",
        "package.expired",
        "package.renewed",
        "payment.succeeded",
    ]
    assigned = of_type(bodies, "package.assigned")
    assert assigned.pop("subscription_id") > 0
    assert day(assigned.pop("start_date")) == START.date()
    assert day(assigned.pop("paid_until")) == day(assigned.pop("end_date")) == END.date()
    assert assigned == {"package_id": package_id, "next_package_id": None}
    renewed = of_type(bodies, "package.renewed")
    assert (day(renewed["start_date"]), day(renewed["end_date"])) == (END.date(), NEXT_END.date())
    assert of_type(bodies, "package.canceled")["end_date"] == renewed["end_date"]
    assert of_type(bodies, "package.expired")["end_date"] == renewed["end_date"]
    [payment] = hearing_payments(hearing)
    assert of_type(bodies, "payment.succeeded") == {
        "payment_id": payment["id"],
        "amount": 1000,
        "currency": "EUR",
        "attempt": 1,
        "trigger": "subscription_cycle",
        "reason": None,
        "is_final": True,
    }


def hearing_payments(shop: Shop) -> list[dict[str, Any]]:
    shop.log_in()
    payments: list[dict[str, Any]] = shop.get(f"/{shop.id}/payments")["data"]
    return payments


def test_a_package_that_is_to_come_is_named(
    hearing: Shop, new_package: NewPackage, run: Run
) -> None:
    small, large = new_package(), new_package(price=5000)
    hearing.take(small)
    hearing.take(large)

    assigned = [one["data"] for one in heard(hearing, run) if one["type"] == "package.assigned"]

    assert [(one["package_id"], one["next_package_id"]) for one in assigned] == [
        (small, None),
        (small, large),
    ]


def test_refused_three_times_and_paid_back_in(
    hearing: Shop, new_package: NewPackage, clock: Clock, run: Run
) -> None:
    hearing.card("canceled", "canceled", "canceled")
    hearing.take(new_package())
    clock.set_to(END)
    for _ in range(3):
        run("autopayments-run", "--inline")
        clock.advance(days=1)
    hearing.log_in()
    assert hearing.pay().status_code == 200

    bodies = heard(hearing, run)

    refused = [one["data"] for one in bodies if one["type"] == "payment.refused"]
    assert [(one["attempt"], one["is_final"]) for one in refused] == [
        (1, False),
        (2, False),
        (3, True),
    ]
    assert {one["reason"] for one in refused} == {"insufficient_funds"}
    assert of_type(bodies, "company.passive") == {"reason": "the last charge was refused"}
    told = types(bodies)
    for type_ in ("package.expired", "package.renewed", "payment.succeeded"):
        assert told.count(type_) == 1, type_
    activated = [one["data"]["reason"] for one in bodies if one["type"] == "company.activated"]
    assert activated == ["first login", "it has paid"]


def test_where_the_package_says_cancel_the_last_refusal_cancels(
    hearing: Shop, new_package: NewPackage, clock: Clock, run: Run
) -> None:
    hearing.card(then="canceled")
    hearing.take(new_package(at_retry_end="cancel", retry_attempts=1))
    clock.set_to(END)
    run("autopayments-run", "--inline")

    told = types(heard(hearing, run))

    assert told.count("package.canceled") == 1
    assert "package.expired" not in told
    assert told.count("company.passive") == 1


def test_a_changed_body_is_not_verified(hearing: Shop, run: Run) -> None:
    heard(hearing, run)
    [message] = hearing.messages()
    forged = message["body"].replace("first login", "last login")

    with pytest.raises(WebhookVerificationError):
        Webhook(hearing.secret or "").verify(forged, message["headers"])


def test_a_shop_without_an_endpoint_is_told_nothing(
    operator: FlaskClient, shop: Shop, run: Run
) -> None:
    run("callbacks-run", "--inline")

    assert operator.get("/api/callbacks").get_json()["data"] == []


def test_an_operator_finds_the_callbacks_of_a_company(
    operator: FlaskClient, factory: Factory, hearing: Shop, new_shop: NewShop, run: Run
) -> None:
    factory.purchase()
    other = new_shop(hears=True)
    other.log_in()
    run("callbacks-run", "--inline")

    def listed(query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = operator.get(f"/api/callbacks{query}").get_json()["data"]
        return found

    assert len(listed("")) == 3
    [one] = listed(f"?company_id={hearing.id}")
    assert (one["company_id"], one["app_id"]) == (hearing.id, None)
    assert (one["type"], one["state"]) == ("company.activated", "delivered")
    [of_app] = listed("?app_id=1")
    assert (of_app["company_id"], of_app["app_id"]) == (None, 1)
    assert listed("?company_id=999") == []
    assert_problem(operator.get("/api/callbacks?company_id=x"), 400, "company_id")

    body = {"since": START.isoformat(), "state": "delivered", "company_id": hearing.id}
    assert operator.post("/api/callbacks/replay", json=body).get_json()["replayed"] == 1
