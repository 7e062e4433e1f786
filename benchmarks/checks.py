"""The check route: requests a second over a full table, against an empty route of Flask."""

import random
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from benchmarks import data, wrk
from benchmarks.load import Load, generate_load, post
from benchmarks.report import Figure, Row, at_least
from benchmarks.rig import BenchmarkError, Rig
from ops import ports
from ops.environment import PROJECT
from ops.stack import Program

DEVICES = 100_000
SECONDS = 8.0
WARM_UP_SECONDS = 2.0
WANTED_RATIO = 0.25
APPS = 10
START_SECONDS = 15


def measure(rig: Rig) -> list[Row]:
    """Measure the check route and the empty one in turn."""
    devices = rig.options.size(DEVICES)
    _fill(rig, devices)
    bodies = [
        b'{"client-token":"%s"}' % data.token(number).encode() for number in _shuffled(devices)
    ]
    ours: list[Load] = []
    theirs: list[Load] = []
    with empty_route(rig) as empty_url:
        check_url = f"{rig.stack.api_url}/api/purchase/check"
        for url in (check_url, empty_url):
            _load(rig, url, bodies, WARM_UP_SECONDS)
        for _ in range(rig.options.rounds):
            ours.append(_load(rig, check_url, bodies, rig.options.seconds(SECONDS)))
            theirs.append(_load(rig, empty_url, bodies, rig.options.seconds(SECONDS)))
    return _rows(devices, ours, theirs)


def _rows(devices: int, ours: Sequence[Load], theirs: Sequence[Load]) -> list[Row]:
    against = "an empty Flask route on the same server settings"
    rates = (
        Figure(tuple(load.per_second for load in ours), "/s"),
        Figure(tuple(load.per_second for load in theirs), "/s"),
    )
    work = f"purchase/check, {devices:,} devices"
    return [
        at_least(work, rates[0], against, rates[1], WANTED_RATIO),
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


def _load(rig: Rig, url: str, bodies: Sequence[bytes], seconds: float) -> Load:
    if rig.options.use_wrk:
        return wrk.generate_load(url, bodies, seconds=seconds)
    return generate_load(url, [post(url, body) for body in bodies], seconds=seconds)


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
        _wait_for(url)
        yield url
    finally:
        server.terminate()


def _wait_for(url: str) -> None:
    parts = urlsplit(url)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection((parts.hostname or "", parts.port or 0), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise BenchmarkError("The empty route was not served in time.")
