"""The pump: claim, call, record, until nothing is left; no one holds up the others."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from project.core.db.transaction import transaction
from project.core.work import pump
from project.core.work.queues import rq_queue
from project.extensions import redis_client
from tests.conftest import ChangeSettings
from tests.core.things import THINGS_DUE, Errands, Things


def queued_wakeups() -> list[str]:
    return [job.func_name for job in rq_queue(THINGS_DUE.queue).jobs]


@pytest.fixture(autouse=True)
def _goes_on_afterwards() -> Iterator[None]:
    yield
    pump.stopping.clear()


def test_it_works_until_nothing_is_due(things: Things) -> None:
    things.add_many(35)
    progress: list[int] = []

    done = pump.run(Errands(), on_progress=progress.append)

    assert done == sum(progress) == 35
    assert len(things.names_with("done")) == 35


def test_it_does_nothing_where_nothing_is_due(things: Things) -> None:
    things.add("later", due=False)
    errands = Errands()

    assert pump.run(errands) == 0
    assert errands.claims == 1


def test_it_stops_at_the_limit_and_leaves_the_rest_unclaimed(things: Things) -> None:
    things.add_many(30)

    assert pump.run(Errands(capacity=4), limit=11) == 11

    assert len(things.names_with("done")) == 11
    assert len(things.claim().rows) == 19


def test_it_stops_when_the_time_is_up_though_more_is_due(things: Things) -> None:
    things.add("evergreen")
    errands = Errands(again=True, seconds=lambda _: 0.02)
    started = time.monotonic()

    done = pump.run(errands, seconds=0.3)

    assert 0.25 < time.monotonic() - started < 10
    assert done == errands.calls["evergreen"] > 1


def test_told_to_stop_it_finishes_what_is_under_way_and_claims_nothing_more(
    things: Things,
) -> None:
    things.add_many(20)
    errands = Errands(capacity=4, seconds=lambda _: 0.05, on_call=lambda _: pump.stopping.set())

    done = pump.run(errands)

    assert done == len(things.names_with("done")) == 4
    assert len(things.claim().rows) == 16


def test_never_more_is_under_way_than_there_is_room_for(things: Things) -> None:
    things.add_many(40)
    errands = Errands(capacity=8, armful=3, seconds=lambda _: 0.01)

    assert pump.run(errands) == 40
    assert errands.most_under_way <= 8


def test_calls_are_made_at_once(things: Things) -> None:
    things.add_many(20)
    started = time.monotonic()

    pump.run(Errands(capacity=20, seconds=lambda _: 0.2))

    assert time.monotonic() - started < 3


def test_a_call_that_breaks_stops_no_other_and_keeps_its_claim(
    things: Things, logs: list[dict[str, Any]]
) -> None:
    things.add("bad", "good", "better")

    done = pump.run(Errands(fails=lambda name: name == "bad"))

    assert done == 2
    assert things.names_with("done") == ["better", "good"]
    assert things.row("bad").claim_id is not None
    assert [entry["event"] for entry in logs] == ["pump.call_failed"]


def test_a_result_that_cannot_be_recorded_takes_none_of_the_others_with_it(
    things: Things, logs: list[dict[str, Any]]
) -> None:
    things.add("a", "b", "bad", "c", "d")

    done = pump.run(Errands(unrecordable=lambda name: name == "bad"))

    assert done == 4
    assert things.names_with("done") == ["a", "b", "c", "d"]
    assert things.row("bad").claim_id is not None
    assert {entry["event"] for entry in logs} == {"pump.record_failed"}


def test_a_slow_call_delays_neither_the_others_nor_their_results(things: Things) -> None:
    things.add("slow", *(f"quick-{number}" for number in range(30)))
    errands = Errands(capacity=4)
    errands.until = lambda name: name != "slow" or len(errands.recorded_at) == 30

    assert pump.run(errands) == 31
    assert len(errands.recorded_at) == 31


def test_while_a_call_is_slow_what_becomes_due_is_found(things: Things, app: Flask) -> None:
    things.add("slow")

    def add_another(name: str) -> None:
        if name == "slow":
            with app.app_context():
                things.add("new")

    errands = Errands(on_call=add_another)
    errands.until = lambda name: name != "slow" or "new" in errands.recorded_at

    assert pump.run(errands) == 2
    assert set(errands.recorded_at) == {"slow", "new"}


def test_in_a_lull_it_does_not_ask_the_database_at_every_result(things: Things) -> None:
    things.add_many(30)
    errands = Errands(capacity=50, seconds=lambda name: 0.02 * int(name.split("-")[1]))

    assert pump.run(errands) == 30

    assert errands.claims <= 10


def test_more_than_it_has_room_for_is_said_once_per_full_load(things: Things) -> None:
    things.add_many(9)
    plenty: list[str] = []

    pump.run(Errands(capacity=4), on_plenty=lambda: plenty.append("more"))

    assert len(plenty) == 2


def test_a_full_load_wakes_another_worker(things: Things) -> None:
    things.add_many(8)

    assert pump.run_in_worker(Errands(capacity=4)) == 8

    assert queued_wakeups() == [THINGS_DUE.job]


def test_a_light_load_wakes_nobody(things: Things) -> None:
    things.add_many(3)

    assert pump.run_in_worker(Errands(capacity=4)) == 3

    assert queued_wakeups() == []


def test_a_job_whose_time_is_up_wakes_the_next(
    things: Things, change_settings: ChangeSettings
) -> None:
    change_settings(pump_seconds=0)
    things.add("thing")

    assert pump.run_in_worker(Errands()) == 0

    assert queued_wakeups() == [THINGS_DUE.job]


def test_at_most_half_of_the_workers_do_one_kind(
    app: Flask, change_settings: ChangeSettings
) -> None:
    change_settings(workers=4)

    def places_in_a_row(held: int = 0) -> int:
        with pump.place(THINGS_DUE) as keep:
            return held if keep is None else places_in_a_row(held + 1)

    assert places_in_a_row() == 2


def test_a_job_that_finds_every_place_taken_leaves_the_work_to_those_at_it(
    things: Things,
) -> None:
    things.add("thing")
    errands = Errands()

    with pump.place(THINGS_DUE) as keep:
        assert keep is not None
        assert pump.run_in_worker(errands) == 0
    assert errands.claims == 0

    assert pump.run_in_worker(errands) == 1


def test_a_place_is_given_up_when_the_job_breaks(things: Things) -> None:
    class Broken(Errands):
        def claim(self, limit: int) -> Any:
            raise RuntimeError("the claim breaks")

    with pytest.raises(RuntimeError, match="the claim breaks"):
        pump.run_in_worker(Broken())
    things.add("thing")

    assert pump.run_in_worker(Errands()) == 1


def test_the_place_of_a_worker_that_died_is_free_again_soon(app: Flask) -> None:
    with pump.place(THINGS_DUE):
        lifetimes = [redis_client().ttl(key) for key in redis_client().keys("place:*")]

    assert lifetimes
    assert all(0 < seconds <= pump.SLOT_SECONDS for seconds in lifetimes)


def test_work_is_recorded_though_redis_is_emptied_meanwhile(things: Things) -> None:
    things.add_many(6)
    errands = Errands(capacity=2, on_call=lambda _: redis_client().flushall())

    assert pump.run_in_worker(errands) == 6
    with transaction():
        assert not errands.is_anything_due()
