"""Callbacks: against a job per callback, and while a fifth of the endpoints hang."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles
from uuid import UUID

from benchmarks import data
from benchmarks.load import generate_load, post
from benchmarks.peers import deliver_one
from benchmarks.report import Figure, Row, at_least, at_most
from benchmarks.rig import BenchmarkError, Rig
from project.callbacks.service import CALLBACKS_DUE
from project.core.work.queues import QueueName, wake

DUE = 20_000
PEER = 1_500
ENDPOINTS = 50
HANGING_EVERY = 5
# Longer than our own deadline of 10 s: the endpoint never answers in time.
HANG_SECONDS = 30.0
STEADY_PER_SECOND = 500
STEADY_SECONDS = 20.0
STEADY_TICKS_PER_SECOND = 10
LAST_ARRIVAL_SECONDS = 60.0
WANTED_RATIO = 8.0
WANTED_SHARE = 0.5
WANTED_DELAY_SECONDS = 5.0
WARM_UP_SHARE = 0.1
CEILING_SECONDS = 4.0

UNFINISHED = "SELECT 1 FROM callbacks WHERE due_at <= now() AND endpoint_id = ANY(:ids) LIMIT 1"
DELIVERED = "SELECT count(*) FROM callbacks WHERE state = 'delivered' AND endpoint_id = ANY(:ids)"


@dataclass(frozen=True)
class Endpoints:
    """The ids of the endpoints, and of those that answer."""

    every: list[int]
    healthy: list[int]


@dataclass(frozen=True)
class Run:
    """Callbacks to healthy endpoints: how many a second, and the 99th percentile of the delay."""

    per_second: float
    p99_seconds: float


def measure_against_peer(rig: Rig) -> list[Row]:
    """Measure delivery and its peer in turn, and what the inbox itself can take."""
    due, of_peer = rig.options.size(DUE), rig.options.size(PEER)
    _run_ours(rig, round(due * WARM_UP_SHARE))
    _run_peer(rig, round(of_peer * WARM_UP_SHARE))
    ours, theirs = [], []
    for _ in range(rig.options.rounds):
        ours.append(_run_ours(rig, due).per_second)
        theirs.append(_run_peer(rig, of_peer))
    rate = Figure(tuple(ours), "/s")
    return [
        at_least(
            f"callbacks, {due:,} due, {ENDPOINTS} fast endpoints",
            rate,
            f"a job per callback (rate over {of_peer:,})",
            Figure(tuple(theirs), "/s"),
            WANTED_RATIO,
        ),
        at_least(
            "the same",
            rate,
            "the inbox under bare load (the ceiling: nothing is stored)",
            Figure((_ceiling(rig),), "/s"),
        ),
    ]


def measure_hanging(rig: Rig) -> list[Row]:
    """Measure delivery with and without hanging endpoints, all due at once and steadily."""
    due = rig.options.size(DUE)
    _run_ours(rig, round(due * WARM_UP_SHARE))
    without, hanging, steady = [], [], []
    for _ in range(rig.options.rounds):
        without.append(_run_ours(rig, due))
        hanging.append(_run_ours(rig, due, hanging=True))
        steady.append(_run_steadily(rig))
    a_fifth = f"{100 // HANGING_EVERY} % of the endpoints hanging"
    return [
        at_least(
            f"callbacks to healthy endpoints, {due:,} due, {a_fifth}",
            _rates(hanging),
            "the run without",
            _rates(without),
            WANTED_SHARE,
        ),
        at_most(
            f"p99 delay of healthy endpoints, {STEADY_PER_SECOND}/s for "
            f"{rig.options.seconds(STEADY_SECONDS):g} s, {a_fifth}",
            Figure(tuple(steady), "s"),
            WANTED_DELAY_SECONDS,
        ),
        Row(
            f"p99 delay of healthy endpoints, {due:,} due at once, {a_fifth}",
            _delays(hanging),
            "the run without",
            _delays(without),
        ),
    ]


def _rates(runs: Sequence[Run]) -> Figure:
    return Figure(tuple(run.per_second for run in runs), "/s")


def _delays(runs: Sequence[Run]) -> Figure:
    return Figure(tuple(run.p99_seconds for run in runs), "s")


def _run_ours(rig: Rig, due: int, *, hanging: bool = False) -> Run:
    endpoints = _make_endpoints(rig, hanging=hanging)
    healthy_due = due * len(endpoints.healthy) // len(endpoints.every)
    data.emit_callbacks(due, endpoints.every)
    rig.wait_until_idle()
    rig.settle()
    started_at = time.time()

    def start() -> None:
        data.release_deliveries(rig)
        wake(CALLBACKS_DUE)

    seconds = rig.seconds_until_none(UNFINISHED, start, ids=endpoints.healthy)
    rig.require(healthy_due, DELIVERED, ids=endpoints.healthy)
    arrived = _arrivals(rig, healthy_due)
    return Run(healthy_due / seconds, _p99([at - started_at for at in arrived.values()]))


def _run_peer(rig: Rig, due: int) -> float:
    endpoints = _make_endpoints(rig)
    data.emit_callbacks(due, endpoints.every)
    rig.wait_until_idle()
    rig.settle()
    ids = [row.id for row in rig.rows("SELECT id FROM callbacks ORDER BY due_at, id")]
    queue = rig.queue(QueueName.HIGH)

    def enqueue() -> None:
        for callback_id in ids:
            queue.enqueue(deliver_one, callback_id)

    seconds = rig.seconds_until_none(UNFINISHED, enqueue, ids=endpoints.every)
    rig.require(due, DELIVERED, ids=endpoints.every)
    _arrivals(rig, due)
    return due / seconds


def _run_steadily(rig: Rig) -> float:
    """Write callbacks at a steady rate and return the p99 of their delay to healthy endpoints."""
    endpoints = _make_endpoints(rig, hanging=True)
    rig.settle()
    data.release_deliveries(rig)
    written: dict[UUID, float] = {}
    each = STEADY_PER_SECOND // STEADY_TICKS_PER_SECOND
    started = time.monotonic()
    for tick in range(round(rig.options.seconds(STEADY_SECONDS) * STEADY_TICKS_PER_SECOND)):
        time.sleep(max(0.0, started + tick / STEADY_TICKS_PER_SECOND - time.monotonic()))
        written_at = time.time()
        ids = data.emit_callbacks(each, endpoints.every)
        written |= dict.fromkeys(_healthy_ones(ids), written_at)
    arrived = _await_arrivals(rig, len(written))
    return _p99([arrived[str(id_)] - written_at for id_, written_at in written.items()])


def _healthy_ones(ids: Sequence[UUID]) -> list[UUID]:
    # As many are written at a time as there are endpoints, in the order of the endpoints.
    return [id_ for number, id_ in enumerate(ids) if not _hangs(number % ENDPOINTS)]


def _hangs(number: int) -> bool:
    return number % HANGING_EVERY == 0


def _make_endpoints(rig: Rig, *, hanging: bool = False) -> Endpoints:
    """Make endpoints at rest: fast ones or, as asked for, a fifth of them hanging."""
    data.empty_tables(rig)

    def inbox_of(number: int) -> str:
        kind = "hanging" if hanging and _hangs(number) else "healthy"
        return f"{kind}/{number}"

    made = data.make_apps(rig, ENDPOINTS, inbox_of)
    data.hold_back_deliveries(rig)
    if hanging:
        rig.simulator.add_fault("/inbox/hanging/*", delay_seconds=HANG_SECONDS)
    every = [app.endpoint_id for app in made]
    healthy = [id_ for number, id_ in enumerate(every) if not (hanging and _hangs(number))]
    return Endpoints(every, healthy)


def _arrivals(rig: Rig, wanted: int) -> Mapping[str, float]:
    """Return when each callback arrived. Raises BenchmarkError if one is missing or came twice."""
    inbox = rig.simulator.inbox("healthy", limit=0)
    if not inbox["count"] == inbox["distinct_ids"] == wanted:
        raise BenchmarkError(f"{wanted} callbacks were to arrive, each once, but: {inbox}")
    arrived: Mapping[str, float] = rig.simulator.control("GET", "/inbox/healthy/arrivals")
    return arrived


def _await_arrivals(rig: Rig, wanted: int) -> Mapping[str, float]:
    deadline = time.monotonic() + LAST_ARRIVAL_SECONDS
    while rig.simulator.inbox("healthy", limit=0)["count"] < wanted:
        if time.monotonic() > deadline:
            raise BenchmarkError("Callbacks to healthy endpoints did not arrive.")
        time.sleep(0.2)
    return _arrivals(rig, wanted)


def _ceiling(rig: Rig) -> float:
    """Return how many requests a second the simulator's inbox answers to a bare load."""
    data.empty_tables(rig)
    url = f"{rig.simulator.base_url}/inbox/ceiling"
    load = generate_load(url, [post(url, b"x" * 250)], seconds=rig.options.seconds(CEILING_SECONDS))
    rig.simulator.reset()
    return load.per_second


def _p99(values: Sequence[float]) -> float:
    return quantiles(values, n=100)[98]
