"""Callbacks: against queues that others wrote, to slow endpoints, and while a fifth hang."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles
from uuid import UUID

from benchmarks import data
from benchmarks.load import generate_load, post
from benchmarks.peers.installed import Missing
from benchmarks.peers.queues import QUEUES, Queue
from benchmarks.peers.rq_jobs import deliver_some
from benchmarks.report import Figure, Row, at_least, at_most, compared, not_measured
from benchmarks.rig import BenchmarkError, Rig
from project.callbacks.service import CALLBACKS_DUE
from project.callbacks.settings import CallbackSettings
from project.config.environment import get_settings
from project.core.work.queues import QueueName, wake

DUE = 20_000
RQ_DUE = 2_000
QUEUE_DUE = 10_000
ENDPOINTS = 50
# An app has one endpoint, and an endpoint that does something takes its time.
FEW_ENDPOINTS = 5
FEW_DUE = 10_000
SLOW_SECONDS = 0.05
HANGING_EVERY = 5
# Longer than our own deadline of 10 s: the endpoint never answers in time.
HANG_SECONDS = 30.0
STEADY_PER_SECOND = 500
STEADY_SECONDS = 20.0
STEADY_TICKS_PER_SECOND = 10
LAST_ARRIVAL_SECONDS = 60.0
WANTED_OF_RQ = 8.0
WANTED_OF_QUEUES = 3.0
WANTED_OF_QUEUES_WHEN_SLOW = 1.5
WANTED_OF_CEILING = 0.35
WANTED_SHARE = 0.5
WANTED_DELAY_SECONDS = 5.0
WARM_UP_SHARE = 0.1
CEILING_SECONDS = 4.0
BODY = (
    '{"id":"01234567-89ab-7cde-8f01-23456789abcd","type":"renewed","appID":1,"deviceID":12345,'
    '"purchaseID":12345,"expire-date":"2026-01-01T00:00:00+00:00",'
    '"occurred_at":"2026-01-01T00:00:00+00:00"}'
)

UNFINISHED = "SELECT 1 FROM callbacks WHERE due_at <= now() AND endpoint_id = ANY(:ids) LIMIT 1"
DELIVERED = "SELECT count(*) FROM callbacks WHERE state = 'delivered' AND endpoint_id = ANY(:ids)"


@dataclass(frozen=True)
class Endpoints:
    """The ids of the endpoints, and of those that answer."""

    every: list[int]
    healthy: list[int]


@dataclass(frozen=True)
class Run:
    """Callbacks to healthy endpoints: how many a second, and the 99th percentile of the delay.

    `processor_ms` is what each cost the copy, the receiver left out.
    """

    per_second: float
    p99_seconds: float
    processor_ms: float


def measure_against_peers(rig: Rig) -> list[Row]:
    """Measure delivery, its peers, and what the inbox itself can take, in turn."""
    due, of_rq = rig.options.size(DUE), rig.options.size(RQ_DUE)
    work = f"callbacks, {due:,} due, {ENDPOINTS} fast endpoints"
    deliver(rig, round(due * WARM_UP_SHARE))
    _run_rq(rig, round(of_rq * WARM_UP_SHARE))
    ours, on_rq, ceiling = [], [], []
    queues = _Queues(rig, ENDPOINTS)
    for _ in range(rig.options.rounds):
        ours.append(deliver(rig, due))
        on_rq.append(_run_rq(rig, of_rq))
        queues.run(rig.options.size(QUEUE_DUE))
        ceiling.append(_ceiling(rig))
    rate = _rates(ours)
    return [
        at_least(
            work,
            rate,
            f"jobs on RQ, a commit per callback (rate over {of_rq:,})",
            Figure(tuple(on_rq), "/s"),
            WANTED_OF_RQ,
        ),
        *queues.rows(work, ours, WANTED_OF_QUEUES),
        at_least(
            "the same",
            rate,
            "the inbox under bare load (the ceiling: nothing is stored)",
            Figure(tuple(ceiling), "/s"),
            WANTED_OF_CEILING,
        ),
    ]


def measure_slow_endpoints(rig: Rig) -> list[Row]:
    """Measure delivery to few endpoints that take their time to answer, and its peers, in turn."""
    due = rig.options.size(FEW_DUE)
    deliver(rig, round(due * WARM_UP_SHARE), endpoints=FEW_ENDPOINTS, seconds=SLOW_SECONDS)
    ours = []
    queues = _Queues(rig, FEW_ENDPOINTS, SLOW_SECONDS)
    for _ in range(rig.options.rounds):
        ours.append(deliver(rig, due, endpoints=FEW_ENDPOINTS, seconds=SLOW_SECONDS))
        queues.run(rig.options.size(QUEUE_DUE))
    work = (
        f"callbacks, {due:,} due, {FEW_ENDPOINTS} endpoints that answer in "
        f"{SLOW_SECONDS * 1000:g} ms"
    )
    return queues.rows(work, ours, WANTED_OF_QUEUES_WHEN_SLOW)


class _Queues:
    """The rates of the queues that others wrote, or why there are none."""

    def __init__(self, rig: Rig, endpoints: int, seconds: float = 0.0) -> None:
        self._rig = rig
        self._endpoints = endpoints
        self._seconds = seconds
        self._runs: dict[str, list[Run]] = {queue.name: [] for queue in QUEUES}
        self._missing: dict[str, Missing] = {}

    def run(self, due: int) -> None:
        """Let each of them that can be had deliver so many callbacks."""
        for queue in QUEUES:
            if queue.name not in self._missing:
                try:
                    self._runs[queue.name].append(self._run(queue, due))
                except Missing as reason:
                    self._missing[queue.name] = reason

    def _run(self, queue: Queue, due: int) -> Run:
        data.empty_tables(self._rig)
        _set_latency(self._rig, self._seconds)
        base = f"{self._rig.simulator.base_url}/inbox/healthy"
        urls = [f"{base}/{number}" for number in range(self._endpoints)]
        cost = queue.deliver(self._rig, due, urls, BODY, in_flight=_in_flight(self._rig))
        arrived = sorted(_arrivals(self._rig, due).values())
        first, last = arrived[0], arrived[-1]
        return Run((due - 1) / (last - first), _p99([at - first for at in arrived]), cost)

    def rows(self, work: str, ours: Sequence[Run], wanted: float) -> list[Row]:
        """Compare with each; the best of them has the last word, as all must be beaten."""
        rows = []
        for name, theirs in self._runs.items():
            if name in self._missing:
                rows.append(not_measured(work, _rates(ours), name, self._missing[name]))
                continue
            rows.append(at_least(work, _rates(ours), name, _rates(theirs), wanted))
            rows.append(compared("its processor time", _costs(ours), name, _costs(theirs)))
        return rows


def measure_hanging(rig: Rig) -> list[Row]:
    """Measure delivery with and without hanging endpoints, all due at once and steadily."""
    due = rig.options.size(DUE)
    deliver(rig, round(due * WARM_UP_SHARE))
    without, hanging, steady = [], [], []
    for _ in range(rig.options.rounds):
        without.append(deliver(rig, due))
        hanging.append(deliver(rig, due, hanging=True))
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


def _costs(runs: Sequence[Run]) -> Figure:
    return Figure(tuple(run.processor_ms for run in runs), "ms each")


def _delays(runs: Sequence[Run]) -> Figure:
    return Figure(tuple(run.p99_seconds for run in runs), "s")


def deliver(
    rig: Rig, due: int, *, endpoints: int = ENDPOINTS, seconds: float = 0.0, hanging: bool = False
) -> Run:
    """Let the workers deliver so many callbacks, from the wake-up until none is due."""
    made = _make_endpoints(rig, endpoints, hanging=hanging)
    _set_latency(rig, seconds)
    healthy_due = due * len(made.healthy) // len(made.every)
    data.emit_callbacks(due, made.every)
    rig.wait_until_idle()
    rig.settle()
    started_at = time.time()

    def start() -> None:
        data.release_deliveries(rig)
        wake(CALLBACKS_DUE)

    before = rig.processor_seconds()
    took = rig.seconds_until_none(UNFINISHED, start, ids=made.healthy)
    cost = 1000 * (rig.processor_seconds() - before) / due
    rig.require(healthy_due, DELIVERED, ids=made.healthy)
    arrived = _arrivals(rig, healthy_due)
    return Run(healthy_due / took, _p99([at - started_at for at in arrived.values()]), cost)


def _run_rq(rig: Rig, due: int) -> float:
    endpoints = _make_endpoints(rig)
    data.emit_callbacks(due, endpoints.every)
    rig.wait_until_idle()
    rig.settle()
    ids = [row.id for row in rig.rows("SELECT id FROM callbacks ORDER BY due_at, id")]

    def enqueue() -> None:
        rig.enqueue(QueueName.HIGH, deliver_some, ids, in_flight=_in_flight(rig))

    seconds = rig.seconds_until_none(UNFINISHED, enqueue, ids=endpoints.every)
    rig.require(due, DELIVERED, ids=endpoints.every)
    _arrivals(rig, due)
    return due / seconds


def _in_flight(rig: Rig) -> int:
    return rig.calls_in_flight(get_settings(CallbackSettings).callback_concurrency)


def _set_latency(rig: Rig, seconds: float) -> None:
    latency = {"/inbox/*": seconds} if seconds else {}
    rig.simulator.control("PUT", "/settings", {"latency_seconds": latency})


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


def _make_endpoints(rig: Rig, count: int = ENDPOINTS, *, hanging: bool = False) -> Endpoints:
    """Make endpoints at rest: fast ones or, as asked for, a fifth of them hanging."""
    data.empty_tables(rig)

    def inbox_of(number: int) -> str:
        kind = "hanging" if hanging and _hangs(number) else "healthy"
        return f"{kind}/{number}"

    made = data.make_apps(rig, count, inbox_of)
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
