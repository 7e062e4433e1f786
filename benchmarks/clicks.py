"""Clicks: accepted on disk, counted, seen in the report; against an empty route, jobs and COPY."""

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlencode

from benchmarks import pgbench
from benchmarks.checks import EMPTY_FASTIFY, empty_route, served
from benchmarks.load import Load, generate_load, post, send_all
from benchmarks.peers.fastify import Fastify, fastify
from benchmarks.peers.installed import Missing, optional
from benchmarks.report import Figure, Row, at_least, at_most, not_measured
from benchmarks.rig import BenchmarkError, Rig
from project.clicks.drain import drain_batch
from project.clicks.intake.signatures import HEADER, signature_of
from project.clicks.partitions import make_partitions_ahead
from project.clicks.settings import ClickSettings
from project.config.environment import get_settings
from tests.support.stack import API_KEY

SECONDS = 60.0
EMPTY_SECONDS = 8.0
WARM_UP_SECONDS = 2.0
CONNECTIONS = 48
MOST_PER_SECOND = 12_000
BATCH = 1_000
BATCHES = 300
PEER_CLICKS = 1_500
DRAINED = 200_000
PACE_PER_SECOND = 1_000
PACED_SECONDS = 30.0
OFFERS, SOURCES = 500, 20
WANTED_RATIO = 0.25
PEER_SECONDS = 8.0
OF_NODE = 2.0
OF_COMMITS = 0.4
WANTED_PER_SECOND = 3_000
WANTED_P99_MS = 100.0
WANTED_OF_JOBS = 20.0
WANTED_OF_SINGLES = 20.0
WANTED_OF_COPY = 0.7
WANTED_VISIBLE_MS = 5_000.0
TABLES = "click_inbox, clicks, click_ids, clicks_daily, click_days, click_dead, click_exports"

_numbers = count(1)


def measure_singles(rig: Rig) -> list[Row]:
    """Measure single clicks with the drain beside, then an empty route, then a job per click."""
    _empty(rig)
    url = f"{rig.stack.api_url}/api/webhook/clicks"
    ours: list[Load] = []
    reached: list[float] = []
    empty: list[Load] = []
    peers: list[float] = []
    with empty_route(rig) as empty_url, served(rig, "benchmarks.peers.rq_clicks:app") as jobs_url:
        _send(url, WARM_UP_SECONDS)
        generate_load(empty_url, [post(empty_url, b"{}")], seconds=WARM_UP_SECONDS)
        for _ in range(rig.options.rounds):
            load, per_second = _send_and_count(rig, url)
            ours.append(load)
            reached.append(per_second)
            seconds = rig.options.seconds(EMPTY_SECONDS)
            requests = _singles(empty_url, 1_000)
            empty.append(
                generate_load(empty_url, requests, seconds=seconds, connections=CONNECTIONS)
            )
            peers.append(_run_jobs(rig, jobs_url))
    rates = Figure(tuple(load.per_second for load in ours), "/s")
    return [
        at_least(
            "single signed clicks accepted on disk, drain beside",
            rates,
            "an empty Flask route on the same server settings",
            Figure(tuple(load.per_second for load in empty), "/s"),
            WANTED_RATIO,
        ),
        at_least("the same", rates, "a fixed rate", Figure((WANTED_PER_SECOND,), "/s"), wanted=1.0),
        at_most(
            "its time to answer, p99",
            Figure(tuple(load.p99_ms for load in ours), "ms"),
            WANTED_P99_MS,
        ),
        at_least(
            "single clicks that reached the table",
            Figure(tuple(reached), "/s"),
            f"a job per click (rate over {PEER_CLICKS:,})",
            Figure(tuple(peers), "/s"),
            WANTED_OF_JOBS,
        ),
    ]


def measure_against_node(rig: Rig) -> list[Row]:
    """Measure single clicks against a service in Node, and against what Postgres commits."""
    with optional(fastify(rig)) as node:
        return _against_node(rig, node)


def _against_node(rig: Rig, node: Fastify | Missing) -> list[Row]:
    program = pgbench.find()
    seconds = rig.options.seconds(PEER_SECONDS)
    url = f"{rig.stack.api_url}/api/webhook/clicks"
    ours: list[float] = []
    theirs: list[float] = []
    bare_http: list[float] = []
    commits: list[float] = []
    _empty(rig)
    for target in (url, *([] if isinstance(node, Missing) else [node.clicks_url])):
        _send(target, WARM_UP_SECONDS)
    for _ in range(rig.options.rounds):
        rig.wait_until_idle()
        rig.machine.wait_until_quiet()
        ours.append(_send(url, seconds).per_second)
        rig.wait_until_idle()
        if not isinstance(node, Missing):
            theirs.append(_send(node.clicks_url, seconds).per_second)
            bare_http.append(_send(node.empty_url, seconds).per_second)
        if program:
            commits.append(
                pgbench.commits_per_second(rig, program, connections=CONNECTIONS, seconds=seconds)
            )
    work = "single signed clicks on disk"
    rate = Figure(tuple(ours), "/s")
    peer = "Fastify and pg, a commit per click, 2 processes"
    bare = f"one-row INSERTs, pgbench -c {CONNECTIONS} -M prepared"
    return [
        at_least(work, rate, peer, Figure(tuple(theirs), "/s"), OF_NODE)
        if theirs
        else not_measured(work, rate, peer, node),
        at_least("the same", rate, EMPTY_FASTIFY, Figure(tuple(bare_http), "/s"))
        if bare_http
        else not_measured("the same", rate, EMPTY_FASTIFY, node),
        at_least(work, rate, bare, Figure(tuple(commits), "/s"), OF_COMMITS)
        if commits
        else not_measured(work, rate, bare, "no pgbench found"),
    ]


def measure_batches(rig: Rig) -> list[Row]:
    """Measure batches of 1,000 against singles, both until the last one is on disk."""
    _empty(rig)
    url = f"{rig.stack.api_url}/api/webhook/clicks"
    batches: list[float] = []
    singles: list[float] = []
    for _ in range(rig.options.rounds):
        batches.append(_send_batches(rig, f"{url}/batch"))
        rig.wait_until_idle()
        singles.append(_send(url, rig.options.seconds(EMPTY_SECONDS)).per_second)
        rig.wait_until_idle()
    return [
        at_least(
            f"clicks in batches of {BATCH:,} accepted on disk",
            Figure(tuple(batches), "/s"),
            "single clicks",
            Figure(tuple(singles), "/s"),
            WANTED_OF_SINGLES,
        )
    ]


def measure_drain(rig: Rig) -> list[Row]:
    """Measure one worker's drain against COPY of the same rows into the same tables."""
    clicks = rig.options.size(DRAINED)
    ours: list[float] = []
    copied: list[float] = []
    for _ in range(rig.options.rounds):
        ours.append(clicks / _drain_all(rig, clicks))
        copied.append(clicks / _copy_all(rig, clicks))
    return [
        at_least(
            f"drain of {clicks:,} clicks, one worker",
            Figure(tuple(ours), "/s"),
            "bare COPY of the same rows into the same tables",
            Figure(tuple(copied), "/s"),
            WANTED_OF_COPY,
        )
    ]


def measure_visibility(rig: Rig) -> list[Row]:
    """Measure from the answer to the report, at 1,000 requests a second."""
    _empty(rig)
    url = f"{rig.stack.api_url}/api/webhook/clicks"
    seconds = rig.options.seconds(PACED_SECONDS)
    requests = _singles(url, round(seconds * PACE_PER_SECOND))
    with _watching(rig) as delays:
        generate_load(url, requests, seconds=seconds, connections=16, per_second=PACE_PER_SECOND)
    ranked = sorted(delays())
    p99 = ranked[min(len(ranked) - 1, round(len(ranked) * 0.99))]
    return [
        at_most(
            f"accepted to visible in the report at {PACE_PER_SECOND:,}/s, p99",
            Figure((p99 * 1000,), "ms"),
            WANTED_VISIBLE_MS,
        )
    ]


def _empty(rig: Rig) -> None:
    rig.execute(f"TRUNCATE {TABLES}")
    make_partitions_ahead()
    rig.settle()


def _click(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "click_id": f"click-{number:012}-{number * 7919 % 1_000_003:07}",
        "offer_id": number % OFFERS + 1,
        "source": f"source-{number % SOURCES}",
        "timestamp": (datetime.now(UTC) - timedelta(seconds=number % 3600)).isoformat(),
        "signature": f"{number:032x}",
        **changes,
    }


def _signed(url: str, data: Any) -> bytes:
    body = json.dumps(data).encode()
    secret = get_settings(ClickSettings).click_webhook_secrets[0]
    return post(url, body, {HEADER: signature_of(secret, body)})


def _singles(url: str, number: int) -> list[bytes]:
    return [_signed(url, _click(next(_numbers))) for _ in range(number)]


def _send(url: str, seconds: float) -> Load:
    requests = _singles(url, round(seconds * MOST_PER_SECOND))
    return generate_load(url, requests, seconds=seconds, connections=CONNECTIONS)


def _send_and_count(rig: Rig, url: str) -> tuple[Load, float]:
    """Return the load, and how many clicks a second reached the table until the last was there."""
    before = rig.value("SELECT count(*) FROM clicks")
    seconds = rig.options.seconds(SECONDS)
    requests = _singles(url, round(seconds * MOST_PER_SECOND))
    load: list[Load] = []

    def send() -> None:
        load.append(generate_load(url, requests, seconds=seconds, connections=CONNECTIONS))

    took = rig.seconds_until_none("SELECT 1 FROM click_inbox LIMIT 1", send)
    stored = rig.value("SELECT count(*) FROM clicks") - before
    if stored < load[0].per_second * seconds:
        raise BenchmarkError(f"{stored} clicks were stored, more were accepted.")
    return load[0], stored / took


def _run_jobs(rig: Rig, url: str) -> float:
    """Return how many clicks a second reached the table with a job for each."""
    clicks = rig.options.size(PEER_CLICKS)
    before = rig.value("SELECT count(*) FROM clicks")
    requests = _singles(url, clicks)
    started = time.perf_counter()
    send_all(url, requests, connections=CONNECTIONS)
    while rig.value("SELECT count(*) FROM clicks") - before < clicks:
        if time.perf_counter() - started > 120:
            raise BenchmarkError("The jobs of the peer do not come to an end.")
        time.sleep(0.05)
    return clicks / (time.perf_counter() - started)


def _send_batches(rig: Rig, url: str) -> float:
    """Return how many clicks a second were accepted in batches."""
    requests = [
        _signed(url, {"clicks": [_click(next(_numbers)) for _ in range(BATCH)]})
        for _ in range(rig.options.size(BATCHES))
    ]
    seconds = rig.options.seconds(EMPTY_SECONDS)
    load = generate_load(url, requests, seconds=seconds, connections=4)
    return load.per_second * BATCH


def _drain_all(rig: Rig, clicks: int) -> float:
    """Return how many seconds this process takes to count what is in the inbox.

    No checkpoint lies between, as a click is counted seconds after it came: behind one, a third
    of the time goes into writing the pages of the inbox whole into the log, to be emptied.
    """
    _empty(rig)
    rig.execute(FILL, batches=clicks // BATCH, size=BATCH)
    rig.execute("ANALYZE")
    started = time.perf_counter()
    while drain_batch().taken:
        pass
    took = time.perf_counter() - started
    rig.require(clicks // BATCH * BATCH, "SELECT count(*) FROM clicks")
    return took


def _copy_all(rig: Rig, clicks: int) -> float:
    """Return how many seconds COPY takes for the same rows, in the order of their arrival."""
    _empty(rig)
    rig.execute(FILL, batches=clicks // BATCH, size=BATCH)
    with rig.raw_connection() as connection, connection.cursor() as cursor:
        held = {}
        for table, columns in COPIED.items():
            with cursor.copy(f"COPY (SELECT {columns} FROM {ARRIVED}) TO STDOUT") as copy:
                held[table] = b"".join(bytes(part) for part in copy)
        connection.commit()
        rig.settle()
        started = time.perf_counter()
        for table, rows in held.items():
            with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                copy.write(rows)
        connection.commit()
        return time.perf_counter() - started


ARRIVED = """
    (SELECT inbox.id, inbox.received_at, one.*
       FROM click_inbox AS inbox,
            unnest(click_ids, offer_ids, sources, clicked_at, signatures) WITH ORDINALITY
                AS one(click_id, offer_id, source, clicked_at, signature, place)
      ORDER BY inbox.id, one.place) AS arrived
"""
COPIED = {
    "clicks": "clicked_at, click_id, offer_id, source, signature, received_at",
    "click_ids": "click_id, current_date",
}
# Random ids, as trackers make them: they hit the index of click_ids everywhere.
FILL = """
    INSERT INTO click_inbox (click_ids, offer_ids, sources, clicked_at, signatures, size)
    SELECT array_agg(gen_random_uuid()::text), array_agg(1 + n % 500),
           array_agg('source-' || n % 20), array_agg(now() - n * interval '1 second'),
           array_agg(md5(n::text)), count(*)
      FROM generate_series(1, :batches) AS batch, generate_series(1, :size) AS n
     GROUP BY batch
"""


@contextmanager
def _watching(rig: Rig) -> Iterator[Callable[[], list[float]]]:
    """Send a marked click every half second meanwhile, and see when the report shows it."""
    delays: list[float] = []
    ended = threading.Event()
    url = f"{rig.stack.api_url}/api/webhook/clicks"

    def watch() -> None:
        offer = 1_000_000
        while not ended.is_set():
            offer += 1
            with urllib.request.urlopen(
                _as_request(url, _signed(url, _click(next(_numbers), offer_id=offer)))
            ) as answer:
                answer.read()
            accepted_at = time.perf_counter()
            while not _is_reported(rig, offer):
                time.sleep(0.02)
            delays.append(time.perf_counter() - accepted_at)
            ended.wait(0.1)

    thread = threading.Thread(target=watch)
    thread.start()

    def found() -> list[float]:
        ended.set()
        thread.join(60)
        if len(delays) < 5:
            raise BenchmarkError("The report shows no clicks.")
        return delays

    yield found
    ended.set()
    thread.join(60)


def _is_reported(rig: Rig, offer: int) -> bool:
    today = datetime.now(UTC).date()
    query = {
        "start_date": (today - timedelta(days=1)).isoformat(),
        "end_date": today.isoformat(),
        "offer_id": offer,
    }
    request = urllib.request.Request(
        f"{rig.stack.api_url}/api/reports/aggregated?{urlencode(query)}",
        headers={"Authorization": f"Bearer {API_KEY}"},
    )
    with urllib.request.urlopen(request) as answer:
        return bool(json.load(answer)["data"])


def _as_request(url: str, raw: bytes) -> urllib.request.Request:
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    headers = dict(line.split(": ", 1) for line in lines if not line.startswith("Host"))
    return urllib.request.Request(url, data=body, headers=headers, method="POST")
