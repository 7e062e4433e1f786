"""The development store's protocol, spoken by the simulator for both stores.

`POST {url}/verify {receipt}` answers `{status: true, expire-date: "2026-01-31 18:00:00"}`, local
time of UTC-6 without an offset, or `{status: false}`; 429 means "ask later".
"""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from project.core.net import http_client
from project.core.net.http_client import Answer, Request
from project.mobile.stores.base import Limited, Refused, StoreAnswer, Unavailable, Verified

STORE_TIME = timezone(timedelta(hours=-6))
TOO_MANY_REQUESTS = 429


class DevelopmentStore:
    """A store that answers in the development protocol."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/verify"

    async def verify(self, receipt: str, *, deadline_seconds: float) -> StoreAnswer:
        """Ask the store about a receipt."""
        body = json.dumps({"receipt": receipt}).encode()
        headers = {"Content-Type": "application/json"}
        answer = await http_client.send(
            Request("POST", self._url, body, headers, deadline_seconds=deadline_seconds)
        )
        return read_answer(answer)


def read_answer(answer: Answer) -> StoreAnswer:
    """Say what the store's HTTP answer means; whatever is not understood is Unavailable."""
    if answer.status is None:
        return Unavailable(answer.error or "no answer")
    if answer.status == TOO_MANY_REQUESTS:
        return Limited(answer.retry_after_seconds)
    if answer.status != 200:
        return Unavailable(f"answered {answer.status}")
    try:
        document = answer.json_object()
    except (ValueError, RecursionError):
        return Unavailable("answered something that is not JSON")
    except TypeError:
        return Unavailable("answered without a status")
    verdict = document.get("status")
    if verdict is False:
        return Refused("refused by the store")
    if verdict is not True:
        return Unavailable("answered without a status")
    return _verified(document.get("expire-date"))


def _verified(written: Any) -> StoreAnswer:
    try:
        moment = datetime.fromisoformat(written)
    except (TypeError, ValueError):
        return Unavailable("answered without a date that can be read")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=STORE_TIME)
    try:
        return Verified(moment.astimezone(UTC))
    except OverflowError:
        return Unavailable("answered with a date out of range")
