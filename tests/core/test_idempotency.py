"""Idempotency-Key: the first answer again for 24 hours, then forgotten."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select

from project.core.db.models import IdempotencyKey
from project.core.db.transaction import transaction
from project.core.http.idempotency import KEPT_FOR, forget_old_keys
from project.extensions import db
from tests.core.conftest import InThreads
from tests.factories import Factory, MadeApp
from tests.time_machine import Clock


def rotate(operator: FlaskClient, app: MadeApp, key: str) -> str:
    answer = operator.post(f"/api/apps/{app.id}/secret", headers={"Idempotency-Key": key})
    assert answer.status_code == 201
    secret: str = answer.get_json()["data"]["callback_secret"]
    return secret


def kept() -> int:
    with transaction():
        return db.session.scalar(select(func.count(IdempotencyKey.id))) or 0


def test_old_keys_are_forgotten_and_young_ones_kept(
    operator: FlaskClient, factory: Factory, clock: Clock
) -> None:
    app = factory.app()
    rotate(operator, app, "old")
    clock.advance(hours=23)
    young = rotate(operator, app, "young")
    clock.advance(hours=1, seconds=5)
    assert kept() == 2

    assert forget_old_keys() == 1
    assert forget_old_keys() == 0

    assert kept() == 1
    assert rotate(operator, app, "young") == young


def test_a_key_holds_for_24_hours_though_nobody_cleans_up(
    operator: FlaskClient, factory: Factory, clock: Clock
) -> None:
    app = factory.app()
    first = rotate(operator, app, "key")
    clock.advance(seconds=(KEPT_FOR - timedelta(minutes=1)).total_seconds())
    assert rotate(operator, app, "key") == first

    clock.advance(minutes=2)

    assert rotate(operator, app, "key") != first
    assert kept() == 1


def test_two_forgetting_at_once_do_not_disturb_each_other(
    operator: FlaskClient, factory: Factory, clock: Clock, in_threads: InThreads
) -> None:
    app = factory.app()
    for number in range(20):
        rotate(operator, app, f"key-{number}")
    clock.advance(hours=25)

    assert sum(in_threads(forget_old_keys, forget_old_keys, forget_old_keys)) == 20


def test_the_answer_is_not_kept_in_clear(operator: FlaskClient, factory: Factory) -> None:
    secret = rotate(operator, factory.app(), "key")

    with transaction():
        (row,) = db.session.scalars(select(IdempotencyKey)).all()

    assert row.answer
    assert secret.encode() not in row.answer


def test_the_same_key_of_another_device_is_another_key(
    client: FlaskClient, factory: Factory
) -> None:
    app = factory.app()
    one, other = factory.device(app), factory.device(factory.app())
    receipt = factory.receipt()

    def buy(token: str) -> int:
        headers = {"X-Client-Token": token, "Idempotency-Key": "the-same"}
        return client.post("/api/purchase", json={"receipt": receipt}, headers=headers).status_code

    assert buy(one.token) == 200
    assert buy(one.token) == 200
    assert buy(other.token) == 409


@pytest.mark.parametrize("key", ["", "with space", "x" * 256, "é"])
def test_keys_that_cannot_be_used(operator: FlaskClient, factory: Factory, key: str) -> None:
    app = factory.app()

    answer = operator.post(f"/api/apps/{app.id}/secret", headers={"Idempotency-Key": key})

    assert answer.status_code == 400
    assert kept() == 0
