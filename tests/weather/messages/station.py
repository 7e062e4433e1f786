"""What tests of messages need to be there and want to know, in the words of the domain."""

import itertools
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, text, update

from project.billing.models import Payment
from project.billing.payments.charging import PromptAutopayment
from project.billing.payments.inquiry import PendingInquiry
from project.core import clock as product_clock
from project.core.db.transaction import transaction
from project.core.work import pump
from project.extensions import db
from project.weather import billing_sync, local_time
from project.weather.gateways.registry import rotation
from project.weather.messages import jobs, service
from project.weather.messages.delivery import MessageDelivery
from project.weather.models import Forecast, Message, MessageEvent, Subscriber
from simulator.client import SimulatorClient
from tests.time_machine import Clock

MOSCOW = "Europe/Moscow"


class Station:
    """Makes subscribers, bills them, sends, and reads what became of it."""

    def __init__(self, simulator: SimulatorClient) -> None:
        self.simulator = simulator
        self._numbers = itertools.count(1)

    def forecast(self, gid: int = 1, fcat24: str = "Sunny, 20C", fcat48: str = "Rain") -> int:
        now = product_clock.now()
        with transaction() as session:
            session.merge(
                Forecast(
                    gid=gid,
                    lat=55.0,
                    lon=37.0,
                    fcat24=fcat24,
                    fcat48=fcat48,
                    is_active=True,
                    created_at=now,
                    updated_at=now,
                )
            )
        return gid

    def number(self, ending: str = "") -> str:
        return f"+7900{next(self._numbers):03d}{ending or '0001'}"

    def subscribe(self, msisdn: str | None = None, **changes: Any) -> str:
        """Add a subscriber in Moscow, as an import does, and return its number."""
        msisdn = msisdn or self.number()
        now = product_clock.now()
        values: dict[str, Any] = {
            "lat": 55.0,
            "lon": 37.0,
            "zone": MOSCOW,
            "language": "en",
            "plan": "daily",
            "forecast_gid": 1,
        } | changes
        with transaction() as session:
            session.add(
                Subscriber(
                    customer_id=billing_sync.ensure_customer(msisdn),
                    msisdn=msisdn,
                    state="active",
                    created_at=now,
                    updated_at=now,
                    billing_due_at=now,
                    **values,
                )
            )
            billing_sync.wake_billing()
        return msisdn

    def bill(self) -> None:
        """Let billing follow, and charge what is due."""
        jobs.follow_plans()
        pump.run(PromptAutopayment())

    def inquire(self) -> None:
        pump.run(PendingInquiry())

    def paid(self, msisdn: str | None = None, **changes: Any) -> str:
        """Add a subscriber whose first period is paid."""
        msisdn = self.subscribe(msisdn, **changes)
        self.bill()
        return msisdn

    def make(self) -> int:
        return jobs.make_messages()

    def send(self) -> int:
        return pump.run(MessageDelivery())

    def day(self) -> None:
        """Do what the sweeps of a minute do."""
        self.bill()
        self.make()
        self.send()

    def trigger(self) -> int:
        with transaction():
            _, due = service.begin_run()
        return due

    def script(self, msisdn: str, *outcomes: str, then: str | None = None) -> None:
        order = {"outcomes": list(outcomes), "then": then}
        self.simulator.control("PUT", f"/sms/numbers/{msisdn}", order)

    def carrier_script(self, msisdn: str, *outcomes: str, then: str | None = None) -> None:
        order = {"outcomes": list(outcomes), "then": then}
        self.simulator.control("PUT", f"/carrier/numbers/{msisdn}", order)

    def silence_receipts(self) -> None:
        self.simulator.control("PUT", "/sms/settings", {"receipt_after_seconds": None})

    def sent(self, msisdn: str | None = None) -> list[Any]:
        """Return what the gateways took, oldest first."""
        query = f"?limit=100000{'&msisdn=%2B' + msisdn[1:] if msisdn else ''}"
        items: list[Any] = self.simulator.control("GET", f"/sms/messages{query}")["items"]
        return items[::-1]

    def gateways(self) -> dict[str, Any]:
        counts: dict[str, Any] = self.simulator.control("GET", "/sms")["gateways"]
        return counts

    def messages(self, msisdn: str | None = None) -> Sequence[Message]:
        with transaction() as session:
            statement = select(Message).order_by(Message.local_date, Message.id)
            if msisdn:
                statement = statement.where(Message.msisdn == msisdn)
            found = session.scalars(statement.execution_options(populate_existing=True)).all()
            for one in found:
                session.expunge(one)
            return found

    def message(self, msisdn: str) -> Message:
        found = self.messages(msisdn)
        assert len(found) == 1, f"{len(found)} messages"
        return found[0]

    def states(self, msisdn: str) -> list[str]:
        return [one.state for one in self.messages(msisdn)]

    def events(self, msisdn: str) -> list[tuple[str, str]]:
        with transaction() as session:
            rows = session.execute(
                select(MessageEvent.kind, MessageEvent.status)
                .join(Message, Message.id == MessageEvent.message_id)
                .where(Message.msisdn == msisdn)
                .order_by(MessageEvent.id)
            )
            return [(row.kind, row.status) for row in rows]

    def subscriber(self, msisdn: str) -> Subscriber:
        with transaction() as session:
            found = session.scalars(
                select(Subscriber)
                .where(Subscriber.msisdn == msisdn)
                .execution_options(populate_existing=True)
            ).one()
            session.expunge(found)
            return found

    def change(self, msisdn: str, **values: Any) -> None:
        """Change a subscriber as the API does."""
        with transaction() as session:
            session.execute(
                update(Subscriber)
                .where(Subscriber.msisdn == msisdn)
                .values(billing_due_at=product_clock.now(), **values)
            )

    def payments(self, msisdn: str) -> list[str]:
        with transaction() as session:
            return list(
                session.scalars(
                    select(Payment.state)
                    .where(Payment.customer_id == self.subscriber(msisdn).customer_id)
                    .order_by(Payment.id)
                )
            )

    def charges(self, msisdn: str) -> list[str]:
        """Return what the carrier decided, oldest first."""
        query = f"?msisdn=%2B{msisdn[1:]}&limit=1000"
        items = self.simulator.control("GET", f"/carrier/charges{query}")["items"]
        return [one["status"] for one in items][::-1]


def end_leases() -> None:
    """Let the leases of workers that died run out."""
    with transaction():
        for table in ("subscriptions", "payments", "messages"):
            db.session.execute(
                text(
                    f"UPDATE {table} SET claimed_until = now() - interval '1 second'"
                    " WHERE claimed_until IS NOT NULL"
                )
            )


def rested_out() -> None:
    """Let every gateway be used again, as after its rest."""
    rotation().wake_up()


def send_after_pauses(station: Station, clock: Clock, *, times: int) -> None:
    """Send again and again, each time after the pause between tries and the gateways' rest."""
    for _ in range(times):
        rested_out()
        station.send()
        clock.advance(minutes=6)


def local(moment: datetime, zone: str = MOSCOW) -> str:
    return moment.astimezone(local_time.zone_of(zone)).strftime("%Y-%m-%d %H:%M")


def at_once(app: Any, *work: Any) -> None:
    """Run each piece of work in a thread of its own, all beginning together."""
    together = threading.Barrier(len(work))

    def run(one: Any) -> None:
        with app.app_context():
            together.wait()
            one()

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


ONE_DAY = timedelta(days=1)
