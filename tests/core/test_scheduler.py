"""The schedule: one list, kept in agreement with Redis, and run through when the clock moves."""

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from rq.job import Job
from rq.utils import import_attribute

from project.core.db.transaction import transaction
from project.core.work import probes, scheduler
from project.core.work.queues import QueueName, rq_queue
from project.core.work.scheduler import (
    AppScheduler,
    Periodic,
    last_time,
    new_scheduler,
    reconcile,
    run_between,
)
from project.extensions import redis_client
from project.schedule import schedule
from tests.core import things as things_of_tests
from tests.core.commands import run_flask, running_flask, wait_until
from tests.core.conftest import InThreads
from tests.core.things import Things, oldest_thing_due_at
from tests.factories import Factory
from tests.time_machine import Clock

FIRST = "tests.core.things.note_first"
SECOND = "tests.core.things.note_second"
SCHEDULED_KEY = AppScheduler.scheduled_jobs_key
START = datetime(2026, 3, 1, 11, 59, 30, tzinfo=UTC)


def hourly(name: str = "hourly", job: str = FIRST, cron: str = "0 * * * *") -> Periodic:
    return Periodic(name, job, cron, QueueName.MEDIUM)


def scheduled() -> dict[str, datetime]:
    """Return what stands in Redis: the id of each job and when it is to run."""
    entries = redis_client().zrange(SCHEDULED_KEY, 0, -1, withscores=True)
    return {job_id.decode(): datetime.fromtimestamp(score, UTC) for job_id, score in entries}


def make_due(entry: Periodic) -> None:
    redis_client().zadd(SCHEDULED_KEY, {entry.job_id: time.time() - 10})


@pytest.fixture
def noted() -> Iterator[list[tuple[str, datetime]]]:
    """What the periodic jobs of `things` did."""
    things_of_tests.ran.clear()
    yield things_of_tests.ran
    things_of_tests.ran.clear()


@pytest.fixture
def watched_things(things: Things) -> Iterator[Things]:
    """Things that health and the schedule look at."""
    probes.watch(probes.DueProbe("things", oldest_thing_due_at))
    yield things
    del probes._probes["things"]


@pytest.mark.parametrize(
    ("now", "last"),
    [
        ("2026-03-01T03:16:59.999999+00:00", "2026-02-28T03:17:00+00:00"),
        ("2026-03-01T03:17:00+00:00", "2026-03-01T03:17:00+00:00"),
        ("2026-03-01T03:17:00.500000+00:00", "2026-03-01T03:17:00+00:00"),
        ("2026-03-01T03:17:01+00:00", "2026-03-01T03:17:00+00:00"),
        ("2026-03-01T05:17:00+02:00", "2026-03-01T03:17:00+00:00"),
        ("2026-03-02T00:00:00+00:00", "2026-03-01T03:17:00+00:00"),
    ],
)
def test_the_last_time_of_a_cron_is_now_or_earlier(now: str, last: str) -> None:
    found = last_time("17 3 * * *", datetime.fromisoformat(now))

    assert found == datetime.fromisoformat(last)


@pytest.mark.usefixtures("app")
class TestReconcile:
    def test_new_entries_are_written_with_their_next_time_in_utc(self) -> None:
        daily = Periodic("daily", FIRST, "17 3 * * *", QueueName.DEFAULT)

        assert reconcile(new_scheduler([]), [hourly(), daily]) == (2, 0)

        now = datetime.now(UTC)
        assert set(scheduled()) == {"periodic-hourly", "periodic-daily"}
        assert scheduled()["periodic-hourly"] == hourly().next_time(now)
        assert scheduled()["periodic-daily"] == daily.next_time(now)
        job = Job.fetch("periodic-daily", redis_client())
        assert (job.func_name, job.origin) == (FIRST, "default")

    def test_again_it_has_nothing_to_do(self) -> None:
        reconcile(new_scheduler([]), [hourly()])
        before = scheduled()

        assert reconcile(new_scheduler([]), [hourly()]) == (0, 0)

        assert scheduled() == before

    @pytest.mark.parametrize(
        "changed",
        [
            hourly(cron="30 * * * *"),
            hourly(job=SECOND),
            Periodic("hourly", FIRST, "0 * * * *", QueueName.HIGH),
            Periodic("hourly", FIRST, "0 * * * *", QueueName.MEDIUM, timeout_seconds=900),
        ],
        ids=["cron", "job", "queue", "timeout"],
    )
    def test_a_changed_entry_takes_the_place_of_the_old_one(self, changed: Periodic) -> None:
        reconcile(new_scheduler([]), [hourly()])

        assert reconcile(new_scheduler([]), [changed]) == (1, 0)

        assert scheduled() == {changed.job_id: changed.next_time(datetime.now(UTC))}
        job = Job.fetch(changed.job_id, redis_client())
        assert (job.func_name, job.origin) == (changed.job, changed.queue)
        assert job.timeout == changed.timeout_seconds

    def test_entries_that_are_gone_from_the_list_are_removed(self) -> None:
        reconcile(new_scheduler([]), [hourly("stays"), hourly("goes")])

        assert reconcile(new_scheduler([]), [hourly("stays")]) == (0, 1)

        assert set(scheduled()) == {"periodic-stays"}

    def test_what_others_have_scheduled_is_left_alone(self) -> None:
        new_scheduler([]).enqueue_in(timedelta(hours=1), FIRST, job_id="somebody-elses")

        reconcile(new_scheduler([]), [])

        assert set(scheduled()) == {"somebody-elses"}

    def test_a_lost_job_record_is_written_anew(self) -> None:
        reconcile(new_scheduler([]), [hourly()])
        redis_client().delete("rq:job:periodic-hourly")

        assert reconcile(new_scheduler([]), [hourly()]) == (1, 0)

        assert Job.exists("periodic-hourly", redis_client())

    def test_two_at_once_double_nothing(self, in_threads: InThreads) -> None:
        entries = [hourly(f"entry-{number}") for number in range(10)]

        in_threads(*[lambda: reconcile(new_scheduler([]), entries)] * 4)

        assert set(scheduled()) == {entry.job_id for entry in entries}
        assert reconcile(new_scheduler([]), entries) == (0, 0)


@pytest.mark.usefixtures("app")
class TestTick:
    def test_what_is_due_is_queued_and_scheduled_for_its_next_time(self) -> None:
        entry = hourly()
        ticking = new_scheduler([entry])
        ticking.enqueue_jobs()
        assert len(rq_queue(entry.queue)) == 0
        make_due(entry)

        ticking.enqueue_jobs()
        ticking.enqueue_jobs()

        assert [job.func_name for job in rq_queue(entry.queue).jobs] == [FIRST]
        assert scheduled() == {entry.job_id: entry.next_time(datetime.now(UTC))}

    def test_an_emptied_redis_is_refilled(self) -> None:
        ticking = new_scheduler([hourly()])
        ticking.enqueue_jobs()
        redis_client().flushall()

        ticking.enqueue_jobs()

        assert set(scheduled()) == {"periodic-hourly"}

    def test_two_schedulers_queue_a_due_entry_once(self) -> None:
        daily = next(entry for entry in schedule() if entry.name == "forget-idempotency-keys")
        reconcile(new_scheduler([]), schedule())
        make_due(daily)

        with running_flask("scheduler") as one, running_flask("scheduler") as other:
            wait_until(lambda: len(redis_client().keys("rq:scheduler_instance:*")) == 2)
            wait_until(lambda: scheduled()[daily.job_id] > datetime.now(UTC))
            time.sleep(0.3)
            for process in (one, other):
                process.send_signal(signal.SIGTERM)
            assert [process.wait(timeout=10) for process in (one, other)] == [0, 0]

        # Entries of every minute may have come due besides: the schedulers run on the real clock.
        assert rq_queue(daily.queue).job_ids.count(daily.job_id) == 1
        assert set(scheduled()) == {entry.job_id for entry in schedule()}

    def test_a_queued_entry_is_done_by_a_worker_and_stays_scheduled(self) -> None:
        ticking = new_scheduler(schedule())
        ticking.enqueue_jobs()
        for entry in schedule():
            make_due(entry)
        ticking.enqueue_jobs()

        assert run_flask("worker", "--burst").returncode == 0

        assert [len(rq_queue(queue)) for queue in QueueName] == [0, 0, 0]
        assert reconcile(new_scheduler([]), schedule()) == (0, 0)
        for entry in schedule():
            assert Job.fetch(entry.job_id, redis_client()).is_finished


class TestRunBetween:
    def test_every_entry_runs_at_its_times_in_their_order(
        self, clock: Clock, noted: list[tuple[str, datetime]]
    ) -> None:
        entries = [hourly("a", FIRST, "0 */2 * * *"), hourly("b", SECOND, "30 13 * * *")]
        end = START + timedelta(hours=5)

        ran = run_between(entries, START, end)

        assert ran == {"a": 3, "b": 1}
        assert [(name, moment.strftime("%H:%M")) for name, moment in noted] == [
            ("first", "12:00"),
            ("second", "13:30"),
            ("first", "14:00"),
            ("first", "16:00"),
        ]
        assert timedelta() <= clock.now() - end < timedelta(minutes=5)

    def test_entries_of_the_same_moment_run_in_the_order_of_the_list(
        self, clock: Clock, noted: list[tuple[str, datetime]]
    ) -> None:
        entries = [hourly("b", SECOND), hourly("a", FIRST)]

        run_between(entries, START, START + timedelta(hours=2))

        assert [name for name, _ in noted] == ["second", "first"] * 2

    def test_the_end_is_included_and_the_start_is_not(
        self, clock: Clock, noted: list[tuple[str, datetime]]
    ) -> None:
        noon = datetime(2026, 3, 1, 12, tzinfo=UTC)

        assert run_between([hourly()], noon, noon + timedelta(hours=1)) == {"hourly": 1}

    def test_minutes_in_which_nothing_is_due_are_skipped(
        self, clock: Clock, watched_things: Things, noted: list[tuple[str, datetime]]
    ) -> None:
        sweep = Periodic(
            "sweep", "tests.core.things.finish_things", "* * * * *", QueueName.HIGH, "things"
        )
        clock.set_to(START)
        watched_things.add("soon", due_at=START + timedelta(days=10, seconds=5))
        watched_things.add("later", due_at=START + timedelta(days=200))
        watched_things.add("after", due_at=START + timedelta(days=366))

        ran = run_between([sweep], START, START + timedelta(days=365))

        assert ran == {"sweep": 2}
        assert watched_things.names_with("done") == ["later", "soon"]
        assert noted[0][1] - (START + timedelta(days=10)) < timedelta(minutes=2)

    def test_time_never_goes_back_for_what_turns_out_to_be_long_overdue(
        self, clock: Clock, watched_things: Things, noted: list[tuple[str, datetime]]
    ) -> None:
        yearly = Periodic(
            "yearly", "tests.core.things.add_overdue_thing", "0 0 1 6 *", QueueName.HIGH
        )
        sweep = Periodic(
            "sweep", "tests.core.things.finish_things", "* * * * *", QueueName.HIGH, "things"
        )
        clock.set_to(START)

        run_between([yearly, sweep], START, START + timedelta(days=200))

        assert [name for name, _ in noted] == ["adds", "finishes"]
        moments = [moment for _, moment in noted]
        assert moments == sorted(moments)

    def test_months_of_a_customers_life_pass_with_the_real_schedule(
        self, app: Flask, factory: Factory, clock: Clock
    ) -> None:
        purchase = factory.purchase()
        start = clock.now()

        ran = run_between(schedule(), start, start + timedelta(days=65))

        assert ran["purchase-run"] == 2
        assert ran["callbacks-run"] >= 3
        assert ran["forget-idempotency-keys"] == 65
        renewed = factory.reloaded(purchase.id)
        assert renewed.expire_date is not None
        assert renewed.expire_date > start + timedelta(days=89)


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("* * * * *", "2026-01-31T23:59:00+00:00", "2026-02-01T00:00:00+00:00"),
        ("* * * * *", "2026-01-31T23:59:59.9+00:00", "2026-02-01T00:00:00+00:00"),
        ("17 3 * * *", "2026-01-31T03:17:00+00:00", "2026-02-01T03:17:00+00:00"),
        ("0 0 29 2 *", "2026-01-31T00:00:00+00:00", "2028-02-29T00:00:00+00:00"),
        ("0 12 * * *", "2026-01-31T12:30:00+02:00", "2026-01-31T12:00:00+00:00"),
    ],
)
def test_the_next_time_of_an_entry(cron: str, after: str, expected: str) -> None:
    found = hourly(cron=cron).next_time(datetime.fromisoformat(after))

    assert found.isoformat() == expected


def test_the_ids_of_the_schedule_are_unique_and_its_jobs_can_be_run_twice(app: Flask) -> None:
    assert len({entry.job_id for entry in schedule()}) == len(schedule())
    for entry in schedule():
        entry.run()
        entry.run()
        assert callable(import_attribute(entry.job))
    with transaction():
        assert all(probe.oldest_due_at() is None for probe in probes.due_probes())
    assert scheduler.TICK_SECONDS < 60
