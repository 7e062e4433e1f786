"""A table of claimable rows, and a kind of work on it as the pump takes it."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    MetaData,
    Row,
    Table,
    Text,
    Uuid,
    exists,
    insert,
    select,
    update,
)

from project.core import clock
from project.core.db.models import Timestamp
from project.core.db.transaction import transaction
from project.core.work.claims import RELEASED, Claim, claim, due, is_due
from project.core.work.queues import QueueName, Wakeup
from project.extensions import db

table = Table(
    "things_of_tests",
    MetaData(),
    Column("id", BigInteger, primary_key=True),
    Column("name", Text),
    Column("result", Text),
    Column("due_at", Timestamp),
    Column("claim_id", Uuid),
    Column("claimed_until", Timestamp),
    Column("attempts", Integer, server_default="0", nullable=False),
)

LEASE = timedelta(seconds=30)
THINGS_DUE = Wakeup("things", QueueName.DEFAULT, "tests.core.things.work_on_due_things")


class Things:
    """The table in the words of tests."""

    def create(self) -> None:
        with db.engine.begin() as connection:
            table.drop(connection, checkfirst=True)
            table.create(connection)

    def drop(self) -> None:
        with db.engine.begin() as connection:
            table.drop(connection)

    def add(self, *names: str, due_at: datetime | None = None, due: bool = True) -> None:
        """Add rows, due now if nothing else is said."""
        moment = (due_at or clock.now()) if due else None
        with transaction():
            rows = [{"name": name, "due_at": moment} for name in names]
            db.session.execute(insert(table), rows)

    def add_many(self, count: int) -> None:
        self.add(*(f"thing-{number}" for number in range(count)))

    def claim(
        self, limit: int = 100, *, lease: timedelta = LEASE, now: datetime | None = None
    ) -> Claim:
        """Claim what is due and commit."""
        with transaction():
            return claim_things(limit, lease=lease, now=now)

    def record(self, held: Claim, result: str = "done") -> int:
        """Write a result down as a holder of the claim does; return how many rows took it."""
        with transaction():
            statement = (
                update(table)
                .where(table.c.claim_id == held.id)
                .values(result=result, due_at=None, **RELEASED)
            )
            return len(db.session.execute(statement.returning(table.c.id)).all())

    def release(self, held: Claim) -> None:
        """Give the rows back, still due: what was tried has failed."""
        with transaction():
            db.session.execute(update(table).where(table.c.claim_id == held.id).values(**RELEASED))

    def row(self, name: str) -> Row[Any]:
        with transaction():
            return db.session.execute(select(table).where(table.c.name == name)).one()

    def names_with(self, result: str | None) -> list[str]:
        """Return the names of the rows with this result, sorted."""
        with transaction():
            statement = select(table.c.name).where(table.c.result.is_not_distinct_from(result))
            return sorted(db.session.scalars(statement))


def claim_things(limit: int, *, lease: timedelta = LEASE, now: datetime | None = None) -> Claim:
    """Claim due rows in the caller's transaction."""
    candidates = due(table, now=now or clock.now(), limit=limit)
    returning = [table.c.id, table.c.name, table.c.claim_id, table.c.attempts]
    return claim(table, candidates, lease=lease, returning=returning)


def names_of(held: Claim) -> list[str]:
    return sorted(row.name for row in held.rows)


class Errands:
    """Work on the things: the call is what the test says, recorded as the row's result."""

    wakeup = THINGS_DUE

    def __init__(
        self,
        *,
        capacity: int = 10,
        armful: int | None = None,
        seconds: Callable[[str], float] = lambda name: 0,
        fails: Callable[[str], bool] = lambda name: False,
        unrecordable: Callable[[str], bool] = lambda name: False,
        again: bool = False,
        on_call: Callable[[str], object] = lambda name: None,
        until: Callable[[str], bool] = lambda name: True,
    ) -> None:
        self.capacity = capacity
        self.armful = armful or capacity
        self.seconds = seconds
        self.fails = fails
        self.unrecordable = unrecordable
        self.again = again
        self.on_call = on_call
        self.until = until
        self.calls: Counter[str] = Counter()
        self.claims = 0
        self.under_way = 0
        self.most_under_way = 0
        self.recorded_at: dict[str, float] = {}

    def claim(self, limit: int) -> Sequence[Row[Any]]:
        self.claims += 1
        return claim_things(limit).rows

    async def call(self, thing: Row[Any]) -> str:
        self.calls[thing.name] += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            self.on_call(thing.name)
            await asyncio.sleep(self.seconds(thing.name))
            async with asyncio.timeout(30):
                while not self.until(thing.name):
                    await asyncio.sleep(0.01)
            if self.fails(thing.name):
                raise RuntimeError(f"the call for {thing.name} breaks")
            return "done"
        finally:
            self.under_way -= 1

    def record(self, results: Sequence[tuple[Row[Any], str]]) -> None:
        for thing, answer in results:
            db.session.execute(
                update(table)
                .where(table.c.id == thing.id, table.c.claim_id == thing.claim_id)
                .values(
                    result=answer,
                    due_at=clock.now() if self.again else None,
                    **RELEASED,
                )
            )
            if self.unrecordable(thing.name):
                raise RuntimeError(f"{thing.name} cannot be recorded")
        self.recorded_at |= {thing.name: time.monotonic() for thing, _ in results}

    def is_anything_due(self) -> bool:
        return bool(db.session.scalar(select(exists().where(is_due(table, clock.now())))))


def work_on_due_things() -> None:
    """The job that a wake-up for things names; tests look for it in the queue."""


ran: list[tuple[str, datetime]] = []
"""What the periodic jobs below did, and at what time."""
_lock = threading.Lock()


def note_first() -> None:
    _note("first")


def note_second() -> None:
    _note("second")


def add_overdue_thing() -> None:
    """Make something that is due since long ago, as a lease does that ends."""
    _note("adds")
    Things().add("overdue", due_at=clock.now() - timedelta(days=300))


def finish_things() -> None:
    _note("finishes")
    things = Things()
    things.record(things.claim())


def oldest_thing_due_at() -> datetime | None:
    statement = select(table.c.due_at).where(table.c.due_at.is_not(None))
    return db.session.scalar(statement.order_by(table.c.due_at).limit(1))


def _note(name: str) -> None:
    with _lock:
        ran.append((name, clock.now()))
