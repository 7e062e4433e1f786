"""Speaks to a running simulator, for tests and benchmarks; standard library only."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: any status, 4xx and 5xx too."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        """Hand the 3xx answer over as it is."""


class SimulatorClient:
    """Requests to the simulator at `base_url`, each on a connection of its own."""

    def __init__(self, base_url: str, timeout_seconds: float = 10.0) -> None:
        self.base_url = base_url
        self._timeout_seconds = timeout_seconds
        # No proxy from the environment: the simulator is always near.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)

    def call(
        self,
        method: str,
        path: str,
        data: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send `data` (bytes as they are, else as JSON); OSError when no answer comes."""
        body = data if data is None or isinstance(data, bytes) else json.dumps(data).encode()
        request = urllib.request.Request(  # noqa: S310
            self.base_url + path,
            data=body,
            method=method,
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        try:
            with self._opener.open(request, timeout=self._timeout_seconds) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def control(self, method: str, path: str, data: object = None) -> Any:
        """Call /control + `path` and return its JSON; ValueError when it is refused."""
        answer = self.call(method, f"/control{path}", data)
        if answer.status >= 400:
            raise ValueError(f"{method} /control{path}: {answer.body.decode()}")
        return answer.json()

    def add_fault(self, match: str, **order: object) -> int:
        """Add a fault and return its id."""
        fault_id: int = self.control("POST", "/faults", {"match": match, **order})["id"]
        return fault_id

    def inbox(self, name: str, limit: int = 100) -> Any:
        """Return the counts and the last messages of an inbox."""
        return self.control("GET", f"/inbox/{name}?limit={limit}")

    def reset(self) -> None:
        """Bring the simulator back to how it was at the start."""
        self.control("DELETE", "")
