"""What can be set for the whole simulated world: the period and the usual latencies."""

import re
from fnmatch import translate

from aiohttp import web

from simulator.json_http import (
    bad_request,
    json_answer,
    number,
    read_object,
    reject_unknown,
)

DEFAULT_PERIOD_SECONDS = 30 * 24 * 3600.0
LONGEST_PERIOD_SECONDS = 3660 * 24 * 3600.0
LONGEST_DELAY_SECONDS = 3600.0


class Settings:
    """The settings, with GET and PUT /control/settings."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Go back to periods of 30 days and no latency."""
        self.period_seconds = DEFAULT_PERIOD_SECONDS
        self._set_latencies({})

    def routes(self) -> list[web.RouteDef]:
        """Return the control routes."""
        return [
            web.get("/control/settings", self.show),
            web.put("/control/settings", self.change),
        ]

    def latency_seconds(self, path: str) -> float:
        """Return the usual latency of `path`; the first pattern that matches decides."""
        for pattern, seconds in self._latency_patterns:
            if pattern.match(path):
                return seconds
        return 0.0

    @property
    def has_latency(self) -> bool:
        """Whether any path has a latency."""
        return bool(self._latency_patterns)

    async def show(self, request: web.Request) -> web.Response:
        """Answer the settings."""
        return json_answer(
            {"period_seconds": self.period_seconds, "latency_seconds": self._latencies}
        )

    async def change(self, request: web.Request) -> web.Response:
        """Change the settings that are given and leave the others."""
        data = await read_object(request)
        reject_unknown(data, frozenset({"period_seconds", "latency_seconds"}))
        latencies = _checked_latencies(data.get("latency_seconds", self._latencies))
        period = data.get("period_seconds", self.period_seconds)
        self.period_seconds = number("period_seconds", period, 1, LONGEST_PERIOD_SECONDS)
        self._set_latencies(latencies)
        return await self.show(request)

    def _set_latencies(self, latencies: dict[str, float]) -> None:
        self._latencies = latencies
        self._latency_patterns = [
            (re.compile(translate(pattern)), seconds) for pattern, seconds in latencies.items()
        ]


def _checked_latencies(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise bad_request("latency_seconds is not an object of path pattern and seconds")
    return {
        pattern: number(f"latency_seconds of {pattern}", seconds, 0, LONGEST_DELAY_SECONDS)
        for pattern, seconds in value.items()
    }
