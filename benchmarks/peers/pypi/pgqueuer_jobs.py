"""A job per callback on pgqueuer, with asyncpg, uvloop and aiohttp's kept connections.

Run with "enqueue", then with "work" in as many processes as there are to be.
"""

import base64
import hashlib
import hmac
import os
import sys
import time
from datetime import UTC, datetime

import aiohttp
import asyncpg
import uvloop
from pgqueuer import AsyncpgPoolDriver, Job, PgQueuer, Queries

IN_FLIGHT = int(os.environ["PEER_IN_FLIGHT"])
POOL = int(os.environ["PEER_POOL"])
SECRET = base64.b64decode(os.environ["PEER_SECRET"])
LOAD, RECORD = os.environ["PEER_LOAD"], os.environ["PEER_RECORD"]
ENQUEUED_AT_ONCE = 5000


def connect() -> asyncpg.Pool:
    """Make the pool; the tables of the queue are to lie beside those of the callbacks."""
    return asyncpg.create_pool(
        os.environ["PEER_DATABASE_URL"],
        min_size=POOL,
        max_size=POOL,
        server_settings={"search_path": "peer"},
    )


async def enqueue() -> None:
    """Make the tables of the queue, and a job for each callback."""
    async with connect() as pool:
        queue = Queries(AsyncpgPoolDriver(pool))
        await queue.install()
        ids = [str(row["id"]) for row in await pool.fetch("SELECT id FROM callbacks ORDER BY id")]
        for start in range(0, len(ids), ENQUEUED_AT_ONCE):
            some = [id_.encode() for id_ in ids[start : start + ENQUEUED_AT_ONCE]]
            await queue.enqueue(["deliver"] * len(some), some, [0] * len(some))


async def work() -> None:
    """Take jobs until the process is ended."""
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with connect() as pool, aiohttp.ClientSession(connector=connector) as session:
        queue = PgQueuer(AsyncpgPoolDriver(pool))

        @queue.entrypoint("deliver")
        async def deliver(job: Job) -> None:
            await deliver_one(pool, session, int(job.payload or b""))

        await queue.run(batch_size=IN_FLIGHT // 2, max_concurrent_tasks=IN_FLIGHT)


async def deliver_one(pool: asyncpg.Pool, session: aiohttp.ClientSession, number: int) -> None:
    """Load a callback, send it, record the attempt."""
    callback = await pool.fetchrow(LOAD, number)
    sent_at, started = datetime.now(UTC), time.perf_counter()
    body = callback["body"].encode()
    headers = signed(str(callback["event_id"]), body, int(sent_at.timestamp()))
    async with session.post(callback["url"], data=body, headers=headers) as answer:
        text = await answer.text()
    answer.raise_for_status()
    took = round((time.perf_counter() - started) * 1000)
    await pool.execute(RECORD, number, callback["url"], answer.status, text[:500], took, sent_at)


def signed(event_id: str, body: bytes, timestamp: int) -> dict[str, str]:
    """Return the headers of a message by Standard Webhooks."""
    content = b"%s.%d.%s" % (event_id.encode(), timestamp, body)
    signature = base64.b64encode(hmac.digest(SECRET, content, hashlib.sha256)).decode()
    return {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }


if __name__ == "__main__":
    uvloop.run(enqueue() if sys.argv[1] == "enqueue" else work())
