"""A million additions from a file: against a bare COPY of it, and against row by row by the ORM."""

import csv
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import select, text

from benchmarks import data
from benchmarks.report import Figure, Row, at_least, at_most
from benchmarks.rig import BenchmarkError, Rig
from project.billing.customers.service import ensure_customer
from project.core import clock
from project.core.db.locks import Lock
from project.core.db.transaction import transaction
from project.extensions import db
from project.weather.forecasts.nearest import nearest_to
from project.weather.models import Subscriber
from project.weather.numbers import language_of, normalized
from project.weather.states import Plan, SubscriberState, TaskKind
from project.weather.subscribers.changes import zone_at
from project.weather.tasks import PIECE_BYTES, store_file

ROWS = 1_000_000
FORECASTS = 100_000
PEER_ROWS = 2_000
WANTED_OF_COPY = 0.10
WANTED_OF_ORM = 20.0
MOST_MEGABYTES = 400
COLUMNS = ("ts", "msisdn", "original_sub_plan", "lat", "lon")
UNFINISHED = "SELECT 1 FROM tasks WHERE state IN ('pending', 'started') LIMIT 1"
PLANS = {"1": Plan.DAILY, "2": Plan.WEEKLY, "daily": Plan.DAILY, "weekly": Plan.WEEKLY}

_FORECASTS = """
    INSERT INTO forecasts (gid, lat, lon, fcat24, fcat48, is_active, created_at, updated_at)
    SELECT n, 35 + random() * 30, 20 + random() * 60, 'Sun, 5..12 C', 'Rain, 3..9 C', true,
           now(), now()
      FROM generate_series(1, :count) AS n
"""
_COPIED = """
    CREATE TABLE copied_additions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                                   ts timestamptz, msisdn text UNIQUE, plan text,
                                   lat double precision, lon double precision)
"""


def measure(rig: Rig) -> list[Row]:
    """Measure the import by a worker, the COPY and the peer, in turn."""
    count, forecasts = rig.options.size(ROWS), rig.options.size(FORECASTS)
    with TemporaryDirectory(prefix="perennial-benchmark-") as folder, _billing_held_back():
        file = _write_file(Path(folder) / "additions.csv", count)
        ours, copies, peers, megabytes = [], [], [], 0.0
        for _ in range(rig.options.rounds):
            copies.append(_time_copy(rig, file, count))
            rate, used = _time_import(rig, file, count, forecasts)
            ours.append(rate)
            megabytes = max(megabytes, used)
            peers.append(_time_orm(rig, file, min(count, PEER_ROWS), forecasts))
    what = f"import of {count:,} additions, nearest of {forecasts:,} forecasts each"
    imported = Figure(tuple(ours), "rows/s")
    return [
        at_least(
            what,
            imported,
            "bare COPY of the file into a table with an id and unique numbers",
            Figure(tuple(copies), "rows/s"),
            WANTED_OF_COPY,
        ),
        at_least(
            what,
            imported,
            f"row by row through the ORM (rate over {PEER_ROWS:,})",
            Figure(tuple(peers), "rows/s"),
            WANTED_OF_ORM,
        ),
        at_most("memory of the worker that imports", Figure((megabytes,), "MB"), MOST_MEGABYTES),
    ]


def _write_file(path: Path, count: int) -> Path:
    """Write numbers of Russia, all different and in no order, in places around the forecasts."""
    chosen = random.Random(5)
    numbers = list(range(count))
    chosen.shuffle(numbers)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(
            (
                "2026-01-31T08:00:00Z",
                f"+7916{number:07}",
                chosen.choice(list(PLANS)),
                f"{35 + chosen.random() * 30:.6f}",
                f"{20 + chosen.random() * 60:.6f}",
            )
            for number in numbers
        )
    return path


@contextmanager
def _billing_held_back() -> Iterator[None]:
    """Keep workers from billing who was added: the carrier is not what is measured."""
    with db.engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": Lock.FORECAST_BILLING})
        yield
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": Lock.FORECAST_BILLING})


def _fill(rig: Rig, forecasts: int) -> None:
    data.empty_tables(rig)
    rig.execute(_FORECASTS, count=forecasts)
    rig.settle()


def _time_copy(rig: Rig, file: Path, count: int) -> float:
    rig.execute("DROP TABLE IF EXISTS copied_additions")
    rig.execute(_COPIED)
    rig.settle()
    started = time.perf_counter()
    with transaction() as session, file.open("rb") as content:
        session.execute(text("SET LOCAL statement_timeout = 0"))
        connection: Any = session.connection().connection.driver_connection
        statement = (
            "COPY copied_additions (ts, msisdn, plan, lat, lon) FROM STDIN (FORMAT csv, HEADER)"
        )
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            while piece := content.read(PIECE_BYTES):
                copy.write(piece)
    seconds = time.perf_counter() - started
    rig.require(count, "SELECT count(*) FROM copied_additions")
    rig.execute("DROP TABLE copied_additions")
    return count / seconds


def _time_import(rig: Rig, file: Path, count: int, forecasts: int) -> tuple[float, float]:
    """Return rows a second, from the upload's commit on, and the megabytes of the worker."""
    _fill(rig, forecasts)

    def upload() -> None:
        with transaction(), file.open("rb") as content:
            store_file(TaskKind.ADDITIONS, file.name, iter(lambda: content.read(PIECE_BYTES), b""))

    seconds = rig.seconds_until_none(UNFINISHED, upload)
    rig.require(count, "SELECT count(*) FROM subscribers")
    rig.require(count, "SELECT created FROM tasks")
    return count / seconds, max(_peak_megabytes(worker.pid) for worker in rig.stack.workers)


def _peak_megabytes(pid: int) -> float:
    """Return the most memory that a process ever had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise BenchmarkError(f"The memory of process {pid} is not known.")


def _time_orm(rig: Rig, file: Path, count: int, forecasts: int) -> float:
    """Import as it is usually written: look for the row, make it, commit, next."""
    _fill(rig, forecasts)
    with file.open(newline="") as content:
        rows = [row for _, row in zip(range(count), csv.DictReader(content), strict=False)]
    started = time.perf_counter()
    for row in rows:
        with transaction():
            _import_one(row)
    seconds = time.perf_counter() - started
    rig.require(count, "SELECT count(*) FROM subscribers")
    return count / seconds


def _import_one(row: dict[str, str]) -> None:
    msisdn, lat, lon = normalized(row["msisdn"]), float(row["lat"]), float(row["lon"])
    found = db.session.scalar(select(Subscriber).where(Subscriber.msisdn == msisdn))
    nearest = nearest_to(lat, lon)
    subscriber = found or Subscriber(msisdn=msisdn, created_at=clock.now())
    if found is None:
        customer = ensure_customer("msisdn", msisdn, provider="carrier")
        subscriber.customer_id = customer.id
    subscriber.lat, subscriber.lon = lat, lon
    subscriber.zone = zone_at(lat, lon)
    subscriber.language = language_of(msisdn)
    subscriber.plan = PLANS[row["original_sub_plan"]]
    subscriber.state = SubscriberState.ACTIVE
    subscriber.forecast_gid = nearest.gid if nearest else None
    subscriber.distance_m = nearest.distance_m if nearest else None
    subscriber.updated_at = clock.now()
    db.session.add(subscriber)
