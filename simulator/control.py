"""Control over the simulated world as a whole: its health and its reset."""

from collections.abc import Sequence

from aiohttp import web

from simulator.json_http import System, json_answer


class Control:
    """Health and reset."""

    def __init__(self, systems: Sequence[System]) -> None:
        self._systems = systems

    def routes(self) -> list[web.RouteDef]:
        """Return the control routes."""
        return [
            web.get("/health", self.health),
            web.delete("/control", self.reset),
        ]

    async def health(self, request: web.Request) -> web.Response:
        """Answer that the simulator is up."""
        return json_answer({"status": "ok"})

    async def reset(self, request: web.Request) -> web.Response:
        """Bring every system back to how it was at the start."""
        for system in self._systems:
            system.reset()
        return json_answer({"status": "ok"})
