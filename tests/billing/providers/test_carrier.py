"""The carrier's adapter: asked by our id, with no list and no amounts of its own."""

from datetime import timedelta
from typing import Any

import pytest

from project.billing.models import Payment
from project.billing.payments.charging import Autopayment
from project.billing.providers.base import (
    NotThere,
    ProviderPayment,
    ProviderStatus,
    Rejected,
    Unknown,
)
from project.billing.queries import current_subscription
from project.billing.subscriptions.service import Prepaid, subscribe
from project.core.db.transaction import transaction
from project.core.work import pump
from simulator.client import SimulatorClient
from tests.billing.desk import Desk
from tests.billing.providers.conftest import CarrierHouse, ask, carrier, charge
from tests.time_machine import Clock

NUMBER = "+79001112233"


@pytest.fixture
def house(simulator: SimulatorClient) -> CarrierHouse:
    return CarrierHouse(simulator)


def order(**changes: Any) -> Any:
    return charge(NUMBER, amount=100, description="forecast-daily", **changes)


def test_a_number_is_charged_for_the_plan(house: CarrierHouse, clock: Clock) -> None:
    wanted = order()
    made = ask(house.provider.create(wanted))

    assert isinstance(made, ProviderPayment)
    assert (made.status, made.amount, made.currency) == (ProviderStatus.SUCCEEDED, 100, "RUB")
    assert made.external_id == str(wanted.payment_id)
    assert abs(made.created_at - clock.now()) < timedelta(seconds=5)
    listed = house.simulator.control("GET", "/carrier/charges")["items"]
    assert [(one["msisdn"], one["sub_plan"], one["key"]) for one in listed] == [
        (NUMBER, "daily", str(wanted.payment_id))
    ]


@pytest.mark.parametrize(
    ("reason", "is_hard"),
    [("insufficient_funds", False), ("unknown_subscriber", True), ("barred", True)],
)
def test_a_refusal_says_why_and_whether_trying_again_can_help(
    house: CarrierHouse, reason: str, is_hard: bool
) -> None:
    house.decide(NUMBER, f"canceled:{reason}")
    wanted = order()
    made = ask(house.provider.create(wanted))
    again = ask(house.provider.get(str(wanted.payment_id)))

    assert (made.status, made.reason, made.is_hard) == (ProviderStatus.CANCELED, reason, is_hard)
    assert (again.status, again.reason, again.is_hard) == (made.status, reason, is_hard)


def test_the_same_payment_id_again_is_the_same_charge(house: CarrierHouse) -> None:
    house.decide(NUMBER, "canceled:insufficient_funds", "succeeded")
    first = order()

    assert ask(house.provider.create(first)).status is ProviderStatus.CANCELED
    assert ask(house.provider.create(first)).status is ProviderStatus.CANCELED
    assert ask(house.provider.create(order())).status is ProviderStatus.SUCCEEDED


def test_a_lost_answer_is_unknown_and_found_by_our_id(house: CarrierHouse) -> None:
    house.simulator.add_fault("/carrier/billing", drop="after")
    wanted = order()

    assert isinstance(ask(house.provider.create(wanted)), Unknown)
    found = ask(house.provider.get(str(wanted.payment_id)))
    assert found.status is ProviderStatus.SUCCEEDED


def test_what_the_carrier_never_had_is_not_there(house: CarrierHouse) -> None:
    assert ask(house.provider.get(str(order().payment_id))) == NotThere()


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_an_error_of_the_carrier_is_no_refusal(house: CarrierHouse, status: int) -> None:
    house.simulator.add_fault("/carrier/*", status=status)

    assert ask(house.provider.create(order())) == Unknown(f"answered {status}")
    assert ask(house.provider.get("x")) == Unknown(f"answered {status}")


def test_a_carrier_that_hangs_is_not_waited_for(simulator: SimulatorClient) -> None:
    simulator.add_fault("/carrier/*", delay_seconds=2)
    word = ask(carrier(simulator, deadline=0.2).create(order()))

    assert word == Unknown("no answer within 0.2 s")


@pytest.mark.parametrize(
    "body", ["", "[]", "charged", '{"status": []}', '{"status": "perhaps"}', "{" * 5000]
)
def test_an_answer_that_says_nothing_is_unknown(house: CarrierHouse, body: str) -> None:
    house.simulator.add_fault("/carrier/*", body=body)

    assert isinstance(ask(house.provider.create(order())), Unknown)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_request_that_is_not_taken_is_rejected(house: CarrierHouse, status: int) -> None:
    house.simulator.add_fault("/carrier/*", status=status)

    assert ask(house.provider.create(order())) == Rejected(f"answered {status}")


@pytest.mark.parametrize(
    "charged_at", ["7", '"0001-01-01T00:00:00+02:00"', '"9999-12-31T23:30:00-01:00"']
)
def test_an_answer_need_not_say_when(house: CarrierHouse, charged_at: str) -> None:
    body = f'{{"status": "charged", "charged_at": {charged_at}}}'
    house.simulator.add_fault("/carrier/*", body=body)

    assert ask(house.provider.create(order())).status is ProviderStatus.SUCCEEDED


class TestPrepaid:
    """Subscriptions that begin with a charge."""

    @pytest.fixture
    def package_id(self, desk: Desk) -> int:
        return desk.package(
            name="forecast-daily",
            period="day",
            price=100,
            retry_interval_seconds=60,
            charged="at_the_end",
        )

    def begin(self, desk: Desk, package_id: int, clock: Clock, outcomes: tuple[str, ...]) -> int:
        customer = desk.customer(provider="carrier")
        number = customer.payment_method_id
        script = {"outcomes": list(outcomes)}
        desk.simulator.control("PUT", f"/carrier/numbers/{number}", script)
        with transaction():
            subscribe([Prepaid(customer.id, package_id, clock.now())])
            found = current_subscription(customer.id)
        assert found is not None
        return found.id

    def test_the_first_charge_pays_the_first_period(
        self, desk: Desk, package_id: int, clock: Clock
    ) -> None:
        began = clock.now()
        one = self.begin(desk, package_id, clock, ())
        before = desk.read(one)
        pump.run(Autopayment())
        after = desk.read(one)

        assert before.ended_at <= clock.now()
        assert abs(after.current_period_start - began) < timedelta(seconds=2)
        assert after.ended_at - after.current_period_start == timedelta(days=1)
        assert after.due_at == after.ended_at
        assert after.state == "active"

    def test_the_next_charge_waits_for_the_end_of_the_period(
        self, desk: Desk, package_id: int, clock: Clock
    ) -> None:
        one = self.begin(desk, package_id, clock, ())
        pump.run(Autopayment())
        clock.advance(hours=23)
        pump.run(Autopayment())
        assert len(desk.payments(one)) == 1
        clock.advance(hours=1, seconds=10)
        pump.run(Autopayment())
        assert [payment.state for payment in desk.payments(one)] == ["succeeded", "succeeded"]

    def test_a_lost_answer_is_asked_after_before_another_try(
        self, desk: Desk, package_id: int, clock: Clock
    ) -> None:
        one = self.begin(desk, package_id, clock, ())
        with desk.trouble("/carrier/billing", drop="after"):
            pump.run(Autopayment())
        asked = desk.simulator.control("GET", "/carrier")["requests"]
        assert [payment.state for payment in desk.payments(one)] == ["pending"]
        clock.advance(minutes=11)
        pump.run(Autopayment())

        assert [payment.state for payment in desk.payments(one)] == ["succeeded"]
        counts = desk.simulator.control("GET", "/carrier")
        assert (counts["requests"], counts["inquiries"], counts["charged"]) == (asked, 1, 1)

    def test_the_last_refusal_ends_the_subscription(
        self, desk: Desk, package_id: int, clock: Clock
    ) -> None:
        one = self.begin(desk, package_id, clock, ("refused", "refused", "refused"))
        for _ in range(3):
            assert desk.read(one).state in ("active", "past_due")
            pump.run(Autopayment())
            clock.advance(seconds=61)

        assert desk.read(one).state == "expired"
        states: list[Payment] = desk.payments(one)
        assert [payment.state for payment in states] == ["canceled"] * 3
