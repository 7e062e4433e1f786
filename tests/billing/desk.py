"""What tests of billing need to be there and want to know, in the words of the domain."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Flask
from sqlalchemy import select, text

from project.billing.customers.service import ensure_customer
from project.billing.models import Customer, Payment, ReconciliationCase, Subscription
from project.billing.packages.service import create_package
from project.billing.payments import service as payments
from project.billing.payments.charging import Autopayment
from project.billing.subscriptions import service as subscriptions
from project.core.db.transaction import transaction
from project.core.net import http_client
from project.extensions import db
from simulator.client import SimulatorClient

PRICE = 99_000


class Desk:
    """Makes customers with packages through the services, and reads what became of them."""

    def __init__(self, simulator: SimulatorClient) -> None:
        self.simulator = simulator
        self._numbers = itertools.count(1)

    def package(self, **changes: Any) -> int:
        """Make a monthly package with three tries a day apart, and return its id."""
        values: dict[str, Any] = {
            "name": f"Package {next(self._numbers)}",
            "price": PRICE,
            "currency": "RUB",
            "period": "month",
            "period_count": 1,
            "status": "active",
            "retry_attempts": 3,
            "retry_interval_seconds": 86_400,
            "at_retry_end": "expire",
        }
        with transaction():
            return create_package(values | changes).id

    def customer(self, *outcomes: str, method: bool = True, provider: str = "yookassa") -> Customer:
        """Make a customer whose saved card is answered with these outcomes, then with yes."""
        number = next(self._numbers)
        card = f"card-{number}" if method else None
        if card and provider == "yookassa":
            self.script(card, *outcomes)
        with transaction():
            made = ensure_customer(
                "external", f"customer-{number}", provider=provider, payment_method_id=card
            )
            return _apart(made)

    def script(self, card: str, *outcomes: str, then: str = "succeeded") -> None:
        """Say how the provider answers charges of a card."""
        order = {"outcomes": list(outcomes), "then": then}
        self.simulator.control("PUT", f"/yookassa/methods/{card}", order)

    @contextmanager
    def trouble(self, match: str, **fault: object) -> Iterator[None]:
        """Let the provider misbehave for a while; our client sends anew on a broken connection."""
        self.simulator.add_fault(match, **fault)
        yield
        self.simulator.control("DELETE", "/faults")

    def subscription(self, *outcomes: str, package_id: int | None = None, **of: Any) -> int:
        """Give a new customer a package and return the subscription's id."""
        return self.give(self.customer(*outcomes, **of), package_id or self.package())

    def give(self, customer: Customer, package_id: int) -> int:
        """Give the customer a package, now or later, and return the subscription's id."""
        with transaction():
            return subscriptions.assign(customer, package_id).subscription.id

    def cancel(self, subscription_id: int) -> None:
        """Cancel the customer's subscription."""
        with transaction():
            subscriptions.cancel(self.read(subscription_id).customer_id)

    def pay_now(self, subscription_id: int, trigger: str = "retry_customer") -> Payment:
        """Charge what is owed at once, as the customer asks."""
        with transaction():
            customer = db.session.get_one(Customer, self.read(subscription_id).customer_id)
            attempt = payments.begin_retry(customer, payments.Trigger(trigger))
        return payments.draw_now(attempt)

    def purchase(self, customer: Customer, package_id: int) -> Payment:
        """Begin a payment that the customer confirms."""
        with transaction():
            attempt = payments.begin_purchase(customer, package_id, "https://shop.example/back")
        return payments.draw_now(attempt)

    def read(self, subscription_id: int) -> Subscription:
        """Return the subscription as it is in the database now; it does not change with it."""
        with transaction() as session:
            statement = select(Subscription).where(Subscription.id == subscription_id)
            return _apart(
                session.scalars(statement.execution_options(populate_existing=True)).one()
            )

    def payments(self, subscription_id: int | None = None) -> list[Payment]:
        """Return the payments, of one subscription or all, oldest first."""
        statement = select(Payment).order_by(Payment.created_at, Payment.id)
        if subscription_id is not None:
            statement = statement.where(Payment.subscription_id == subscription_id)
        with transaction() as session:
            found = session.scalars(statement.execution_options(populate_existing=True)).all()
            return [_apart(payment) for payment in found]

    def states(self, subscription_id: int | None = None) -> list[str]:
        """Return the states of the payments, oldest first."""
        return [payment.state for payment in self.payments(subscription_id)]

    def cases(self) -> list[tuple[str, str]]:
        """Return kind and state of the cases, oldest first."""
        with transaction() as session:
            found = session.scalars(select(ReconciliationCase).order_by(ReconciliationCase.id))
            return [(case.kind, case.state) for case in found]

    def paid_there(self) -> dict[str, int]:
        """Return how often the provider was paid under each of our payment ids."""
        summary = self.simulator.control("GET", "/yookassa/summary")
        found: dict[str, int] = summary["succeeded_by_payment_id"]
        return found

    def asked_there(self) -> int:
        """Return how many payments the provider has made."""
        count: int = self.simulator.control("GET", "/yookassa/payments")["count"]
        return count


def _apart(row: Any) -> Any:
    db.session.flush()
    db.session.refresh(row)
    db.session.expunge(row)
    return row


def claim_charges(limit: int = 100) -> list[Any]:
    """Claim what is due and commit, as a worker does before it calls."""
    with transaction():
        return list(Autopayment().claim(limit))


def call_provider(attempt: Any) -> Any:
    """Make the outside call of a worker."""
    return http_client.start(Autopayment().call(attempt)).result()


def record_charges(results: list[tuple[Any, Any]]) -> None:
    """Write down what came of the calls."""
    with transaction():
        Autopayment().record(results)


def end_leases() -> None:
    """Let the leases of workers that died run out."""
    with transaction():
        for table in ("subscriptions", "payments"):
            db.session.execute(
                text(
                    f"UPDATE {table} SET claimed_until = now() - interval '1 second'"
                    " WHERE claimed_until IS NOT NULL"
                )
            )


def at_once(app: Flask, *work: Callable[[], object]) -> list[object]:
    """Run each piece of work in a thread of its own, all beginning together."""
    together = threading.Barrier(len(work))
    results: list[object] = []

    def run(one: Callable[[], object]) -> None:
        with app.app_context():
            together.wait()
            results.append(one())

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == len(work)
    return results


def close_to(found: datetime | None, wanted: datetime, seconds: float = 5) -> bool:
    """Tell whether two moments agree but for the time that a test takes."""
    return found is not None and abs(found - wanted) <= timedelta(seconds=seconds)


NOBODY = UUID(int=0)
