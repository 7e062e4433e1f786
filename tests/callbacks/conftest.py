"""What happens to an app in these tests, and how its callbacks look to an operator."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from project.callbacks import queries
from project.callbacks.service import NewEvent, emit
from project.core import clock
from project.core.db.transaction import transaction
from tests.factories import MadeApp

Happen = Callable[..., list[str]]
Shown = Callable[..., dict[str, Any]]


@pytest.fixture
def happen() -> Happen:
    """Let something happen, so many times, that an app is to hear of; return the event ids."""
    numbers = itertools.count(1)

    def happened(app: MadeApp, times: int = 1) -> list[str]:
        with transaction() as session:
            endpoint_id = session.scalars(queries.endpoint_ids_of_app(app.id)).one()
            now = clock.now()
            events = [
                NewEvent("renewed", "purchase", number, {"appID": app.id}, now, endpoint_id)
                for number in itertools.islice(numbers, times)
            ]
            return [str(event_id) for event_id in emit(events)]

    return happened


@pytest.fixture
def shown(operator: FlaskClient) -> Shown:
    """Show a callback with its attempts; the only one there is, if none is named."""

    def show(callback_id: int | None = None) -> dict[str, Any]:
        if callback_id is None:
            listed = operator.get("/api/callbacks").get_json()["data"]
            assert len(listed) == 1
            callback_id = listed[0]["id"]
        answer = operator.get(f"/api/callbacks/{callback_id}")
        assert answer.status_code == 200
        callback: dict[str, Any] = answer.get_json()["data"]
        return callback

    return show
