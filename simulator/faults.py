"""Faults on demand, for every simulated system: errors, delays, dropped connections."""

import asyncio
import itertools
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from fnmatch import translate
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware
from multidict import CIMultiDict

from simulator.fault_orders import FaultOrder, fault_body, parse_fault_order
from simulator.json_http import Handler, error_answer, json_answer, not_found, read_object
from simulator.settings import Settings

NEVER_FAULTY = ("/control", "/health")


class Arrival(Protocol):
    """A request that was noted when it came, before anything was answered."""

    answered: int | None


# Notes a request as arrived, whatever it will be answered; None where nothing is noted.
Witness = Callable[[web.Request], Awaitable[Arrival | None]]


class Fault:
    """A fault that waits for its requests."""

    def __init__(self, fault_id: int, order: FaultOrder) -> None:
        self.id = fault_id
        self.order = order
        self.hits = 0
        self._pattern = re.compile(translate(order.match))
        self._random = random.Random(order.seed)
        self._body, self._content_type = fault_body(order)

    @property
    def used_up(self) -> bool:
        """Whether it was applied as often as it was asked for."""
        return self.order.times is not None and self.hits >= self.order.times

    def strikes(self, path: str) -> bool:
        """Decide whether this request for `path` gets the fault."""
        if not self._pattern.match(path):
            return False
        return self.order.rate >= 1 or self._random.random() < self.order.rate

    def answer(self) -> web.Response:
        """Return the answer that takes the place of the work."""
        headers = CIMultiDict({"Content-Type": self._content_type})
        return web.Response(
            status=self.order.status or 200, headers=headers, body=self._body or None
        )

    def shown(self) -> dict[str, object]:
        """Return the fault as the control API shows it."""
        return {"id": self.id, **asdict(self.order), "hits": self.hits, "used_up": self.used_up}


class Faults:
    """The faults in force, their control API, and the middleware that applies them."""

    def __init__(self, settings: Settings, witness: Witness) -> None:
        self._settings = settings
        self._witness = witness
        self.reset()

    def reset(self) -> None:
        """Remove all faults."""
        self._ids = itertools.count(1)
        self._all: dict[int, Fault] = {}
        self._waiting: list[Fault] = []

    def routes(self) -> list[web.RouteDef]:
        """Return the control routes."""
        return [
            web.post("/control/faults", self.add),
            web.get("/control/faults", self.show),
            web.delete("/control/faults", self.remove_all),
            web.delete(r"/control/faults/{id:[0-9]{1,9}}", self.remove),
        ]

    async def add(self, request: web.Request) -> web.Response:
        """Add a fault behind the others."""
        order = parse_fault_order(await read_object(request))
        fault = Fault(next(self._ids), order)
        self._all[fault.id] = fault
        self._waiting.append(fault)
        return json_answer({"id": fault.id}, status=201)

    async def show(self, request: web.Request) -> web.Response:
        """Answer all faults, also those used up, with how often each hit."""
        return json_answer({"faults": [fault.shown() for fault in self._all.values()]})

    async def remove(self, request: web.Request) -> web.Response:
        """Remove one fault."""
        fault = self._all.pop(int(request.match_info["id"]), None)
        if fault is None:
            raise not_found("no such fault")
        if not fault.used_up:
            self._waiting.remove(fault)
        return json_answer({"removed": 1})

    async def remove_all(self, request: web.Request) -> web.Response:
        """Remove all faults; their ids are not given again."""
        removed = len(self._all)
        self._all.clear()
        self._waiting.clear()
        return json_answer({"removed": removed})

    @property
    def middleware(self) -> Middleware:
        """The middleware; while no fault or latency is set it only calls the handler."""

        @web.middleware
        async def apply_faults(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not self._waiting and not self._settings.has_latency:
                return await handler(request)
            if request.path in NEVER_FAULTY or request.path.startswith("/control/"):
                return await handler(request)
            return await self._serve(request, handler)

        return apply_faults

    async def _serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        latency_seconds = self._settings.latency_seconds(request.path)
        fault = self._take(request.path)
        if fault is None:
            return await self._work(request, handler, latency_seconds)
        if fault.order.drop == "before":
            await asyncio.sleep(latency_seconds + fault.order.delay_seconds)
            return _hang_up(request)
        return await self._work(request, handler, latency_seconds, fault)

    def _take(self, path: str) -> Fault | None:
        """Return the first fault that strikes, counted."""
        for fault in self._waiting:
            if fault.strikes(path):
                fault.hits += 1
                if fault.used_up:
                    self._waiting.remove(fault)
                return fault
        return None

    async def _work(
        self,
        request: web.Request,
        handler: Handler,
        delay_seconds: float,
        fault: Fault | None = None,
    ) -> web.StreamResponse:
        try:
            arrival = await self._witness(request)
            # With the whole request here, a caller who does not wait stops no work.
            await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            return error_answer(error)
        if fault is not None:
            delay_seconds += fault.order.delay_seconds
        if delay_seconds > 0:
            await asyncio.sleep(delay_seconds)
        replaced = fault is not None and fault.order.replaces_work
        answer = fault.answer() if fault and replaced else await handler(request)
        if fault is not None:
            answer.headers.update(fault.order.headers)
            if fault.order.drop == "after":
                return _hang_up(request)
        if arrival is not None:
            arrival.answered = answer.status
        return answer


def _hang_up(request: web.Request) -> web.Response:
    """Close the connection; the response that aiohttp wants back is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
