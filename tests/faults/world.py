"""What fault tests share: many rows at once, who is busy, and what must hold in the end."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rq import Worker

from ops.environment import PROJECT
from simulator.client import Answer, SimulatorClient
from tests.support.stack import API_KEY, Program, Stack

POLL_SECONDS = 0.05
OPERATOR = {"Authorization": f"Bearer {API_KEY}"}
VERIFYING = "verify_due_purchases"
DELIVERING = "deliver_due_callbacks"
Found = TypeVar("Found")


@dataclass(frozen=True)
class MadeApp:
    """An app whose callbacks go to the simulator's inbox of this name."""

    id: int
    inbox: str


class Api:
    """A customer of the API; every request is a new connection."""

    def __init__(self, stack: Stack, *, timeout_seconds: float = 15) -> None:
        self._http = SimulatorClient(stack.api_url, timeout_seconds)

    def post(self, path: str, data: object, *, operator: bool = False) -> Answer:
        return self._http.call("POST", path, data, OPERATOR if operator else None)

    def get(self, path: str) -> Answer:
        return self._http.call("GET", path, None, OPERATOR)

    def buy(self, device: int, receipt: str) -> Answer:
        return self.post("/api/purchase", {"client-token": token(device), "receipt": receipt})

    def check(self, device: int) -> Answer:
        return self.post("/api/purchase/check", {"client-token": token(device)})


def token(device: int) -> str:
    """Return the client-token of a seeded device."""
    return f"ct_seeded-{device}"


def eventually(
    found: Callable[[], Found], *, within: float, what: str, every: float = POLL_SECONDS
) -> Found:
    """Return the first true thing that `found` returns; fail after `within` seconds."""
    deadline = time.monotonic() + within
    while not (thing := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(every)
    return thing


def stays(holds: Callable[[], bool], *, seconds: float) -> None:
    """Watch for so many seconds that something goes on being so."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert holds()
        time.sleep(POLL_SECONDS)


def make_apps(stack: Stack, count: int, *, prefix: str = "app") -> list[MadeApp]:
    """Make apps through the API."""
    api = Api(stack)
    apps = []
    for number in range(count):
        inbox = f"{prefix}-{number}"
        endpoint = f"{stack.simulator.base_url}/inbox/{inbox}"
        answer = api.post("/api/apps", {"name": inbox, "endpoint": endpoint}, operator=True)
        assert answer.status == 201, answer.body
        apps.append(MadeApp(answer.json()["data"]["id"], inbox))
    return apps


def seed_devices(stack: Stack, apps: Sequence[MadeApp], count: int) -> None:
    """Make devices, in turn of the apps and systems, whose ids and tokens go from 1 on."""
    stack.fetch(
        """
        INSERT INTO devices (id, app_id, uid, language, os, token_hash, created_at, updated_at)
        SELECT n, (%(apps)s::bigint[])[1 + n %% cardinality(%(apps)s::bigint[])], 'device-' || n,
               'en', (ARRAY['ios', 'android'])[1 + n / 2 %% 2],
               sha256(convert_to('ct_seeded-' || n, 'UTF8')), now(), now()
        FROM generate_series(1, %(count)s) n
        """,
        {"apps": [app.id for app in apps], "count": count},
    )
    stack.fetch("SELECT setval('devices_id_seq', %(count)s)", {"count": count})


def seed_due_purchases(stack: Stack, apps: Sequence[MadeApp], count: int) -> None:
    """Make devices with a purchase each that expired an hour ago.

    The store renews two of three (their receipts end in 1), and refuses the third (in 2).
    """
    seed_devices(stack, apps, count)
    stack.fetch(
        """
        INSERT INTO purchases (app_id, device_id, os, receipt, receipt_hash, state, expire_date,
                               due_at, started_at, checked_at, created_at)
        SELECT app_id, id, os, receipt, sha256(convert_to(receipt, 'UTF8')), 'active',
               now() - interval '1 hour', now() - interval '1 hour', now() - interval '31 days',
               now() - interval '31 days', now() - interval '31 days'
        FROM (SELECT *, 'due-' || id || (ARRAY['-x2', '-x1', '-x1'])[1 + id % 3] AS receipt
              FROM devices) AS devices
        """
    )
    stack.fetch("ANALYZE")


def busy(stack: Stack, job: str) -> list[Program]:
    """Return the workers that are at a job of this function now."""
    with stack.redis as redis:
        at_work = [(worker.pid, worker.get_current_job()) for worker in Worker.all(redis)]
    pids = {pid for pid, at in at_work if at is not None and str(at.func_name).endswith(job)}
    return [worker for worker in stack.workers if worker.is_running and worker.pid in pids]


def events(stack: Stack) -> int:
    """Count the events."""
    return int(stack.value("SELECT count(*) FROM events"))


def unverified(stack: Stack) -> int:
    """Count the purchases whose store is to be asked soon, or is just being asked.

    Also those count that wait for another try because the store did not answer in time.
    """
    return int(
        stack.value(
            """
            SELECT count(*) FROM purchases
            WHERE due_at < now() + interval '1 day' OR claim_id IS NOT NULL
            """
        )
    )


def undelivered(stack: Stack) -> int:
    """Count the callbacks that are still on their way."""
    return int(stack.value("SELECT count(*) FROM callbacks WHERE state <> 'delivered'"))


def leases(stack: Stack) -> int:
    """Count the purchases, callbacks and lanes that somebody, alive or dead, has claimed."""
    return int(
        stack.value(
            """
            SELECT sum(claimed) FROM (
                SELECT count(*) AS claimed FROM purchases WHERE claimed_until > clock_timestamp()
                UNION ALL
                SELECT count(*) FROM callbacks WHERE claimed_until > clock_timestamp()
                UNION ALL
                SELECT count(*) FROM delivery_lanes WHERE claimed_until > clock_timestamp()
            ) AS every_kind
            """
        )
    )


def all_is_done(stack: Stack) -> bool:
    """Tell whether nothing is left to do; if there is and nobody has it, do as the sweeps do."""
    if not unverified(stack) and not undelivered(stack):
        return True
    if not leases(stack):
        stack.flask("purchase-run")
        stack.flask("callbacks-run")
    return False


def arrivals(stack: Stack, inbox: str) -> list[tuple[str, float]]:
    """Return the id and time of each message that came, oldest first."""
    messages = stack.simulator.inbox(inbox, limit=2000)["messages"]
    return [(message["id"], message["arrived_at"]) for message in messages]


def most_in_flight(times: Sequence[float], *, seconds: float) -> int:
    """Return how many requests were under way at once, each so many seconds from its arrival."""
    moments = sorted([(at, 1) for at in times] + [(at + seconds, -1) for at in times])
    most = now = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


def assert_each_due_purchase_was_checked_once(stack: Stack) -> None:
    """Hold that each purchase that was seeded as due has one outcome, told by one event."""
    outcomes = stack.fetch(
        """
        SELECT right(receipt, 1), state, expire_date > now(), array_agg(DISTINCT told), count(*)
        FROM (SELECT p.*, (SELECT coalesce(string_agg(e.type, ','), 'nothing') FROM events e
                           WHERE e.subject_type = 'purchase' AND e.subject_id = p.id) AS told
              FROM purchases p WHERE receipt LIKE 'due-%') AS purchases
        GROUP BY 1, 2, 3 ORDER BY 1
        """
    )
    assert [outcome[:4] for outcome in outcomes] == [
        ("1", "active", True, ["renewed"]),
        ("2", "canceled", False, ["canceled"]),
    ]


def assert_books_agree(stack: Stack) -> None:
    """Hold that each event has one callback and is counted once in the daily report."""
    lonely = stack.value(
        """
        SELECT count(*) FROM events e
        WHERE (SELECT count(*) FROM callbacks c WHERE c.event_id = e.id) <> 1
        """
    )
    assert lonely == 0
    happened: Counter[Any] = Counter()
    for app_id, day, system, kind, count in stack.fetch(
        """
        SELECT p.app_id, (e.occurred_at AT TIME ZONE 'UTC')::date, p.os, e.type, count(*)
        FROM events e JOIN purchases p ON p.id = e.subject_id GROUP BY 1, 2, 3, 4
        """
    ):
        happened[app_id, day, system, kind] = count
    counted: Counter[Any] = Counter()
    for app_id, day, system, *counts in stack.fetch(
        "SELECT app_id, day, os, started, renewed, canceled FROM purchase_daily"
    ):
        for kind, count in zip(("started", "renewed", "canceled"), counts, strict=True):
            counted[app_id, day, system, kind] = count
    assert +counted == happened


def assert_each_callback_was_delivered(stack: Stack, apps: Sequence[MadeApp]) -> None:
    """Hold that every callback arrived and is recorded as delivered exactly once."""
    assert undelivered(stack) == 0
    doubled = stack.value(
        """
        SELECT count(*) FROM callbacks c
        WHERE (SELECT count(*) FROM callback_attempts a
               WHERE a.callback_id = c.id AND a.status = 200) <> 1
        """
    )
    assert doubled == 0
    expected = {str(event_id) for (event_id,) in stack.fetch("SELECT event_id FROM callbacks")}
    arrived = {webhook_id for app in apps for webhook_id, _ in arrivals(stack, app.inbox)}
    assert arrived == expected


def periodic_jobs(stack: Stack) -> int:
    """Return how many entries the schedule has, as a process of the copy sees it."""
    counting = "from project.schedule import schedule; print(len(schedule()))"
    done = subprocess.run(
        [sys.executable, "-c", counting],
        cwd=PROJECT,
        env=dict(stack.environment),
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)
