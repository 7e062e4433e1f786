"""kill -9 of the worker that reads a file, and an emptied Redis, in the middle of an import."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.faults.world import OPERATOR, busy, eventually
from tests.support.stack import Stack, running_stack

ROWS = 12_000
CHUNK = 200
IMPORTING = "run_due_tasks"
FORECASTS = "gid,lat,lon,fcat24,fcat48\n" + "".join(
    f"{gid},{40 + gid % 20},{30 + gid // 20},Sun,Rain\n" for gid in range(1, 400)
)
ADDITIONS = "ts,msisdn,original_sub_plan,lat,lon\n" + "".join(
    f"2026-01-31,+7916{at:07},{1 + at % 2},{40 + at % 20},{30 + at % 19}\n" for at in range(ROWS)
)
SETTINGS = {"LEASE_SLACK_SECONDS": "1", "IMPORT_CHUNK_ROWS": str(CHUNK)}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(workers=3, schedulers=1, restart=True, environment=SETTINGS) as running:
        yield running


def upload(stack: Stack, path: str, content: str) -> str:
    headers = OPERATOR | {"Content-Type": "text/csv"}
    answer = requests.post(f"{stack.api_url}{path}", content, headers=headers, timeout=15)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def task(stack: Stack, task_id: str) -> Any:
    url = f"{stack.api_url}/api/tasks/{task_id}"
    return requests.get(url, headers=OPERATOR, timeout=15).json()["data"]


def test_an_import_whose_worker_is_killed_goes_on_at_its_row(stack: Stack) -> None:
    forecasts = upload(stack, "/api/forecasts/upload_csv/", FORECASTS)
    eventually(
        lambda: task(stack, forecasts)["state"] == "success", within=60, what="forecasts are read"
    )
    task_id = upload(stack, "/api/subscribers/upload_additions_csv/", ADDITIONS)
    eventually(lambda: task(stack, task_id)["done"] >= 5 * CHUNK, within=60, what="progress")
    for worker in busy(stack, IMPORTING):
        worker.kill()
    with stack.redis as redis:
        redis.flushall()

    stopped = task(stack, task_id)
    assert stopped["done"] < ROWS, "it was over before the worker was killed"
    assert stopped["done"] % CHUNK == 0
    kept = stack.value("SELECT count(*) FROM subscribers")
    assert kept == stopped["done"] == stopped["created"]

    eventually(
        lambda: task(stack, task_id)["state"] == "success",
        within=180,
        every=0.5,
        what="the import is done",
    )

    ended = task(stack, task_id)
    assert (ended["done"], ended["total"], ended["created"]) == (ROWS, ROWS, ROWS)
    assert (ended["updated"], ended["skipped"], ended["failed"]) == (0, 0, 0)
    assert stack.value("SELECT count(*) FROM subscribers") == ROWS
    assert stack.value("SELECT count(*) FROM customers") == ROWS
    assert stack.value("SELECT count(*) FROM subscribers WHERE forecast_gid IS NULL") == 0
