"""Tasks that are interrupted: by the clock, by trouble, by a worker that lost its claim."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from project.core.db.transaction import transaction
from project.core.work import pump
from project.weather import tasks
from project.weather.imports import runner
from project.weather.models import Task
from project.weather.tasks import ClaimLostError
from tests.conftest import ChangeSettings
from tests.time_machine import Clock
from tests.weather.world import (
    ADDITIONS,
    MOSCOW,
    Operator,
    addition,
    counts,
    everything,
    lines,
)

ROWS = 20
NUMBERS = [f"+7916{at:07}" for at in range(ROWS)]
CONTENT = lines(ADDITIONS, *(addition(number) for number in NUMBERS))


class TroubleError(Exception):
    """Something that goes wrong in the middle."""


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have a step fail, after it has changed its rows, when so many steps were taken."""

    def fail_after(steps: int) -> None:
        left = [steps]
        record = tasks.record_step

        def record_or_fail(*args: Any, **kwargs: Any) -> None:
            record(*args, **kwargs)
            if left[0] == 0:
                raise TroubleError
            left[0] -= 1

        monkeypatch.setattr(tasks, "record_step", record_or_fail)

    return fail_after


@pytest.fixture(autouse=True)
def small_chunks(change_settings: ChangeSettings) -> None:
    change_settings(import_chunk_rows=3)


def uploaded(desk: Operator, content: str = CONTENT) -> str:
    answer = desk.upload("additions", content)
    assert answer.status_code == 202
    return str(answer.json["task_id"])


def assert_all_taken_once(desk: Operator, task_id: str) -> None:
    task = desk.task(task_id)
    assert task["state"] == "success"
    assert counts(task) == (ROWS, 0, 0, 0)
    assert (task["done"], task["total"]) == (ROWS, ROWS)
    assert [one["msisdn"] for one in everything()] == NUMBERS


def test_after_trouble_it_goes_on_at_the_row_where_it_was(
    desk: Operator,
    clock: Clock,
    trouble: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task_id = uploaded(desk)
    trouble(2)
    runner.run()

    interrupted = desk.task(task_id)
    assert (interrupted["state"], interrupted["done"]) == ("started", 6)
    assert len(everything()) == 6
    runner.run()
    assert desk.task(task_id)["done"] == 6

    monkeypatch.undo()
    clock.advance(minutes=5)
    runner.run()

    assert_all_taken_once(desk, task_id)


def test_trouble_that_stays_ends_it_after_max_task_retry_and_resume_finishes_it(
    desk: Operator,
    clock: Clock,
    trouble: Callable[[int], None],
    change_settings: ChangeSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change_settings(task_max_retries=2)
    task_id = uploaded(desk)
    trouble(0)
    for tries in range(1, 4):
        assert desk.task(task_id)["state"] != "failure", tries
        runner.run()
        clock.advance(hours=1)

    failed = desk.task(task_id)
    assert failed["state"] == "failure"
    assert "TroubleError" in failed["error"]
    assert everything() == []
    runner.run()
    assert desk.task(task_id)["state"] == "failure"

    monkeypatch.undo()
    assert desk.client.post(f"/api/tasks/{task_id}/resume").status_code == 202
    runner.run()

    assert_all_taken_once(desk, task_id)


def test_when_the_time_is_up_the_rest_is_left_to_another_go(desk: Operator) -> None:
    task_id = uploaded(desk)
    goes = 0
    while desk.task(task_id)["state"] != "success":
        with transaction():
            claimed = tasks.claim_next()
        assert claimed is not None
        runner._run_safely(runner._Run(*claimed, ends_at=0.0, on_progress=lambda count: None))
        goes += 1
        assert goes < 20

    assert goes > ROWS // 3
    assert_all_taken_once(desk, task_id)


def test_a_process_that_is_asked_to_end_stops_after_the_chunk(desk: Operator) -> None:
    task_id = uploaded(desk)
    pump.stopping.set()
    with transaction():
        claimed = tasks.claim_next()
    assert claimed is not None
    runner._run_safely(runner._Run(*claimed, ends_at=None, on_progress=lambda count: None))
    assert desk.task(task_id)["done"] == 3

    pump.stopping.clear()
    runner.run()

    assert_all_taken_once(desk, task_id)


def test_who_lost_the_claim_writes_nothing_more(desk: Operator) -> None:
    task_id = uploaded(desk)
    with transaction():
        slow = tasks.claim_next()
    assert slow is not None
    with transaction() as session:
        session.execute(update(Task).values(claimed_until=None, claim_id=None))
    runner.run()
    assert_all_taken_once(desk, task_id)

    with pytest.raises(ClaimLostError), transaction():
        tasks.hold(UUID(task_id), slow[1])
    runner._run_safely(runner._Run(*slow, ends_at=None, on_progress=lambda count: None))
    assert_all_taken_once(desk, task_id)


def test_a_task_that_is_canceled_under_way_stops(
    desk: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = uploaded(desk)
    steps: list[int] = []

    def cancel_then(count: int) -> None:
        if count:
            steps.append(count)
        if len(steps) == 2 and desk.task(task_id)["state"] == "started":
            assert desk.client.post(f"/api/tasks/{task_id}/cancel").status_code == 200

    runner.run(on_progress=cancel_then)

    task = desk.task(task_id)
    assert (task["state"], task["done"]) == ("canceled", 6)
    assert [one["msisdn"] for one in everything()] == NUMBERS[:6]

    desk.client.post(f"/api/tasks/{task_id}/resume")
    runner.run()
    assert_all_taken_once(desk, task_id)


def test_forecasts_that_move_under_way_are_looked_at_again(desk: Operator) -> None:
    desk.forecast(1, (56.0, 37.0))
    runner.run()
    task_id = uploaded(desk)
    steps: list[int] = []

    def make_a_nearer_one(count: int) -> None:
        steps.append(count)
        if len(steps) == 4:
            desk.forecast(2, MOSCOW)

    runner.run(on_progress=make_a_nearer_one)

    assert_all_taken_once(desk, task_id)
    assert {one["forecast_gid"] for one in everything()} == {2}


def test_a_job_does_what_is_due_and_tells_how_much(desk: Operator) -> None:
    uploaded(desk)

    assert runner.run_in_worker() == ROWS
    assert runner.run_in_worker() == 0
