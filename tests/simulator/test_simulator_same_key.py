"""The same key at the same time is the same charge and the same message, however slow the clock."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from simulator.carrier import Carrier
from simulator.sms import SmsGateways

AT_ONCE = 5


class SlowClock:
    """A clock that answers only when all who ask at once have asked."""

    def __init__(self) -> None:
        self._asked = asyncio.Barrier(AT_ONCE)

    async def now(self) -> datetime:
        await self._asked.wait()
        return datetime.now(UTC)


def asked_at_once(
    system: Callable[[Any], Carrier | SmsGateways],
    ask: Callable[[TestClient], Awaitable[Any]],
    counts: str,
) -> Any:
    """Return what the system counts after it was asked the same thing several times at once."""

    async def run() -> Any:
        app = web.Application()
        app.add_routes(system(SlowClock()).routes())
        async with TestClient(TestServer(app)) as client:
            await asyncio.gather(*(ask(client) for _ in range(AT_ONCE)))
            return await (await client.get(counts)).json()

    return asyncio.run(run())


def test_a_key_is_charged_once() -> None:
    headers = {"Auth-Key": "secret", "Idempotency-Key": "k1"}
    order = {"msisdn": "+79001112233", "sub_plan": "daily"}
    found = asked_at_once(
        Carrier,
        lambda client: client.post("/carrier/billing", json=order, headers=headers),
        "/control/carrier",
    )

    assert (found["charged"], found["repeated"]) == (1, AT_ONCE - 1)


def test_a_msgid_is_one_message() -> None:
    order = {"msisdn": "+79001112233", "msgid": "m1", "text": "Sunny"}
    found = asked_at_once(
        SmsGateways,
        lambda client: client.post("/sms/a/messages", json=order),
        "/control/sms",
    )

    counts = found["gateways"]["a"]
    assert (counts["accepted"], counts["repeated"]) == (1, AT_ONCE - 1)
