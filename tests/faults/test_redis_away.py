"""Redis is down: the API goes on answering and recording, and nothing has to be told again."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from tests.faults.world import (
    Api,
    MadeApp,
    assert_books_agree,
    assert_each_callback_was_delivered,
    eventually,
    make_apps,
    seed_devices,
    stays,
    undelivered,
)
from tests.support.stack import Stack, running_stack

DEVICES = 40
ANSWER_SECONDS = 5
ALLOWED_SECONDS = 120
SETTINGS = {"CALLBACK_RETRY_SECONDS": "5"}


@dataclass(frozen=True)
class Copy:
    """A copy that runs under a supervisor, with an app and its devices."""

    stack: Stack
    apps: Sequence[MadeApp]


@pytest.fixture(scope="module")
def copy() -> Iterator[Copy]:
    with running_stack(workers=2, restart=True, environment=SETTINGS) as stack:
        apps = make_apps(stack, 2)
        seed_devices(stack, apps, DEVICES)
        yield Copy(stack, apps)


def test_api_records_while_redis_is_away_and_callbacks_go_out_when_it_is_back(copy: Copy) -> None:
    stack, api = copy.stack, Api(copy.stack)
    stack.valkey.stop()
    began = time.monotonic()
    for device in range(1, DEVICES + 1):
        answer = api.buy(device, f"bought-{device}-x1")
        assert (answer.status, answer.json()["state"]) == (200, "active")
        assert api.check(device).json()["active"] is True
    registered = api.post(
        "/api/devices/register",
        {"uid": "new", "appId": copy.apps[0].id, "language": "en", "os": "ios"},
    )
    assert registered.status == 200
    made = api.post(
        "/api/apps",
        {"name": "new", "endpoint": f"{stack.simulator.base_url}/inbox/new"},
        operator=True,
    )
    assert made.status == 201
    health = api.get("/api/health")
    assert (health.status, health.json()["status"]) == (200, "degraded")
    assert time.monotonic() - began < 2 * DEVICES * ANSWER_SECONDS
    assert stack.value("SELECT count(*) FROM callbacks") == DEVICES
    scheduler = stack.schedulers[0]
    eventually(lambda: scheduler.starts == 2, within=30, what="the scheduler notices")
    # Who starts without a Redis waits for it, or the supervisor would give it up.
    stays(lambda: scheduler.starts == 2, seconds=6)

    stack.valkey.start()
    eventually(lambda: undelivered(stack) == 0, within=ALLOWED_SECONDS, what="delivered")
    assert_books_agree(stack)
    assert_each_callback_was_delivered(stack, copy.apps)
    eventually(
        lambda: api.get("/api/health").json()["status"] == "ok", within=60, what="all is well"
    )
