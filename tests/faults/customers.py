"""Customers who buy and check all the time, and remember how they were answered."""

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.faults.world import Api
from tests.support.stack import Stack

PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class Experience:
    """How one request went; the status is None if there was no answer."""

    asked_at: float
    seconds: float
    receipt: str | None
    status: int | None
    content_type: str
    retry_after: str | None


@dataclass
class Customers:
    """Everything that customers have met with so far; times are those of `time.time`."""

    experiences: list[Experience] = field(default_factory=list)

    def between(self, start: float, end: float) -> Sequence[Experience]:
        """Return what was asked in this time."""
        return [seen for seen in self.experiences if start <= seen.asked_at < end]

    def receipts(self, *statuses: int) -> set[str]:
        """Return the receipts that were bought with and answered by one of these statuses."""
        seen = [one for one in self.experiences if one.status in statuses]
        return {one.receipt for one in seen if one.receipt is not None}


@contextmanager
def customers(
    stack: Stack, devices: Sequence[int], *, at_once: int = 3, pause: float = PAUSE_SECONDS
) -> Iterator[Customers]:
    """Let so many customers at once buy with good receipts, and check, until the `with` ends."""
    met = Customers()
    numbers = itertools.count(1)
    over = threading.Event()

    def one_customer() -> None:
        api = Api(stack, timeout_seconds=30)
        while not over.wait(pause):
            number = next(numbers)
            device = devices[number % len(devices)]
            met.experiences.append(_ask(api, device, f"bought-{number}-x1"))
            met.experiences.append(_ask(api, device, None))

    threads = [threading.Thread(target=one_customer) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    try:
        yield met
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _ask(api: Api, device: int, receipt: str | None) -> Experience:
    began, asked_at = time.monotonic(), time.time()
    try:
        answer = api.check(device) if receipt is None else api.buy(device, receipt)
    except OSError:
        return Experience(asked_at, time.monotonic() - began, receipt, None, "", None)
    return Experience(
        asked_at,
        time.monotonic() - began,
        receipt,
        answer.status,
        answer.headers.get_content_type(),
        answer.headers.get("Retry-After"),
    )
