"""The purchase-run: against jobs on RQ, and in a table fifty times as large."""

from benchmarks import callbacks, data, sizes
from benchmarks.peers.rq_jobs import check_some
from benchmarks.report import Figure, Row, at_least
from benchmarks.rig import Rig
from project.config.environment import get_settings
from project.core.work.queues import QueueName, wake
from project.mobile.purchases.service import PURCHASES_DUE
from project.mobile.settings import StoreSettings

DUE = 20_000
PEER = 1_500
MILLION = 1_000_000
DEVICES = 20_000
APPS = 10
STORE_SECONDS = 0.05
WANTED_RATIO = 8.0
WANTED_OF_CALLBACKS = 0.6
WANTED_RATIO_OF_SIZES = 0.8
WARM_UP_SHARE = 0.1

UNFINISHED = "SELECT 1 FROM purchases WHERE due_at <= now() LIMIT 1"
UNSENT = "SELECT 1 FROM callbacks WHERE due_at <= now() LIMIT 1"
EVENTS = "SELECT count(*) FROM events"
SUBJECTS = "SELECT count(DISTINCT subject_id) FROM events WHERE type = 'renewed'"


def measure_against_peer(rig: Rig) -> list[Row]:
    """Measure the run, its peer, the run with its callbacks sent, and callbacks alone, in turn."""
    due, of_peer = rig.options.size(DUE), rig.options.size(PEER)
    _run_ours(rig, round(due * WARM_UP_SHARE))
    _run_peer(rig, round(of_peer * WARM_UP_SHARE))
    ours, theirs, both, alone = [], [], [], []
    for _ in range(rig.options.rounds):
        ours.append(_run_ours(rig, due))
        theirs.append(_run_peer(rig, of_peer))
        both.append(_run_ours_and_deliver(rig, due))
        alone.append(callbacks.deliver(rig, due, endpoints=APPS).per_second)
    peer = Figure(tuple(theirs), "/s")
    against = f"jobs on RQ, a commit per purchase (rate over {of_peer:,})"
    return [
        at_least(
            f"purchase-run, {due:,} due, store answers in 50 ms",
            Figure(tuple(ours), "/s"),
            against,
            peer,
            WANTED_RATIO,
        ),
        at_least(
            "the same, with every callback sent meanwhile, until the last is there",
            Figure(tuple(both), "/s"),
            f"as many callbacks alone, {APPS} endpoints",
            Figure(tuple(alone), "/s"),
            WANTED_OF_CALLBACKS,
        ),
    ]


def measure_sizes(rig: Rig) -> list[Row]:
    """Measure the run in a small table and in a large one."""
    due, large = rig.options.size(DUE), rig.options.size(MILLION)
    _run_ours(rig, round(due * WARM_UP_SHARE))

    def rates(count: int, rounds: int) -> list[float]:
        return _rates_in_table(rig, count, due, rounds)

    return sizes.measure(
        rig, "purchase-run", rates, due=due, large=large, wanted=WANTED_RATIO_OF_SIZES
    )


def _rates_in_table(rig: Rig, count: int, due: int, rounds: int) -> list[float]:
    _fill(rig, count, due)
    rates = []
    for number in range(rounds):
        if number:
            data.make_due_again(rig, count, due=due, rest=number)
            rig.execute("TRUNCATE callbacks, events CASCADE")
        rig.settle()
        rates.append(_time_ours(rig, due))
    return rates


def _run_ours(rig: Rig, due: int) -> float:
    """Return how many purchases a second the workers checked, their callbacks written, not sent."""
    _fill(rig, due, due)
    rig.settle()
    return _time_ours(rig, due)


def _time_ours(rig: Rig, due: int) -> float:
    seconds = rig.seconds_until_none(UNFINISHED, lambda: wake(PURCHASES_DUE))
    _require_each_once(rig, due)
    return due / seconds


def _run_ours_and_deliver(rig: Rig, due: int) -> float:
    _fill(rig, due, due)
    data.release_deliveries(rig)
    rig.settle()
    seconds = rig.seconds_until_none(
        f"({UNFINISHED}) UNION ALL ({UNSENT})", lambda: wake(PURCHASES_DUE)
    )
    _require_each_once(rig, due)
    return due / seconds


def _run_peer(rig: Rig, due: int) -> float:
    _fill(rig, due, due)
    data.hold_back_purchases(rig)
    rig.settle()
    ids = [row.id for row in rig.rows("SELECT id FROM purchases ORDER BY due_at")]
    in_flight = rig.calls_in_flight(get_settings(StoreSettings).store_concurrency)

    def enqueue() -> None:
        rig.enqueue(QueueName.MEDIUM, check_some, ids, in_flight=in_flight)

    seconds = rig.seconds_until_none(UNFINISHED, enqueue)
    _require_each_once(rig, due)
    return due / seconds


def _fill(rig: Rig, count: int, due: int) -> None:
    data.empty_tables(rig)
    latency = dict.fromkeys(("/app-store/*", "/google-play/*"), STORE_SECONDS)
    rig.simulator.control("PUT", "/settings", {"latency_seconds": latency})
    made = data.make_apps(rig, APPS, lambda number: f"app-{number}")
    data.hold_back_deliveries(rig)
    devices = min(count, DEVICES)
    data.make_devices(rig, devices, made)
    data.make_purchases(rig, count, due=due, devices=devices)


def _require_each_once(rig: Rig, due: int) -> None:
    for query in (EVENTS, SUBJECTS):
        rig.require(due, query)
