"""A test clock that is set back takes pauses along, and leaves the dates of a purchase alone."""

from datetime import timedelta

from project.core import clock as product_clock
from project.mobile.purchases.jobs import verify_due_purchases
from simulator.client import SimulatorClient
from tests.factories import Factory
from tests.time_machine import Clock


def test_a_purchase_that_its_store_put_off_is_asked_about_within_the_hour_of_a_reset(
    factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    clock.advance(days=60)
    simulator.add_fault("/app-store/*", status=429, times=1)
    purchase = factory.purchase()
    assert purchase.state == "pending"

    product_clock.reset()

    put_off = factory.reloaded(purchase.id)
    assert put_off.due_at is not None
    assert timedelta(0) < put_off.due_at - clock.now() <= timedelta(hours=1)
    clock.advance(hours=1)
    verify_due_purchases()
    assert factory.reloaded(purchase.id).state == "active"


def test_a_purchase_that_runs_is_due_at_its_end_wherever_the_clock_goes(
    factory: Factory, clock: Clock
) -> None:
    clock.advance(days=10)
    purchase = factory.purchase()
    assert purchase.due_at == purchase.expire_date

    product_clock.reset()
    clock.advance(days=5)
    clock.set_to(clock.now() - timedelta(days=3))

    assert factory.reloaded(purchase.id).due_at == purchase.expire_date


def test_an_active_purchase_whose_store_was_away_is_asked_about_soon_after_the_clock_was_set_back(
    factory: Factory, simulator: SimulatorClient, clock: Clock
) -> None:
    purchase = factory.purchase()
    assert purchase.expire_date is not None
    clock.set_to(purchase.expire_date + timedelta(days=90))
    simulator.add_fault("/app-store/*", status=503)
    verify_due_purchases()
    clock.set_to(purchase.expire_date + timedelta(minutes=1))

    put_off = factory.reloaded(purchase.id)

    assert put_off.due_at is not None
    assert put_off.due_at - clock.now() <= timedelta(hours=1)
