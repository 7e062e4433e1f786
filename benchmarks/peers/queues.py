"""The peers of callbacks: queues on Postgres that others wrote, each used as it is at its best.

A job per callback loads its row, signs it, sends it over a kept connection and records attempt
and state in one statement: two processes, prepared statements, a pool of connections. The tables
are like ours with fewer indexes. Jobs are queued before the clock starts, and a peer is timed from
its first delivery to its last, so its start is not held against it.
"""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers import installed
from benchmarks.rig import BenchmarkError, Rig
from ops.environment import PROJECT
from tests.support.stack import Program

PROCESSES = 2
POOL = 20
ENQUEUE_SECONDS = 120
SECRET = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

TABLES = (
    "DROP SCHEMA IF EXISTS peer CASCADE",
    "CREATE SCHEMA peer",
    """CREATE TABLE peer.callbacks (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        event_id uuid NOT NULL UNIQUE, url text NOT NULL, body text NOT NULL,
        state text NOT NULL, attempts int NOT NULL DEFAULT 0, due_at timestamptz, last_status int,
        created_at timestamptz NOT NULL DEFAULT now(), delivered_at timestamptz
    )""",
    "CREATE INDEX ON peer.callbacks (due_at) WHERE due_at IS NOT NULL",
    """CREATE TABLE peer.attempts (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        callback_id bigint NOT NULL REFERENCES peer.callbacks,
        url text NOT NULL, status int, answer text, duration_ms int NOT NULL,
        attempted_at timestamptz NOT NULL
    )""",
    "CREATE INDEX ON peer.attempts (callback_id)",
)
FILL = """
    INSERT INTO peer.callbacks (event_id, url, body, state, due_at)
    SELECT gen_random_uuid(), (CAST(:urls AS text[]))[1 + n % :endpoints], :body, 'pending', now()
      FROM generate_series(1, :count) AS n
"""
LOAD = "SELECT event_id, url, body FROM peer.callbacks WHERE id = $1 AND state = 'pending'"
RECORD = """
    WITH attempt AS (
        INSERT INTO peer.attempts (callback_id, url, status, answer, duration_ms, attempted_at)
        VALUES ($1, $2, $3, $4, $5, $6))
    UPDATE peer.callbacks SET state = 'delivered', attempts = attempts + 1, due_at = NULL,
                              last_status = $3, delivered_at = now()
     WHERE id = $1
"""
UNFINISHED = "SELECT 1 FROM peer.callbacks WHERE due_at IS NOT NULL LIMIT 1"
NONE_RECORDED = "SELECT 1 WHERE NOT EXISTS (SELECT FROM peer.attempts)"
RECORDED = "SELECT count(*) FROM peer.attempts"


@dataclass(frozen=True)
class Queue:
    """A peer: how the table calls it, and the command that takes "enqueue" or "work"."""

    name: str
    command: Callable[[], Sequence[str]]

    def deliver(
        self, rig: Rig, count: int, urls: Sequence[str], body: str, *, in_flight: int
    ) -> float:
        """Send `count` callbacks to the URLs in turn and record each, `in_flight` at once.

        Return the processor time that each cost from the first one on, in milliseconds.
        Raises Missing where the peer cannot be had.
        """
        environment = _environment(rig, in_flight)
        command = self.command()
        for statement in TABLES:
            rig.execute(statement)
        rig.execute(FILL, urls=list(urls), endpoints=len(urls), body=body, count=count)
        _enqueue([*command, "enqueue"], environment)
        rig.settle()
        log = rig.stack.folder / "log" / f"{self.name.partition(',')[0]}.log"
        processes = [
            Program(f"{self.name} {number}", [*command, "work"], environment, log)
            for number in range(PROCESSES)
        ]
        try:
            for process in processes:
                process.start()
            rig.wait_until_none(NONE_RECORDED)
            recorded: int = rig.value(RECORDED)
            before = rig.processor_seconds()
            rig.wait_until_none(UNFINISHED)
            spent = rig.processor_seconds() - before
        finally:
            for process in processes:
                process.discard()
        rig.require(count, RECORDED)
        return 1000 * spent / max(1, count - recorded)


QUEUES = (
    Queue(
        "graphile-worker, tuned",
        lambda: ["node", str(installed.node_scripts() / "graphile_worker.js")],
    ),
    Queue(
        "pgqueuer, asyncpg, uvloop",
        lambda: [str(installed.python()), str(installed.HERE / "pypi" / "pgqueuer_jobs.py")],
    ),
)


def _environment(rig: Rig, in_flight: int) -> Mapping[str, str]:
    return {
        **rig.stack.environment,
        "PEER_DATABASE_URL": rig.plain_database_url,
        "PEER_IN_FLIGHT": str(max(2, in_flight // PROCESSES)),
        "PEER_POOL": str(POOL),
        "PEER_SECRET": SECRET,
        "PEER_LOAD": LOAD,
        "PEER_RECORD": RECORD,
    }


def _enqueue(command: Sequence[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=ENQUEUE_SECONDS,
    )
    if done.returncode != 0:
        raise BenchmarkError(f"{command[0]} could not queue jobs: {done.stderr.strip()[-500:]}")
