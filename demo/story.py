"""What every chapter of the demo needs: calls, waiting, and failing loudly."""

import functools
import os
import time
import uuid
from collections.abc import Callable
from typing import Any

from flask import Flask
from rich.console import Console

from project.application import create_app
from simulator.client import Answer, SimulatorClient

WAIT_SECONDS = 60

console = Console(highlight=False)


class DemoFailed(Exception):
    """Something was not as the product promises."""


def require(condition: object, promise: str) -> None:
    """Raise DemoFailed unless the promise is kept."""
    if not condition:
        raise DemoFailed(promise)


def wait_for(promise: str, look: Callable[[], Any]) -> Any:
    """Look again and again until there is something; raise DemoFailed after a minute."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise DemoFailed(f"{promise} (waited {WAIT_SECONDS} s)")


@functools.cache
def _product() -> Flask:
    return create_app()


class Story:
    """The running copy, its simulator, and how they are called."""

    def __init__(self) -> None:
        port = os.environ.get("PORT", "8000")
        simulator_port = os.environ.get("SIMULATOR_PORT", "8900")
        self.api = SimulatorClient(f"http://127.0.0.1:{port}")
        self.simulator = SimulatorClient(f"http://127.0.0.1:{simulator_port}")
        self.operator = {"Authorization": f"Bearer {os.environ.get('API_KEY', '')}"}
        self.run_id = uuid.uuid4().hex[:8]

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        console.print(f"\n[bold]{title}[/]")

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        want: int,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Call the API, as the operator unless other headers are given; return the JSON."""
        answer: Answer = self.api.call(
            method, path, body, self.operator if headers is None else headers
        )
        require(
            answer.status == want,
            f"{method} {path} should answer {want}, but answered {answer.status}: "
            f"{answer.body.decode()}",
        )
        return answer.json()

    def flask(self, *command: str) -> None:
        """Run a command of the product, in this process to be quick, and show it."""
        product = _product()
        with product.app_context():
            done = product.test_cli_runner().invoke(args=command, catch_exceptions=False)
        shown = done.stdout.strip().replace("\n", "\n    ")
        console.print(f"  $ flask {' '.join(command)}\n    {shown}")
        require(done.exit_code == 0, f"flask {' '.join(command)} failed: {done.stderr}")
