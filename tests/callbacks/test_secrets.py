"""Signing secrets are rotated as often as one likes: each signs along for a day."""

from typing import Any

from flask.testing import FlaskClient
from standardwebhooks import Webhook, WebhookVerificationError

from project.callbacks.jobs import deliver_due_callbacks
from project.callbacks.models import MAX_FORMER_SECRETS
from simulator.client import SimulatorClient
from tests.callbacks.conftest import Happen
from tests.factories import Factory, MadeApp
from tests.time_machine import Clock


def rotate(operator: FlaskClient, app: MadeApp) -> str:
    answer = operator.post(f"/api/apps/{app.id}/secret")
    return str(answer.get_json()["data"]["callback_secret"])


def verifies(secret: str, message: dict[str, Any]) -> bool:
    try:
        Webhook(secret).verify(message["body"], message["headers"])
    except WebhookVerificationError:
        return False
    return True


def newest_message(happen: Happen, simulator: SimulatorClient, app: MadeApp) -> dict[str, Any]:
    happen(app)
    deliver_due_callbacks()
    messages: list[dict[str, Any]] = simulator.inbox(app.inbox)["messages"]
    return max(messages, key=lambda message: message["arrived_at"])


def test_each_former_secret_signs_along_for_its_own_day(
    happen: Happen,
    factory: Factory,
    simulator: SimulatorClient,
    operator: FlaskClient,
    clock: Clock,
) -> None:
    app = factory.app()
    secrets = [app.secret]
    for _ in range(3):
        clock.advance(hours=8)
        secrets.append(rotate(operator, app))

    def valid() -> list[bool]:
        message = newest_message(happen, simulator, app)
        return [verifies(secret, message) for secret in secrets]

    assert valid() == [True] * 4
    clock.advance(hours=8, minutes=1)
    assert valid() == [False, True, True, True]
    clock.advance(hours=8)
    assert valid() == [False, False, True, True]
    clock.advance(hours=8)
    assert valid() == [False, False, False, True]


def test_a_doubled_rotation_leaves_the_secret_that_is_in_use_valid(
    happen: Happen, factory: Factory, simulator: SimulatorClient, operator: FlaskClient
) -> None:
    app = factory.app()
    newer = [rotate(operator, app) for _ in range(2)]

    message = newest_message(happen, simulator, app)

    assert all(verifies(secret, message) for secret in (app.secret, *newer))


def test_rotating_without_end_makes_no_header_without_end(
    happen: Happen, factory: Factory, simulator: SimulatorClient, operator: FlaskClient
) -> None:
    app = factory.app()
    secrets = [rotate(operator, app) for _ in range(MAX_FORMER_SECRETS + 5)]

    message = newest_message(happen, simulator, app)

    in_force = secrets[-1 - MAX_FORMER_SECRETS :]
    assert [secret for secret in secrets if verifies(secret, message)] == in_force
    assert len(message["headers"]["webhook-signature"].split()) == len(in_force)
