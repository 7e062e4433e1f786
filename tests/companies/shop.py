"""A shop that uses the API as a company, and what an operator does around it."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from simulator.client import SimulatorClient

START = datetime(2027, 1, 31, 10, tzinfo=UTC)
END = datetime(2027, 2, 28, 12, tzinfo=UTC)
NEXT_END = datetime(2027, 3, 31, 12, tzinfo=UTC)
"""On the days on which the first and the second period of a package end, two hours after it."""
PASSWORD = "a quiet loom in spring"

Run = Callable[..., str]


def registration(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Return the body with which a shop registers; None leaves a field out."""
    usual = {
        "site_url": f"https://shop-{number}.example.com",
        "name": "Ada",
        "lastname": "Byron",
        "company_name": f"Byron Looms {number}",
        "email": f"ada@shop-{number}.example.com",
        "password": PASSWORD,
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def day(written: str) -> date:
    """Return the day of a moment as the API writes it."""
    return datetime.fromisoformat(written).date()


class Shop:
    """A registered company with its token; its saved card is scripted at the simulator."""

    def __init__(self, app: Flask, simulator: SimulatorClient, number: int, **changes: Any) -> None:
        self._client = app.test_client()
        self._simulator = simulator
        self.inbox = f"shop-{number}"
        body = registration(number, **changes)
        answer = self._client.post("/api/companies/register", json=body)
        assert answer.status_code == 201, answer.get_json()
        told = answer.get_json()
        self.id: int = told["company_id"]
        self.token: str = told["token"]
        self.secret: str | None = told.get("callback_secret")
        self.email: str = body["email"]

    def call(self, method: str, path: str, **options: Any) -> TestResponse:
        """Call the companies' API with the token: `path` is what follows /api/companies."""
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return self._client.open(f"/api/companies{path}", method=method, headers=headers, **options)

    def get(self, path: str) -> Any:
        """Return what a path shows."""
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.get_json()
        return answer.get_json()

    def log_in(self, password: str = PASSWORD) -> None:
        """Log in and go on with the new token."""
        body = {"email": self.email, "password": password}
        answer = self._client.post("/api/companies/login", json=body)
        assert answer.status_code == 200, answer.get_json()
        self.token = answer.get_json()["token"]

    def take(self, package_id: int) -> dict[str, Any]:
        """Take a package."""
        answer = self.call("POST", "/packages", json={"package_id": package_id})
        assert answer.status_code == 201, answer.get_json()
        taken: dict[str, Any] = answer.get_json()
        return taken

    def pay(self, **options: Any) -> TestResponse:
        """Pay what is owed."""
        return self.call("POST", "/packages/pay", json={}, **options)

    def card(self, *outcomes: str, then: str = "succeeded") -> None:
        """Say what the shop's bank answers from now on."""
        order = {"outcomes": list(outcomes), "then": then}
        self._simulator.control("PUT", f"/yookassa/methods/development-{self.id}", order)

    def messages(self) -> list[dict[str, Any]]:
        """Return what has arrived at the shop's endpoint, oldest first."""
        found: list[dict[str, Any]] = self._simulator.inbox(self.inbox)["messages"]
        return found
