"""What the tests of clicks share: a sender that signs, and what was counted."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from project.clicks.drain import Drained, drain_batch
from project.clicks.intake import inbox, rate_limit, signatures
from project.core import clock
from project.extensions import db
from simulator.client import SimulatorClient
from tests.clicks.finance import NOON
from tests.clicks.records import Clicks
from tests.time_machine import Clock

SECRET = "a-webhook-secret-for-tests"
WEBHOOK = "/api/webhook/clicks"
BATCH = "/api/webhook/clicks/batch"


@dataclass(frozen=True)
class Sender:
    """Sends clicks as a tracker does: signed over the raw body."""

    client: FlaskClient
    secret: str = SECRET

    def click(self, click_id: str = "click-1", **changes: Any) -> dict[str, Any]:
        """Return a good click, with changes; None takes a field away."""
        made = {
            "click_id": click_id,
            "offer_id": 7,
            "source": "google",
            "timestamp": (clock.now() - timedelta(minutes=1)).isoformat(),
            "signature": "abc",
            **changes,
        }
        return {name: value for name, value in made.items() if value is not None}

    def send(
        self,
        data: Any,
        *,
        path: str = WEBHOOK,
        secret: str | None = None,
        headers: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> Any:
        """POST the data (bytes as they are) with its signature."""
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        signed = {signatures.HEADER: signatures.signature_of(secret or self.secret, body)}
        return self.client.post(
            path,
            data=body,
            headers={"Content-Type": "application/json", **signed, **(headers or {})},
            environ_base={"REMOTE_ADDR": address},
        )

    def send_batch(self, clicks: Any, **options: Any) -> Any:
        """POST a batch."""
        return self.send({"clicks": clicks}, path=BATCH, **options)


@pytest.fixture(autouse=True)
def _fresh_intake(app: Flask, change_settings: Callable[..., None]) -> Iterator[None]:
    """Forget what this process remembers of senders between requests."""
    change_settings(click_webhook_secrets=(SECRET,))
    signatures.own_secrets.forget()
    inbox.backlog.forget()
    rate_limit.allowance = rate_limit.Allowance()
    yield
    signatures.own_secrets.forget()
    inbox.backlog.forget()


@pytest.fixture
def sender(client: FlaskClient) -> Sender:
    """A sender that knows the common secret."""
    return Sender(client)


@pytest.fixture
def clicks(app: Flask) -> Clicks:
    """Clicks that are counted already, and their sums."""
    return Clicks()


@pytest.fixture
def noon(clock: Clock, simulator: SimulatorClient) -> None:
    """It is noon on the day after the one that is exported."""
    clock.set_to(NOON)


def drain() -> Drained:
    """Count everything that waits."""
    done = Drained()
    while (drained := drain_batch()).taken:
        done += drained
    return done


def counted() -> list[tuple[Any, ...]]:
    """Return the sums: (day, offer_id, source, clicks)."""
    rows = db.session.execute(
        text("SELECT day::text, offer_id, source, clicks FROM clicks_daily ORDER BY 1, 2, 3")
    ).all()
    db.session.rollback()
    return [tuple(row) for row in rows]


def value(query: str, **parameters: Any) -> Any:
    """Return the one value of a query."""
    found = db.session.scalar(text(query), parameters)
    db.session.rollback()
    return found
