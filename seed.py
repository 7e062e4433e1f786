"""Fill the database with Faker data through the services: `make seed`, `make seed ARGS="--apps 3"`.

The same seed makes the same data, and what is there already is left alone, so running it again
makes no duplicates.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import click
import numpy as np
from faker import Faker
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from sqlalchemy import Row, Text, func, insert, select, union_all, update

from project.application import create_app
from project.billing.customers import service as customers
from project.billing.models import Package, Payment, Subscription
from project.billing.packages import service as packages
from project.billing.payments.charging import Autopayment
from project.billing.states import PeriodUnit
from project.billing.subscriptions import service as subscriptions
from project.clicks.drain import drain_batch
from project.clicks.models import ClickDay, click_ids, click_inbox
from project.companies import service as companies
from project.companies.models import Company
from project.config.environment import get_settings
from project.core import clock
from project.core.commands import DueProgress
from project.core.db.transaction import transaction
from project.core.work import pump
from project.extensions import db
from project.mobile.apps import service as apps
from project.mobile.devices import service as devices
from project.mobile.models import App, Device, Purchase
from project.mobile.purchases import service as purchases
from project.mobile.settings import StoreSettings
from project.mobile.states import DeviceOs
from project.mobile.stores.base import Refused, StoreAnswer, Unavailable, Verified
from project.weather.forecasts.bulk_upsert import ForecastRow, save_forecasts
from project.weather.forecasts.nearest import load_tree
from project.weather.models import Forecast, Subscriber
from project.weather.states import Plan
from project.weather.subscribers import changes
from project.weather.subscribers.changes import Addition, Cancellation
from project.weather.subscribers.queries import existing_numbers
from project.weather.tasks import ensure_assignments

BATCH = 200
PERIOD_DAYS = 30
SEED_PASSWORD = "a seeded company logs in with this"
CLICK_BATCH = 1000
OFFERS = 40
SOURCES = ("google", "facebook", "tiktok", "newsletter", "bing", "partner", "direct")
MODELS = (
    App,
    Device,
    Purchase,
    Package,
    Company,
    Subscription,
    Payment,
    Forecast,
    Subscriber,
)
CITIES = (
    (55.7558, 37.6173),  # Moscow
    (59.9343, 30.3351),  # Saint Petersburg
    (56.8389, 60.6057),  # Yekaterinburg
    (55.0084, 82.9357),  # Novosibirsk
    (43.1155, 131.8855),  # Vladivostok
    (43.5855, 39.7231),  # Sochi
    (41.0082, 28.9784),  # Istanbul
    (39.9334, 32.8597),  # Ankara
    (38.4237, 27.1428),  # Izmir
    (36.8969, 30.7133),  # Antalya
)
SKIES = ("Sun", "Clouds", "Rain", "Fog", "Snow", "Wind")
ANSWERS = ("good", "refused", "unavailable")
ANSWER_SHARES = (85, 10, 5)


class Seeder:
    """Makes what is missing and counts what it made."""

    def __init__(self, seed: int, progress: Progress) -> None:
        self.faker = Faker()
        self.faker.seed_instance(seed)
        self.random = random.Random(seed)
        self.seed = seed
        self.progress = progress
        self.now = clock.now()

    def apps(self, count: int) -> list[int]:
        """Make apps whose callbacks go to the simulator's inbox; return the ids of all of them."""
        inboxes = get_settings(StoreSettings).app_store_url.removesuffix("/app-store") + "/inbox"
        ids = []
        for number in self._track("apps", range(count)):
            name = f"{self.faker.unique.company()} {self.seed}"
            with transaction():
                made = apps.create_app(name, f"{inboxes}/seed-{self.seed}-{number}")
            ids.append(made.id)
        return ids

    def devices(self, count: int, app_ids: Sequence[int]) -> list[Row[int, int, DeviceOs]]:
        """Register devices that are not there yet; return (id, app_id, os) of all of them."""
        wanted = [self._device(self.random.choice(app_ids)) for _ in range(count)]
        with transaction():
            rows = db.session.execute(select(Device.app_id, Device.uid))
            there = {(row.app_id, row.uid) for row in rows}
        for batch in self._batches("devices", wanted):
            with transaction():
                for device in batch:
                    if (device["app_id"], device["uid"]) not in there:
                        devices.register_device(**device)
        with transaction():
            uids = [device["uid"] for device in wanted]
            found = select(Device.id, Device.app_id, Device.os).where(Device.uid.in_(uids))
            return list(db.session.execute(found.order_by(Device.id)).all())

    def _device(self, app_id: int) -> dict[str, Any]:
        return {
            "app_id": app_id,
            "uid": str(self.faker.uuid4()),
            "language": self.faker.language_code(),
            "os": self.random.choice(list(DeviceOs)),
            "click_id": f"click-{self.faker.uuid4()}" if self.random.random() < 0.5 else None,
        }

    def purchases(self, count: int, buyers: Sequence[Row[int, int, DeviceOs]]) -> None:
        """Buy: most receipts are good, some refused, some not answered yet."""
        receipts = [self._receipt(number) for number in range(count)]
        for batch in self._batches("purchases", receipts):
            with transaction():
                answers = [self._buy(receipt, self.random.choice(buyers)) for receipt in batch]
                purchases.record_answers([answer for answer in answers if answer])

    def _receipt(self, number: int) -> tuple[str, str]:
        answer = self.random.choices(ANSWERS, ANSWER_SHARES)[0]
        last = {"good": "x1", "refused": "x2", "unavailable": "x3"}[answer]
        return f"seed-{self.seed}-{number}-{last}", answer

    def _buy(
        self, receipt: tuple[str, str], buyer: Row[int, int, DeviceOs]
    ) -> tuple[Row[Any], StoreAnswer] | None:
        written, answer = receipt
        known = select(Purchase.id).where(Purchase.receipt_hash == purchases.receipt_hash(written))
        if db.session.scalar(known) is not None:
            return None
        _, claimed = purchases.submit_receipt(buyer, written)
        if claimed is None:
            return None
        return claimed.rows[0], self._store_answer(answer)

    def _store_answer(self, answer: str) -> StoreAnswer:
        if answer == "refused":
            return Refused("refused by the store")
        if answer == "unavailable":
            return Unavailable("seeded without an answer")
        seconds = self.random.randint(3600, PERIOD_DAYS * 86_400)
        return Verified(clock.now() + timedelta(seconds=seconds))

    def packages(self, count: int) -> list[int]:
        """Make packages, from daily to yearly; return the ids of all of them."""
        ids = []
        units = list(PeriodUnit)
        for number in self._track("packages", range(count)):
            unit = units[number % len(units)]
            name = f"{unit.capitalize()} {self.faker.unique.word()} {self.seed}"
            price = self.random.randint(1, 500) * 100
            with transaction():
                found = db.session.scalar(select(Package.id).where(Package.name == name))
                ids.append(found or self._package(name, price, unit).id)
        return ids

    def _package(self, name: str, price: int, unit: PeriodUnit) -> Package:
        return packages.create_package(
            {
                "name": name,
                "price": price,
                "currency": "RUB",
                "period": str(unit),
                "period_count": 1,
                "status": "active",
                "retry_attempts": 3,
                "retry_interval_seconds": 86_400,
                "at_retry_end": "expire",
            }
        )

    def companies(self, count: int, package_ids: Sequence[int]) -> None:
        """Register companies; most take a package, and some of those are charged already.

        The charges are drawn at the provider of this copy, which refuses about every other one,
        so that there are subscriptions at every stage.
        """
        taken: list[int] = []
        for number in self._track("companies", range(count)):
            values = self._company(number)
            with transaction():
                known = select(Company.id).where(Company.email == values["email"])
                if db.session.scalar(known) is None:
                    made, _, _ = companies.register_company(values, SEED_PASSWORD)
                    taken += self._take(made, package_ids)
        for share in (0.7, 0.4, 0.4):
            taken = [one for one in taken if self.random.random() < share]
            self._charge_now(taken)

    def _company(self, number: int) -> dict[str, Any]:
        company_name = self.faker.company()
        return {
            "site_url": f"https://{self.faker.domain_name()}",
            "name": self.faker.first_name(),
            "lastname": self.faker.last_name(),
            "company_name": company_name,
            "email": f"seed-{self.seed}-{number}@{self.faker.domain_name()}".lower(),
        }

    def _take(self, company: Company, package_ids: Sequence[int]) -> list[int]:
        if self.random.random() < 0.1:
            return []
        db.session.flush()
        customer = customers.existing_customer(company.customer_id)
        assigned = subscriptions.assign(customer, self.random.choice(package_ids))
        if self.random.random() < 0.1:
            subscriptions.cancel(customer.id)
            return []
        return [assigned.subscription.id]

    def _charge_now(self, subscription_ids: Sequence[int]) -> None:
        """Have these subscriptions due today, and charge what is due."""
        with transaction():
            db.session.execute(
                update(Subscription)
                .where(Subscription.id.in_(subscription_ids), Subscription.due_at.is_not(None))
                .values(due_at=clock.now())
            )
        task = self.progress.add_task("charges", total=len(subscription_ids))

        def count_due() -> int:
            due = select(func.count()).where(
                Subscription.id.in_(subscription_ids), Subscription.due_at <= clock.now()
            )
            return db.session.scalar(due) or 0

        shown = DueProgress(
            count_due, len(subscription_ids), lambda count: self.progress.advance(task, count)
        )
        pump.run(Autopayment(), on_progress=shown.tell)
        shown.look()

    def clicks(self, count: int) -> None:
        """Take clicks of the last 30 days into the inbox, and count them.

        Their ids are always the same, so one that was counted before is not counted again.
        """
        made = [self._click(number) for number in range(count)]
        for batch in self._batches("clicks", made, CLICK_BATCH):
            with transaction() as session:
                known = self._known_clicks([click["click_ids"] for click in batch])
                new = [click for click in batch if click["click_ids"] not in known]
                if new:
                    arrays = {name: [click[name] for click in new] for name in new[0]}
                    session.execute(insert(click_inbox).values(size=len(new), **arrays))
        while drain_batch().taken:
            pass

    def _click(self, number: int) -> dict[str, Any]:
        name = f"seed-{self.seed}-{number}"
        back = timedelta(seconds=self.random.randint(60, PERIOD_DAYS * 86_400))
        return {
            "click_ids": name,
            # A few offers get most of the clicks.
            "offer_ids": min(1 + int(self.random.expovariate(6 / OFFERS)), OFFERS),
            "sources": self.random.choices(SOURCES, range(len(SOURCES), 0, -1))[0],
            "clicked_at": self.now - back,
            "signatures": hashlib.sha256(name.encode()).hexdigest(),
        }

    def _known_clicks(self, ids: Sequence[str]) -> set[str]:
        """Return which of the ids have been counted or wait to be."""
        counted = select(click_ids.c.click_id).where(click_ids.c.click_id.in_(ids))
        waiting = select(func.unnest(click_inbox.c.click_ids, type_=Text).label("click_id"))
        waiting = select(waiting.subquery().c.click_id)
        return set(db.session.scalars(union_all(counted, waiting)))

    def forecasts(self, count: int) -> None:
        """Make forecasts in and around real cities; those that are there stay as they are."""
        rows = [self._forecast(number) for number in range(1, count + 1)]
        for batch in self._batches("forecasts", rows):
            with transaction():
                save_forecasts(batch)
        with transaction():
            ensure_assignments()

    def _forecast(self, number: int) -> ForecastRow:
        lat, lon = self._place()
        low = self.random.randint(-10, 25)
        today, tomorrow = (self.random.choice(SKIES) for _ in range(2))
        return ForecastRow(
            self.seed * 1_000_000 + number,
            lat,
            lon,
            f"{today}, {low}..{low + 6} C",
            f"{tomorrow}, {low - 1}..{low + 5} C",
            True,
        )

    def _place(self) -> tuple[float, float]:
        """Return a place up to some thirty kilometres from a city."""
        lat, lon = self.random.choice(CITIES)
        return (
            round(lat + self.random.uniform(-0.2, 0.2), 5),
            round(lon + self.random.uniform(-0.3, 0.3), 5),
        )

    def subscribers(self, count: int) -> None:
        """Add numbers near the cities; some have left again."""
        tree = load_tree()
        numbers = [self._number(at) for at in range(count)]
        for batch in self._batches("subscribers", numbers):
            rows = [(number, self._place(), self.random.choice(list(Plan))) for number in batch]
            lat, lon = (np.array([place[axis] for _, place, _ in rows]) for axis in (0, 1))
            near = tree.nearest(lat, lon)
            with transaction():
                known = set(existing_numbers(batch))
                changes.apply_events(
                    [
                        Addition(number, plan, place[0], place[1], near.at(at))
                        for at, (number, place, plan) in enumerate(rows)
                        if number not in known
                    ]
                )
                changes.apply_events(
                    [Cancellation(number) for number in batch[::12] if number not in known]
                )

    def _number(self, at: int) -> str:
        prefix = self.random.choice(("+7916", "+7926", "+7903", "+90532", "+90542"))
        return f"{prefix}{self.seed % 10}{at:0{11 - len(prefix) + prefix.startswith('+90')}}"

    def _batches(
        self, label: str, items: Sequence[Any], size: int = BATCH
    ) -> Iterator[Sequence[Any]]:
        starts = range(0, len(items), size)
        task = self.progress.add_task(label, total=len(items))
        for start in starts:
            batch = items[start : start + size]
            yield batch
            self.progress.advance(task, len(batch))

    def _track(self, label: str, items: range) -> Iterator[int]:
        yield from self.progress.track(items, description=label)


def counts() -> dict[str, int]:
    """Return how many rows there are of each kind."""
    with transaction():
        rows = {model.__tablename__: db.session.query(model).count() for model in MODELS}
        clicks = db.session.scalar(select(func.coalesce(func.sum(ClickDay.clicks), 0)))
        return {**rows, "clicks": int(clicks or 0)}


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress


@click.command()
@click.option("--apps", "app_count", default=10, type=click.IntRange(1), show_default=True)
@click.option("--devices", "device_count", default=1000, type=click.IntRange(1), show_default=True)
@click.option(
    "--purchases", "purchase_count", default=5000, type=click.IntRange(0), show_default=True
)
@click.option("--packages", "package_count", default=6, type=click.IntRange(1), show_default=True)
@click.option("--companies", "company_count", default=60, type=click.IntRange(0), show_default=True)
@click.option("--clicks", "click_count", default=20_000, type=click.IntRange(0), show_default=True)
@click.option(
    "--forecasts", "forecast_count", default=500, type=click.IntRange(0), show_default=True
)
@click.option(
    "--subscribers", "subscriber_count", default=2000, type=click.IntRange(0), show_default=True
)
@click.option("--seed", default=1, show_default=True, help="Another seed makes other data.")
def main(
    app_count: int,
    device_count: int,
    purchase_count: int,
    package_count: int,
    company_count: int,
    click_count: int,
    forecast_count: int,
    subscriber_count: int,
    seed: int,
) -> None:
    """Fill the database: apps, purchases; companies, payments; clicks; forecasts, subscribers."""
    with create_app().app_context(), _progress() as progress:
        before = counts()
        seeder = Seeder(seed, progress)
        app_ids = seeder.apps(app_count)
        buyers = seeder.devices(device_count, app_ids)
        seeder.purchases(purchase_count, buyers)
        seeder.companies(company_count, seeder.packages(package_count))
        seeder.clicks(click_count)
        seeder.forecasts(forecast_count)
        seeder.subscribers(subscriber_count)
        after = counts()
    made = ", ".join(f"{after[name] - before[name]} {name}" for name in after)
    there = ", ".join(f"{count} {name}" for name, count in after.items())
    click.echo(f"Made {made}. There are now {there}.")


if __name__ == "__main__":
    main()
