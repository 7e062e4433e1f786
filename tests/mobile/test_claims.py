"""Several who work at once: nothing is doubled, nothing is lost."""

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, text

from project.callbacks.models import Callback, Event
from project.core.db.transaction import transaction
from project.core.work import pump
from project.extensions import db
from project.mobile.models import Purchase, PurchaseDaily
from project.mobile.purchases import queries, service
from project.mobile.purchases.jobs import verify_due_purchases
from project.mobile.purchases.verification import PurchaseVerification
from project.mobile.stores.base import Refused, Verified
from simulator.client import SimulatorClient
from tests.factories import Factory
from tests.mobile.conftest import Buy
from tests.time_machine import Clock


def at_once(app: Flask, work: Callable[[], object], *, times: int) -> list[object]:
    together = threading.Barrier(times)
    results: list[object] = []

    def run() -> None:
        with app.app_context():
            together.wait()
            results.append(work())

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == times
    return results


def test_two_pumps_at_once_double_nothing(
    app: Flask, factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    device = factory.device()
    renewed = [factory.purchase(device).id for _ in range(40)]
    canceled = [factory.purchase(device) for _ in range(10)]
    for purchase in canceled:
        factory.store_says(purchase, "canceled")
    clock.advance(days=31)
    simulator.control("PUT", "/settings", {"latency_seconds": {"/app-store/*": 0.05}})

    done = at_once(app, lambda: pump.run(PurchaseVerification()), times=3)

    assert sum(int(str(count)) for count in done) == 50
    assert simulator.control("GET", "/stores")["app-store"]["requests"] == 100
    events = Counter(
        (row.subject_id, row.type)
        for row in db.session.execute(select(Event.subject_id, Event.type))
    )
    expected = Counter((purchase_id, "started") for purchase_id in renewed)
    expected.update((purchase_id, "renewed") for purchase_id in renewed)
    for type_ in ("started", "canceled"):
        expected.update((purchase.id, type_) for purchase in canceled)
    assert events == expected
    assert db.session.scalar(select(func.count()).select_from(Callback)) == 100
    counted = db.session.execute(
        select(
            func.sum(PurchaseDaily.started),
            func.sum(PurchaseDaily.renewed),
            func.sum(PurchaseDaily.canceled),
        )
    ).one()
    assert tuple(counted) == (50, 40, 10)


def test_one_receipt_bought_at_once_many_times_is_one_purchase(
    app: Flask, factory: Factory, simulator: SimulatorClient
) -> None:
    device, receipt = factory.device(), factory.receipt()
    simulator.control("PUT", "/settings", {"latency_seconds": {"/app-store/*": 0.1}})

    def buy() -> int:
        body = {"client-token": device.token, "receipt": receipt}
        return app.test_client().post("/api/purchase", json=body).status_code

    statuses = at_once(app, buy, times=5)
    assert set(statuses) <= {200, 202}
    assert 200 in statuses
    assert simulator.control("GET", "/stores")["app-store"]["requests"] == 1
    assert db.session.scalar(select(func.count()).select_from(Purchase)) == 1
    assert db.session.scalars(select(Event.type)).all() == ["started"]


def test_a_purchase_in_somebodys_hands_is_not_claimed_by_another(
    app: Flask, factory: Factory, clock: Clock
) -> None:
    factory.purchase()
    clock.advance(days=31)
    with transaction():
        first = service.claim_purchases(queries.due_purchases(limit=10))
    with transaction():
        second = service.claim_purchases(queries.due_purchases(limit=10))
    assert (len(first.rows), len(second.rows)) == (1, 0)
    assert verify_due_purchases() == 0


def test_a_worker_that_died_is_replaced_when_its_lease_ends(factory: Factory, clock: Clock) -> None:
    purchase = factory.purchase()
    clock.advance(days=31)
    with transaction():
        service.claim_purchases(queries.due_purchases(limit=10))
    clock.advance(days=1)
    assert verify_due_purchases() == 0, "the lease is in real time"
    with transaction():
        db.session.execute(text("UPDATE purchases SET claimed_until = now() - interval '1 second'"))
    assert verify_due_purchases() == 1
    renewed = factory.reloaded(purchase.id)
    assert (renewed.claim_id, renewed.claimed_until) == (None, None)


def test_an_answer_whose_claim_was_lost_changes_nothing(factory: Factory, clock: Clock) -> None:
    purchase = factory.purchase()
    clock.advance(days=31)
    with transaction():
        slow = service.claim_purchases(queries.due_purchases(limit=10))
        db.session.execute(text("UPDATE purchases SET claimed_until = now() - interval '1 second'"))
    assert verify_due_purchases() == 1
    renewed = factory.reloaded(purchase.id)
    for answer in (Refused("late"), Verified(clock.now() + timedelta(days=900))):
        with transaction():
            service.record_answers([(slow.rows[0], answer)])
    after = factory.reloaded(purchase.id)
    assert (after.state, after.expire_date) == ("active", renewed.expire_date)
    assert sorted(db.session.scalars(select(Event.type)).all()) == ["renewed", "started"]


def test_what_is_recorded_is_recorded_with_its_event_or_not_at_all(
    factory: Factory, clock: Clock
) -> None:
    purchase = factory.purchase()
    clock.advance(days=31)
    with transaction():
        claimed = service.claim_purchases(queries.due_purchases(limit=10))

    class Interrupted(Exception):
        pass

    def record_and_break_off() -> None:
        with transaction():
            service.record_answers([(claimed.rows[0], Refused("gone"))])
            raise Interrupted

    with pytest.raises(Interrupted):
        record_and_break_off()
    after = factory.reloaded(purchase.id)
    assert (after.state, after.expire_date) == ("active", purchase.expire_date)
    assert db.session.scalars(select(Event.type)).all() == ["started"]


def test_a_store_asked_by_the_workers_is_not_asked_by_the_customer_too(
    buy: Buy, factory: Factory, operator: FlaskClient, clock: Clock, simulator: SimulatorClient
) -> None:
    device, receipt = factory.device(), factory.receipt()
    factory.purchase(device, receipt)
    clock.advance(days=31)
    with transaction():
        service.claim_purchases(queries.due_purchases(limit=10))
    assert buy(device, receipt).status_code == 202
    assert simulator.control("GET", "/stores")["app-store"]["requests"] == 1
