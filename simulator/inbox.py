"""Inboxes that receive callbacks, and remember what came and how often."""

import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web
from multidict import CIMultiDictProxy

from simulator.clock import Clock
from simulator.json_http import JSON_HEADERS, bad_request, json_answer

KEPT_MESSAGES = 2_000
KEPT_IDS = 200_000
SHOWN_MESSAGES = 100
ID_HEADER = "webhook-id"

RECEIVED = b'{"ok": true}'


@dataclass(slots=True)
class Message:
    """One request that arrived, as raw as it came: most are never looked at."""

    arrived_at: float
    clock_offset_seconds: float
    path: str
    id: str | None
    raw_headers: CIMultiDictProxy[str]
    raw_body: bytes
    answered: int | None

    def shown(self) -> dict[str, object]:
        """Return the message as the control API shows it; header names in lower case."""
        received_at = datetime.fromtimestamp(self.arrived_at + self.clock_offset_seconds, UTC)
        return {
            "received_at": received_at.isoformat(),
            "arrived_at": self.arrived_at,
            "id": self.id,
            "path": self.path,
            "headers": {
                name.lower(): ", ".join(self.raw_headers.getall(name)) for name in self.raw_headers
            },
            "body": self.raw_body.decode("utf-8", "replace"),
            "answered": self.answered,
        }


class Inbox:
    """The messages under one name: exact counts, the last bodies, and each id's count."""

    def __init__(self) -> None:
        self.count = 0
        self.messages: deque[Message] = deque(maxlen=KEPT_MESSAGES)
        self.times_arrived: dict[str, int] = {}
        self.first_arrived_at: dict[str, float] = {}
        self.messages_with_uncounted_id = 0

    def add(self, message: Message) -> None:
        """Keep and count a message."""
        self.count += 1
        self.messages.append(message)
        if message.id is None:
            return
        if message.id in self.times_arrived:
            self.times_arrived[message.id] += 1
        elif len(self.times_arrived) < KEPT_IDS:
            self.times_arrived[message.id] = 1
            self.first_arrived_at[message.id] = message.arrived_at
        else:
            self.messages_with_uncounted_id += 1

    def counts(self) -> dict[str, object]:
        """Return how many messages and how many different ids came."""
        return {
            "count": self.count,
            "distinct_ids": len(self.times_arrived),
            "messages_with_uncounted_id": self.messages_with_uncounted_id,
        }


class Inboxes:
    """All inboxes, by name; a name exists from its first message on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._noted = web.RequestKey("noted", Message)
        self.reset()

    def reset(self) -> None:
        """Empty all inboxes."""
        self._inboxes: dict[str, Inbox] = {}

    def routes(self) -> list[web.RouteDef]:
        """Return the public and the control routes."""
        return [
            web.post("/inbox/{path:[^/].*}", self.receive),
            web.get("/control/inbox", self.show_counts),
            web.delete("/control/inbox", self.empty_all),
            web.get("/control/inbox/{name}", self.show),
            web.delete("/control/inbox/{name}", self.empty),
            web.get("/control/inbox/{name}/ids", self.show_ids),
            web.get("/control/inbox/{name}/arrivals", self.show_arrivals),
        ]

    async def receive(self, request: web.Request) -> web.Response:
        """Take a message."""
        if self._noted not in request:
            await self._add(request, answered=200)
        return web.Response(body=RECEIVED, headers=JSON_HEADERS)

    async def witness(self, request: web.Request) -> Message | None:
        """Note a message that may get a fault in place of an answer."""
        if request.method != "POST" or "path" not in request.match_info:
            return None
        if not request.path.startswith("/inbox/"):
            return None
        message = request[self._noted] = await self._add(request, answered=None)
        return message

    async def _add(self, request: web.Request, answered: int | None) -> Message:
        arrived_at = time.time()
        body = await request.read()
        offset_seconds = await self._clock.offset_seconds()
        headers = request.headers
        message = Message(
            arrived_at,
            offset_seconds,
            request.path,
            headers.get(ID_HEADER),
            headers,
            body,
            answered,
        )
        name = request.match_info["path"].partition("/")[0]
        inbox = self._inboxes.get(name)
        if inbox is None:
            inbox = self._inboxes[name] = Inbox()
        inbox.add(message)
        return message

    async def show_counts(self, request: web.Request) -> web.Response:
        """Answer the counts of all inboxes."""
        return json_answer({name: inbox.counts() for name, inbox in self._inboxes.items()})

    async def show(self, request: web.Request) -> web.Response:
        """Answer the counts of one inbox and its last messages, oldest first."""
        inbox = self._inbox(request)
        limit = _limit(request)
        messages = list(inbox.messages)[-limit:] if limit else []
        return json_answer(
            {**inbox.counts(), "messages": [message.shown() for message in messages]}
        )

    async def show_ids(self, request: web.Request) -> web.Response:
        """Answer how often each id arrived."""
        return json_answer(self._inbox(request).times_arrived)

    async def show_arrivals(self, request: web.Request) -> web.Response:
        """Answer when each id arrived first, in real epoch seconds."""
        return json_answer(self._inbox(request).first_arrived_at)

    async def empty(self, request: web.Request) -> web.Response:
        """Forget one inbox."""
        removed = self._inboxes.pop(request.match_info["name"], Inbox())
        return json_answer({"removed": removed.count})

    async def empty_all(self, request: web.Request) -> web.Response:
        """Forget all inboxes."""
        removed = sum(inbox.count for inbox in self._inboxes.values())
        self._inboxes.clear()
        return json_answer({"removed": removed})

    def _inbox(self, request: web.Request) -> Inbox:
        """Return the inbox that is asked for; one that got nothing yet is an empty one."""
        return self._inboxes.get(request.match_info["name"], Inbox())


def _limit(request: web.Request) -> int:
    given = request.query.get("limit", str(SHOWN_MESSAGES))
    if not given.isdecimal() or len(given) > 9:
        raise bad_request("limit is not a whole number")
    return int(given)
