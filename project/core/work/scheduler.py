"""Periodic work: the scheduler keeps Redis in agreement with one list of entries."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from croniter import croniter
from redis import Redis
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.utils import import_attribute
from rq_scheduler import Scheduler

from project.config.environment import get_settings
from project.config.kernel import StorageSettings
from project.core import clock
from project.core.db.transaction import transaction
from project.core.work.probes import due_probes
from project.core.work.queues import FAILURE_TTL_SECONDS, JOB_TIMEOUT_SECONDS, QueueName

log = structlog.get_logger()

# rq-scheduler's use of `crontab` warns about local time; every process here runs with TZ=UTC.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"rq_scheduler\.")

ID_PREFIX = "periodic-"
TICK_SECONDS = 5
ONE_SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Periodic:
    """An entry of the schedule; `due_probe` names the kind of due rows that a sweep looks for."""

    name: str
    job: str
    cron: str
    queue: str
    due_probe: str | None = None
    timeout_seconds: int = JOB_TIMEOUT_SECONDS

    @property
    def job_id(self) -> str:
        """Return the fixed id under which the entry stands in Redis."""
        return ID_PREFIX + self.name

    def next_time(self, after: datetime) -> datetime:
        """Return the first moment after the given one at which the entry is to run."""
        found: datetime = croniter(self.cron, after.astimezone(UTC)).get_next(datetime)
        return found

    def run(self) -> None:
        """Run the job here."""
        import_attribute(self.job)()


def last_time(cron: str, now: datetime) -> datetime:
    """Return the last moment, now or earlier, at which something of this cron was to run."""
    # A cron's times are whole seconds, and `get_prev` looks before the one it is given.
    second = now.astimezone(UTC).replace(microsecond=0)
    found: datetime = croniter(cron, second + ONE_SECOND).get_prev(datetime)
    return found


class AppScheduler(Scheduler):  # type: ignore[misc]
    """rq-scheduler, which reconciles its entries at every tick: an emptied Redis is refilled."""

    entries: Sequence[Periodic] = ()

    def enqueue_jobs(self) -> list[Job]:
        """Bring the entries up to date, then queue those whose time has come."""
        reconcile(self, self.entries)
        jobs: list[Job] = super().enqueue_jobs()
        return jobs


def new_scheduler(entries: Sequence[Periodic]) -> AppScheduler:
    """Return a scheduler of these entries; any number of them may run, one at a time acts."""
    connection = Redis.from_url(get_settings(StorageSettings).redis_url, socket_timeout=10)
    scheduler = AppScheduler(
        queue_name=QueueName.DEFAULT, connection=connection, interval=TICK_SECONDS
    )
    scheduler.entries = entries
    return scheduler


def reconcile(scheduler: Scheduler, entries: Sequence[Periodic]) -> tuple[int, int]:
    """Add new entries, replace changed ones, remove those gone; return (written, removed)."""
    wanted = {entry.job_id: entry for entry in entries}
    scheduled = {
        job_id.decode()
        for job_id in scheduler.connection.zrange(scheduler.scheduled_jobs_key, 0, -1)
    }
    gone = {job_id for job_id in scheduled if job_id.startswith(ID_PREFIX)} - wanted.keys()
    for job_id in gone:
        scheduler.cancel(job_id)
    missing = [
        entry
        for job_id, entry in wanted.items()
        if job_id not in scheduled or not _stands(scheduler, entry)
    ]
    for entry in missing:
        _write(scheduler, entry)
    if gone or missing:
        log.info("schedule.reconciled", written=len(missing), removed=len(gone))
    return len(missing), len(gone)


def _stands(scheduler: Scheduler, entry: Periodic) -> bool:
    try:
        job = Job.fetch(entry.job_id, connection=scheduler.connection)
    except NoSuchJobError:
        return False
    same_work = job.func_name == entry.job and job.origin == entry.queue
    same_work = same_work and job.timeout == entry.timeout_seconds
    return same_work and job.meta.get("cron_string") == entry.cron


def _write(scheduler: Scheduler, entry: Periodic) -> None:
    scheduler.cancel(entry.job_id)
    job = scheduler.cron(
        entry.cron,
        func=entry.job,
        id=entry.job_id,
        queue_name=str(entry.queue),
        timeout=entry.timeout_seconds,
        description=entry.name,
    )
    job.failure_ttl = FAILURE_TTL_SECONDS
    job.save()


def run_between(
    entries: Sequence[Periodic],
    start: datetime,
    end: datetime,
) -> Counter[str]:
    """Move the test clock from start to end, running each entry at its time; count the runs.

    A sweep over due rows is run only at ticks at which something is due, so that a year of
    minutes is not walked through one by one.
    """
    ran: Counter[str] = Counter()
    reached = start
    while True:
        due = _due_times(entries)
        upcoming = [(_next_run(entry, reached, due), entry) for entry in entries]
        moments = [(moment, entry) for moment, entry in upcoming if moment and moment <= end]
        if not moments:
            break
        reached = min(moment for moment, _ in moments)
        clock.set_to(reached)
        for moment, entry in moments:
            if moment == reached:
                entry.run()
                ran[entry.name] += 1
    clock.set_to(end)
    return ran


def _due_times(entries: Sequence[Periodic]) -> dict[str, datetime | None]:
    """Return when what the entries sweep was or will be due."""
    wanted = {entry.due_probe for entry in entries}
    with transaction(read_only=True):
        return {probe.name: probe.oldest_due_at() for probe in due_probes() if probe.name in wanted}


def _next_run(
    entry: Periodic, after: datetime, due: Mapping[str, datetime | None]
) -> datetime | None:
    tick = entry.next_time(after)
    if entry.due_probe is None:
        return tick
    due_at = due[entry.due_probe]
    if due_at is None:
        return None
    return tick if due_at <= tick else entry.next_time(due_at)
