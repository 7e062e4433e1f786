"""The check routes: requests a second over a full table, against empty routes of two servers."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from benchmarks import data, wrk
from benchmarks.load import Asked, Load, generate_load, post, wait_for
from benchmarks.peers.fastify import fastify
from benchmarks.peers.installed import Missing, optional
from benchmarks.report import Figure, Row, at_least, compared, not_measured
from benchmarks.rig import BenchmarkError, Rig
from ops import ports
from ops.environment import PROJECT
from tests.support.stack import Program

DEVICES = 100_000
SECONDS = 8.0
WARM_UP_SECONDS = 2.0
WANTED_RATIO = 0.5
COMPANIES = 100_000
APPS = 10
EMPTY_FLASK = "an empty Flask route on the same server settings"
EMPTY_FASTIFY = "an empty route of Fastify, 2 processes (the ceiling of a machine like this)"


def measure(rig: Rig) -> list[Row]:
    """Measure the check route and the empty ones in turn."""
    devices = rig.options.size(DEVICES)
    _fill(rig, devices)
    asked = [
        Asked(b'{"client-token":"%s"}' % data.token(number).encode())
        for number in _shuffled(devices)
    ]
    url = f"{rig.stack.api_url}/api/purchase/check"
    return _measure_route(rig, f"purchase/check, {devices:,} devices", url, asked, WANTED_RATIO)


def measure_companies(rig: Rig) -> list[Row]:
    """Measure the companies' check route and the empty ones in turn."""
    companies = rig.options.size(COMPANIES)
    data.empty_tables(rig)
    data.make_companies(rig, companies)
    rig.settle()
    asked = [Asked(b"{}", data.company_token(number).encode()) for number in _shuffled(companies)]
    url = f"{rig.stack.api_url}/api/companies/check"
    work = f"companies/check, {companies:,} companies"
    return _measure_route(rig, work, url, asked, WANTED_RATIO)


def _measure_route(
    rig: Rig, work: str, url: str, asked: Sequence[Asked], wanted: float
) -> list[Row]:
    loads: dict[str, list[Load]] = {}
    with empty_route(rig) as flask_url, optional(fastify(rig)) as node:
        routes = {work: url, EMPTY_FLASK: flask_url}
        if not isinstance(node, Missing):
            routes[EMPTY_FASTIFY] = node.empty_url
        for one in routes.values():
            _load(rig, one, asked, WARM_UP_SECONDS)
        for _ in range(rig.options.rounds):
            rig.machine.wait_until_quiet()
            for name, one in routes.items():
                load = _load(rig, one, asked, rig.options.seconds(SECONDS))
                loads.setdefault(name, []).append(load)
    ours, empty, bare = loads[work], loads[EMPTY_FLASK], loads.get(EMPTY_FASTIFY)
    rate = per_second(ours)
    return [
        at_least(work, rate, EMPTY_FLASK, per_second(empty), wanted),
        at_least("the same", rate, EMPTY_FASTIFY, per_second(bare))
        if bare
        else not_measured("the same", rate, EMPTY_FASTIFY, node),
        compared("its time to answer, p50", _p50(ours), EMPTY_FLASK, _p50(empty)),
        compared("its time to answer, p99", _p99(ours), EMPTY_FLASK, _p99(empty)),
    ]


def per_second(loads: Sequence[Load]) -> Figure:
    """Return the rates of the rounds."""
    return Figure(tuple(load.per_second for load in loads), "/s")


def _p50(loads: Sequence[Load]) -> Figure:
    return Figure(tuple(load.p50_ms for load in loads), "ms")


def _p99(loads: Sequence[Load]) -> Figure:
    return Figure(tuple(load.p99_ms for load in loads), "ms")


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
