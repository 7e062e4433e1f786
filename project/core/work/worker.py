"""The RQ worker of the product: it builds the application once and runs jobs in its process."""

import gc
from types import FrameType
from typing import Any

from flask import Flask
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.worker_registration import REDIS_WORKER_KEYS

from project.config.environment import get_settings
from project.config.kernel import StorageSettings, WorkSettings
from project.core.work import pump
from project.core.work.queues import JOB_TIMEOUT_SECONDS

HEARTBEAT_SECONDS = 45


class AppWorker(SimpleWorker):
    """Runs each job in an application context; survives an emptied Redis; ends gracefully."""

    app: Flask
    max_connection_wait_time = 5.0
    """How many seconds pass, at most, before it asks again for a Redis that went away."""

    def perform_job(self, job: Job, queue: Queue) -> bool:
        """Run the job with the application at hand."""
        with self.app.app_context():
            return bool(super().perform_job(job, queue))

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Tell Redis that this worker lives, and enrol again if Redis has forgotten it."""
        super().heartbeat(timeout, pipeline)
        if not self.connection.sismember(REDIS_WORKER_KEYS, self.key):
            self.connection.delete(self.key)
            self.register_birth()  # type: ignore[no-untyped-call]

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Finish what is under way and claim nothing more."""
        pump.stopping.set()
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]


def run_worker(app: Flask, queue_names: list[str], *, burst: bool = False) -> None:
    """Take jobs from the queues, in their order, until told to stop or recycled."""
    connection = Redis.from_url(
        get_settings(StorageSettings).redis_url,
        retry=Retry(ExponentialBackoff(cap=2), 3),
        socket_timeout=60,
    )
    queues = [
        Queue(name, connection=connection, default_timeout=JOB_TIMEOUT_SECONDS)
        for name in queue_names
    ]
    worker = AppWorker(queues, connection=connection, worker_ttl=HEARTBEAT_SECONDS)
    worker.app = app
    # What is loaded by now stays: without it, each collection of the many small things that a job
    # makes would look through all of it again.
    gc.collect()
    gc.freeze()
    worker.work(
        burst=burst, max_jobs=get_settings(WorkSettings).worker_max_jobs, logging_level="WARNING"
    )
