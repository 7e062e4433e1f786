"""An endpoint is given as many requests at once as it copes with, whoever sends them."""

import os
import subprocess
import sys

from flask import Flask
from flask.testing import FlaskClient

from project.callbacks.jobs import deliver_due_callbacks
from tests.callbacks.conftest import Happen, Shown
from tests.callbacks.receivers import Reply, receiving
from tests.callbacks.test_fairness import deliver_in_threads
from tests.conftest import ChangeSettings
from tests.factories import Factory
from tests.time_machine import Clock

SHORT_SECONDS = 0.05
LIMIT = 8


def test_a_new_endpoint_is_asked_once_then_ever_more_up_to_the_setting(
    happen: Happen, factory: Factory, change_settings: ChangeSettings
) -> None:
    change_settings(callback_endpoint_concurrency=LIMIT)
    with receiving(lambda _: Reply(seconds=SHORT_SECONDS)) as receiver:
        ids = happen(factory.app(receiver.url), times=300)
        deliver_due_callbacks()
        assert sorted(receiver.ids) == sorted(ids)
        assert receiver.arrived_at[1] - receiver.arrived_at[0] > SHORT_SECONDS * 0.9, "slowly first"
        assert receiver.most_in_flight == LIMIT


def test_the_limit_holds_over_several_pumps(
    app: Flask, happen: Happen, factory: Factory, change_settings: ChangeSettings
) -> None:
    change_settings(callback_endpoint_concurrency=5)
    with receiving(lambda _: Reply(seconds=0.02)) as receiver:
        made = factory.app(receiver.url)
        ids = happen(made, times=400)
        deliver_in_threads(app, threads=4)
        assert sorted(receiver.ids) == sorted(ids)
        assert receiver.most_in_flight == 5


def test_the_limit_holds_over_several_processes(happen: Happen, factory: Factory) -> None:
    environment = os.environ | {"CALLBACK_ENDPOINT_CONCURRENCY": str(LIMIT)}
    command = [sys.executable, "-m", "flask", "callbacks-run", "--inline"]
    with receiving(lambda _: Reply(seconds=SHORT_SECONDS)) as receiver:
        made = factory.app(receiver.url)
        ids = happen(made, times=1500)
        running = [subprocess.Popen(command, env=environment) for _ in range(2)]
        assert [process.wait(120) for process in running] == [0, 0]
        assert sorted(receiver.ids) == sorted(ids)
        assert LIMIT // 2 <= receiver.most_in_flight <= LIMIT


def test_with_a_limit_of_one_requests_go_one_after_another(
    app: Flask, happen: Happen, factory: Factory, change_settings: ChangeSettings
) -> None:
    change_settings(callback_endpoint_concurrency=1)
    with receiving(lambda _: Reply(seconds=0.01)) as receiver:
        happen(factory.app(receiver.url), times=60)
        deliver_in_threads(app, threads=3)
        assert (len(receiver.ids), receiver.most_in_flight) == (60, 1)


def test_one_that_is_overcharged_is_given_what_it_copes_with(
    happen: Happen, factory: Factory, clock: Clock
) -> None:
    """It refuses whatever comes while four are in flight: the refusals stay few."""
    with receiving(lambda in_flight: Reply(503 if in_flight > 4 else 200, 0.01)) as receiver:
        ids = happen(factory.app(receiver.url), times=600)
        deliver_due_callbacks()
        assert sorted(receiver.ids) == sorted(ids), "each has an hour till its next try"
        clock.advance(hours=1)
        refused = deliver_due_callbacks()
        assert 0 < refused < len(ids) / 4


def test_one_that_fails_is_asked_one_at_a_time(
    happen: Happen, factory: Factory, clock: Clock
) -> None:
    reply = Reply(seconds=SHORT_SECONDS)
    with receiving(lambda _: reply) as receiver:
        app = factory.app(receiver.url)
        happen(app, times=200)
        deliver_due_callbacks()
        assert receiver.most_in_flight > 8
        reply = Reply(500)
        happen(app, times=100)
        deliver_due_callbacks()
        receiver.forget()
        happen(app, times=30)
        deliver_due_callbacks()
        assert (len(receiver.ids), receiver.most_in_flight) == (30, 1)

        reply = Reply(seconds=SHORT_SECONDS)
        clock.advance(hours=1)
        deliver_due_callbacks()
        assert receiver.most_in_flight > 8, "it has recovered"


def test_one_that_is_slow_is_asked_one_at_a_time(
    happen: Happen, factory: Factory, change_settings: ChangeSettings
) -> None:
    change_settings(callback_timeout_seconds=2)
    with receiving(lambda _: Reply(seconds=0.5)) as receiver:
        happen(factory.app(receiver.url), times=6)
        deliver_due_callbacks()
        assert (len(receiver.ids), receiver.most_in_flight) == (6, 1)


def test_one_that_limits_is_left_alone_for_as_long_as_it_asks(
    happen: Happen, shown: Shown, operator: FlaskClient, factory: Factory, clock: Clock
) -> None:
    reply = Reply(429, headers={"Retry-After": "90"})
    with receiving(lambda _: reply) as receiver:
        ids = happen(factory.app(receiver.url), times=20)
        assert deliver_due_callbacks() == 1, "no other is sent into the same answer"
        reply = Reply(200)
        clock.advance(seconds=89)
        assert deliver_due_callbacks() == 0
        clock.advance(seconds=2)
        assert deliver_due_callbacks() == 19
        listed = operator.get("/api/callbacks?state=pending").get_json()["data"]
        assert [shown(callback["id"])["attempts"] for callback in listed] == [1]
        clock.advance(hours=1)
        assert deliver_due_callbacks() == 1
        assert set(receiver.ids) == set(ids)


def test_one_that_hangs_while_many_are_under_way_delays_nobody(
    happen: Happen, factory: Factory, change_settings: ChangeSettings
) -> None:
    """However wide its window was, it takes of a worker's room only what others do not need."""
    change_settings(callback_concurrency=12, callback_timeout_seconds=3)
    reply = Reply(seconds=0.02)
    with receiving(lambda _: reply) as hanging, receiving(lambda _: Reply()) as healthy:
        wide = factory.app(hanging.url)
        happen(wide, times=200)
        deliver_due_callbacks()
        assert hanging.most_in_flight >= 8
        reply = Reply(seconds=30)
        hanging.forget()
        happen(wide, times=100)
        happen(factory.app(healthy.url), times=50)
        deliver_due_callbacks()
        assert len(healthy.ids) == 50
        assert max(healthy.arrived_at) - min(hanging.arrived_at) < 2
        assert len(hanging.ids) <= 32
