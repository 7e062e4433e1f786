"""The check routes: requests a second over a full table, against an empty route of Flask."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from benchmarks import data, wrk
from benchmarks.load import Asked, Load, generate_load, post, wait_for
from benchmarks.report import Figure, Row, at_least
from benchmarks.rig import BenchmarkError, Rig
from ops import ports
from ops.environment import PROJECT
from tests.support.stack import Program

DEVICES = 100_000
SECONDS = 8.0
WARM_UP_SECONDS = 2.0
WANTED_RATIO = 0.25
COMPANIES = 100_000
WANTED_RATIO_OF_COMPANIES = 0.2
APPS = 10


def measure(rig: Rig) -> list[Row]:
    """Measure the check route and the empty one in turn."""
    devices = rig.options.size(DEVICES)
    _fill(rig, devices)
    asked = [
        Asked(b'{"client-token":"%s"}' % data.token(number).encode())
        for number in _shuffled(devices)
    ]
    ours, theirs = _in_turn(rig, f"{rig.stack.api_url}/api/purchase/check", asked)
    return _rows(f"purchase/check, {devices:,} devices", ours, theirs, WANTED_RATIO)


def measure_companies(rig: Rig) -> list[Row]:
    """Measure the companies' check route and the empty one in turn."""
    companies = rig.options.size(COMPANIES)
    data.empty_tables(rig)
    data.make_companies(rig, companies)
    rig.settle()
    asked = [Asked(b"{}", data.company_token(number).encode()) for number in _shuffled(companies)]
    ours, theirs = _in_turn(rig, f"{rig.stack.api_url}/api/companies/check", asked)
    work = f"companies/check, {companies:,} companies"
    return _rows(work, ours, theirs, WANTED_RATIO_OF_COMPANIES)


def _in_turn(rig: Rig, url: str, asked: Sequence[Asked]) -> tuple[Sequence[Load], Sequence[Load]]:
    ours: list[Load] = []
    theirs: list[Load] = []
    with empty_route(rig) as empty_url:
        for one in (url, empty_url):
            _load(rig, one, asked, WARM_UP_SECONDS)
        for _ in range(rig.options.rounds):
            ours.append(_load(rig, url, asked, rig.options.seconds(SECONDS)))
            theirs.append(_load(rig, empty_url, asked, rig.options.seconds(SECONDS)))
    return ours, theirs


def _rows(work: str, ours: Sequence[Load], theirs: Sequence[Load], wanted: float) -> list[Row]:
    against = "an empty Flask route on the same server settings"
    rates = (
        Figure(tuple(load.per_second for load in ours), "/s"),
        Figure(tuple(load.per_second for load in theirs), "/s"),
    )
    return [
        at_least(work, rates[0], against, rates[1], wanted),
        Row(
            "its time to answer, p50",
            Figure(tuple(load.p50_ms for load in ours), "ms"),
            against,
            Figure(tuple(load.p50_ms for load in theirs), "ms"),
        ),
        Row(
            "its time to answer, p99",
            Figure(tuple(load.p99_ms for load in ours), "ms"),
            against,
            Figure(tuple(load.p99_ms for load in theirs), "ms"),
        ),
    ]


def _fill(rig: Rig, devices: int) -> None:
    data.empty_tables(rig)
    made = data.make_apps(rig, APPS, lambda number: f"app-{number}")
    data.make_devices(rig, devices, made)
    data.make_purchases(rig, devices, due=0, devices=devices)
    rig.settle()


def _shuffled(devices: int) -> list[int]:
    numbers = list(range(1, devices + 1))
    random.Random(1).shuffle(numbers)
    return numbers


def _load(rig: Rig, url: str, asked: Sequence[Asked], seconds: float) -> Load:
    if rig.options.use_wrk:
        return wrk.generate_load(url, asked, seconds=seconds)
    return generate_load(url, [post(url, one.body, one.headers) for one in asked], seconds=seconds)


@contextmanager
def empty_route(rig: Rig) -> Iterator[str]:
    """Serve the empty route with the very command line that serves the API."""
    with served(rig, "benchmarks.empty:app") as url:
        yield f"{url}/empty"


@contextmanager
def served(rig: Rig, app: str) -> Iterator[str]:
    """Serve an application as ops/serve.sh serves the API; give its address."""
    script = (PROJECT / "ops" / "serve.sh").read_text(encoding="utf-8")
    if "wsgi:app" not in script:
        raise BenchmarkError("ops/serve.sh does not serve wsgi:app any more.")
    url = f"http://{ports.LOOPBACK}:{ports.free_port()}"
    server = Program(
        "served",
        ["sh", "-c", script.replace("wsgi:app", app)],
        {**rig.stack.environment, "PORT": str(urlsplit(url).port)},
        rig.stack.folder / "log" / f"{app.partition(':')[0]}.log",
    )
    server.start()
    try:
        wait_for(url)
        yield url
    finally:
        server.terminate()
