"""The application: every simulated system under one set of faults."""

from aiohttp import web

from simulator.carrier import Carrier
from simulator.clock import Clock
from simulator.control import Control
from simulator.faults import Faults
from simulator.finance import Finance, take_large_exports
from simulator.inbox import Inboxes
from simulator.json_http import System, json_errors
from simulator.settings import Settings
from simulator.sms import SmsGateways
from simulator.stores import Stores
from simulator.yookassa.api import YooKassa

LARGEST_REQUEST_BYTES = 1024 * 1024


def create_app(clock_url: str | None = None) -> web.Application:
    """Build the simulated world; it asks `clock_url` for the time if that is given."""
    clock = Clock(clock_url)
    settings = Settings()
    inboxes = Inboxes(clock)
    faults = Faults(settings, witness=inboxes.witness)
    yookassa = YooKassa(clock)
    sms, stores, finance = SmsGateways(clock), Stores(clock, settings), Finance()
    carrier = Carrier(clock)
    systems: list[System] = [settings, faults, inboxes, stores, yookassa, finance, carrier, sms]

    app = web.Application(
        middlewares=[take_large_exports, faults.middleware, json_errors],
        client_max_size=LARGEST_REQUEST_BYTES,
    )
    for system in systems:
        app.add_routes(system.routes())
    app.add_routes(Control(systems).routes())

    async def close_clock(_: web.Application) -> None:
        await clock.close()

    app.on_cleanup.append(close_clock)
    app.on_cleanup.append(yookassa.close)
    app.on_cleanup.append(sms.close)
    return app
