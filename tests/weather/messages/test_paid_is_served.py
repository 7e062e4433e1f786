"""What was paid for is served, whatever became of the subscriber's row in between."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from project.billing.models import Subscription
from project.billing.queries import current_subscription
from project.billing.subscriptions.service import expire_some
from project.core import clock as product_clock
from project.core.db.transaction import transaction
from project.weather.messages import service
from tests.time_machine import Clock
from tests.weather.messages.station import Station
from tests.weather.world import ADDITIONS as ADDITIONS_HEADER
from tests.weather.world import CANCELLATIONS as CANCELLATIONS_HEADER
from tests.weather.world import MOSCOW, Operator, lines

NUMBER = "+79161230045"


def add_by_api(desk: Operator) -> None:
    desk.subscriber(NUMBER, plan="weekly")


def add_by_file(desk: Operator) -> None:
    row = f"{product_clock.now().isoformat()},{NUMBER},2,{MOSCOW[0]},{MOSCOW[1]}"
    desk.imported("additions", lines(ADDITIONS_HEADER, row))


def patch_to_active(desk: Operator) -> None:
    answer = desk.client.patch(f"/api/subscribers/{NUMBER}", json={"state": "active"})
    assert answer.status_code == 200, answer.json


def delete(desk: Operator) -> None:
    assert desk.client.delete(f"/api/subscribers/{NUMBER}").status_code == 204


def cancel(desk: Operator) -> None:
    answer = desk.client.patch(f"/api/subscribers/{NUMBER}", json={"state": "canceled"})
    assert answer.status_code == 200, answer.json


def cancel_by_file(desk: Operator) -> None:
    row = f"{product_clock.now().isoformat()},{NUMBER}"
    desk.imported("cancellations", lines(CANCELLATIONS_HEADER, row))


@pytest.mark.parametrize(
    ("leave", "come_back"),
    [
        (delete, add_by_api),
        (delete, add_by_file),
        (cancel, add_by_api),
        (cancel, patch_to_active),
        (cancel_by_file, patch_to_active),
    ],
)
@pytest.mark.parametrize("hours_away", [1, 26, 75])
def test_a_paid_week_brings_its_messages_to_whoever_comes_back(
    station: Station,
    clock: Clock,
    desk: Operator,
    leave: Callable[[Operator], None],
    come_back: Callable[[Operator], None],
    hours_away: int,
) -> None:
    station.forecast()
    add_by_api(desk)
    station.day()
    leave(desk)
    station.day()
    clock.advance(hours=hours_away)
    with transaction():
        expire_some()
    come_back(desk)
    station.day()
    for _ in range(6 - hours_away // 24):
        clock.advance(days=1)
        station.day()

    dates = [str(one.local_date) for one in station.messages(NUMBER)]
    missed = {str(datetime(2027, 1, 15 + day, tzinfo=UTC).date()) for day in range(7)} - set(dates)
    assert len(missed) == max(hours_away // 24 - 1, 0)
    assert len(station.sent(NUMBER)) == len(dates) == 7 - len(missed)
    assert station.charges(NUMBER) == ["charged"]
    clock.advance(days=1)
    station.day()
    assert station.charges(NUMBER) == ["charged"] * 2


def expired_before_its_answer(station: Station, clock: Clock, number: str) -> None:
    """Lose the carrier's yes, and let the subscription expire before anybody asks for it."""
    station.day()
    clock.advance(days=1)
    station.simulator.add_fault("/carrier/billing", drop="after")
    station.bill()
    station.simulator.control("DELETE", "/faults")
    with transaction() as session:
        found = current_subscription(station.subscriber(number).customer_id)
        assert found is not None
        session.execute(
            update(Subscription)
            .where(Subscription.id == found.id)
            .values(state="canceled", due_at=None)
        )
        expire_some()


def test_money_that_comes_after_all_brings_the_subscriber_back(
    station: Station, clock: Clock
) -> None:
    number = station.paid()
    expired_before_its_answer(station, clock, number)
    gone = station.subscriber(number)
    assert (gone.state, gone.end_reason) == ("canceled", "unpaid")
    clock.advance(minutes=10)

    station.inquire()
    station.day()

    back = station.subscriber(number)
    assert (back.state, back.end_reason, back.canceled_at) == ("active", None, None)
    assert station.charges(number) == ["charged"] * 2
    assert len(station.sent(number)) == 2
    clock.advance(days=1)
    station.day()
    assert (len(station.charges(number)), len(station.sent(number))) == (3, 3)


@pytest.mark.parametrize("how", ["left", "left after the end", "stop", "deleted"])
def test_money_that_comes_after_all_brings_nobody_back_who_left(
    station: Station, clock: Clock, desk: Operator, how: str
) -> None:
    number = station.paid()
    customer_id = station.subscriber(number).customer_id
    if how == "left":
        desk.client.patch(f"/api/subscribers/{number}", json={"state": "canceled"})
    expired_before_its_answer(station, clock, number)
    if how == "left after the end":
        desk.client.patch(f"/api/subscribers/{number}", json={"state": "canceled"})
    if how == "stop":
        with transaction():
            service.hear_inbound(number, "STOP")
    if how == "deleted":
        desk.client.delete(f"/api/subscribers/{number}")
    clock.advance(minutes=10)
    station.inquire()
    sent, charged = len(station.sent(number)), len(station.charges(number))
    for _ in range(3):
        clock.advance(days=1)
        station.day()

    assert (len(station.sent(number)), len(station.charges(number))) == (sent, charged)
    with transaction():
        found = current_subscription(customer_id)
        assert found is not None
        assert found.due_at is None


def test_who_is_added_again_while_the_charge_is_under_way_gets_what_it_pays_for(
    station: Station, clock: Clock, desk: Operator
) -> None:
    desk.subscriber(NUMBER, MOSCOW, plan="weekly")
    station.simulator.add_fault("/carrier/billing", drop="after")
    station.bill()
    station.simulator.control("DELETE", "/faults")
    delete(desk)
    station.bill()
    add_by_api(desk)
    station.bill()
    clock.advance(minutes=5)
    station.inquire()
    station.day()
    assert station.charges(NUMBER) == ["charged"]
    assert len(station.sent(NUMBER)) == 1


@pytest.mark.parametrize("state", ["active", "canceled"])
def test_nobody_is_told_that_a_stop_was_undone_or_made_a_cancellation(
    station: Station, desk: Operator, state: str
) -> None:
    number = station.paid()
    with transaction():
        service.hear_inbound(number, "STOP")
    answer = desk.client.patch(f"/api/subscribers/{number}", json={"state": state})
    assert answer.status_code == 409, answer.json
    shown = desk.shown(number)
    assert (shown["state"], shown["end_reason"]) == ("stopped", "stop")
    moved = desk.client.patch(f"/api/subscribers/{number}", json={"lat": 55.5, "lon": 37.5})
    assert moved.status_code == 200
