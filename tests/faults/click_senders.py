"""Trackers that send clicks, sign them, and send again what was not answered."""

import http.client
import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from project.clicks.intake.signatures import HEADER, signature_of

SECRET = "a-webhook-secret-for-fault-tests"
SENDERS = 6
BATCH = 40
SHARE_OF_BATCHES = 0.15
DOUBLE_EVERY = 20
BAD_EVERY = 100
PATIENCE_SECONDS = 90
PAUSE_SECONDS = 0.1
OFFERS = 25
LASTS_SECONDS = 30
"""How long the trackers take at least: long enough for everything to be killed meanwhile."""


@dataclass
class Ledger:
    """What the trackers know in the end: which clicks were answered 202, which were refused."""

    accepted: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    sent: int = 0
    sent_again: int = 0
    failures: list[str] = field(default_factory=list)


def make_clicks(count: int) -> list[dict[str, Any]]:
    """Return clicks, every twentieth a double of an earlier one, every hundredth a bad one."""
    chance = random.Random(7)
    now = datetime.now(UTC).isoformat()
    clicks: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        if number % DOUBLE_EVERY == 0:
            clicks.append(clicks[chance.randrange(len(clicks))])
            continue
        bad = number % BAD_EVERY == 1
        clicks.append(
            {
                "click_id": f"{'bad' if bad else 'click'}-{number}",
                "offer_id": 0 if bad else number % OFFERS + 1,
                "source": f"source-{number % 4}",
                "timestamp": now,
            }
        )
    return clicks


@contextmanager
def senders(api_url: str, clicks: Sequence[dict[str, Any]]) -> Iterator[Ledger]:
    """Send the clicks from several threads meanwhile; all are through when this ends."""
    ledger, lock = Ledger(), threading.Lock()
    share = -(-len(clicks) // SENDERS)
    threads = [
        threading.Thread(
            target=_Tracker(api_url, clicks[first : first + share], ledger, lock, first).run
        )
        for first in range(0, len(clicks), share)
    ]
    for thread in threads:
        thread.start()
    yield ledger
    for thread in threads:
        thread.join()


class _Tracker:
    def __init__(
        self,
        api_url: str,
        clicks: Sequence[dict[str, Any]],
        ledger: Ledger,
        lock: threading.Lock,
        seed: int,
    ) -> None:
        parts = urlsplit(api_url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._connection: http.client.HTTPConnection | None = None
        self._clicks = list(clicks)
        self._ledger, self._lock = ledger, lock
        self._chance = random.Random(seed)

    def run(self) -> None:
        at = 0
        started = time.monotonic()
        while at < len(self._clicks):
            size = BATCH if self._chance.random() < SHARE_OF_BATCHES else 1
            self._deliver(self._clicks[at : at + size], in_batch=size > 1)
            at += size
            ahead = started + LASTS_SECONDS * at / len(self._clicks) - time.monotonic()
            time.sleep(max(0.0, ahead))
        self._hang_up()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _deliver(self, clicks: Sequence[dict[str, Any]], *, in_batch: bool) -> None:
        """Send until it is answered for good: taken, or refused as bad."""
        ends_at = time.monotonic() + PATIENCE_SECONDS
        body = json.dumps({"clicks": clicks} if in_batch else clicks[0]).encode()
        path = "/api/webhook/clicks/batch" if in_batch else "/api/webhook/clicks"
        tries = 0
        while time.monotonic() < ends_at:
            tries += 1
            status, answer = self._post(path, body)
            if status in (202, 400):
                self._note(clicks, status, answer, tries)
                return
            time.sleep(PAUSE_SECONDS)
        with self._lock:
            self._ledger.failures.append(f"{clicks[0]['click_id']}: {status} {answer}")

    def _post(self, path: str, body: bytes) -> tuple[int | None, Any]:
        """Return the answer; no status if there was none, and nobody knows what became of it."""
        headers = {"Content-Type": "application/json", HEADER: signature_of(SECRET, body)}
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(*self._address, timeout=15)
            self._connection.request("POST", path, body, headers)
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._hang_up()
            return None, repr(error)

    def _note(self, clicks: Sequence[dict[str, Any]], status: int, answer: Any, tries: int) -> None:
        bad = {error["index"] for error in answer["errors"]} if "total" in answer else set()
        with self._lock:
            self._ledger.sent += len(clicks)
            self._ledger.sent_again += tries - 1
            for index, click in enumerate(clicks):
                if status == 202 and index not in bad:
                    self._ledger.accepted[click["click_id"]] = click["offer_id"]
                else:
                    self._ledger.refused.add(click["click_id"])
