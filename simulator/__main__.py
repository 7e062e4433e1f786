"""Runs the simulator: python -m simulator --port 8900."""

import argparse
import asyncio
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from aiohttp import web

from simulator.app import create_app

# aiohttp waits this long twice: for requests to end, and then for them to be cancelled.
STOP_SECONDS = 0.4
BACKLOG = 1024
LAST_PORT = 65535


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    options = _parser().parse_args(arguments)
    app = create_app(options.clock_url or None)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(_serve(app, options.host, options.port))
        except OSError as error:
            address = f"{options.host}:{options.port}"
            print(f"simulator: cannot listen on {address}: {_reason(error)}", file=sys.stderr)
            return 1
    return 0


async def _serve(app: web.Application, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
        _spare_the_collector()
        bound_host, bound_port, *_ = runner.addresses[0]
        print(f"simulator: listening on http://{bound_host}:{bound_port}", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def _spare_the_collector() -> None:
    # Nothing that a request makes needs the cycle collector in a hurry, and a full
    # collection over all the messages and receipts kept would stop every answer.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory where it is installed; it is faster, but not needed."""
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module(
            "uvloop"
        ).new_event_loop
    except ImportError:
        return None
    return factory


def _reason(error: OSError) -> str:
    """Return why an address cannot be used; asyncio wraps the plain reason in a long one."""
    known = not isinstance(error, socket.gaierror) and error.errno
    return os.strerror(known).lower() if known else str(error.strerror or error).lower()


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port between 0 and {LAST_PORT}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulator", description="The outside world as one small HTTP server."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port",
        type=_port,
        default=os.environ.get("SIMULATOR_PORT", "8900"),
        help="port to listen on, 0 for any free one (SIMULATOR_PORT or 8900)",
    )
    parser.add_argument(
        "--clock-url",
        default=os.environ.get("CLOCK_URL", ""),
        help="where to ask for the time; without one it is the real time (CLOCK_URL)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
