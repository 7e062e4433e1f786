"""The worker and the scheduler as commands."""

from importlib import import_module

import click
from flask import current_app

from project.commands.waiting import wait_for_services
from project.config.environment import get_settings
from project.config.kernel import WorkSettings
from project.core.work import scheduler, worker
from project.core.work.queues import QueueName, queue_names
from project.schedule import schedule

WORKERS_NEED = ("phonenumbers", "yookassa.domain.request", "yookassa.domain.response")
"""Imported at the start: at first use, on the event loop of a worker, all would wait for it."""


@click.command("worker")
@click.argument("queues", nargs=-1)
@click.option("--burst", is_flag=True, help="End when the queues are empty.")
def run_worker(queues: tuple[str, ...], burst: bool) -> None:
    """Take jobs from the QUEUES, in their order (high, medium, default)."""
    known = queue_names()
    unknown = sorted(set(queues) - set(known))
    if unknown:
        raise click.ClickException(f"No such queue: {', '.join(unknown)}. There are {known}.")
    for name in WORKERS_NEED:
        import_module(name)
    wait_for_services()
    taken = list(queues) or known
    if QueueName.DEFAULT in taken:
        # Also a queue that clicks have to themselves, which no configuration file names.
        taken = list(dict.fromkeys([*taken, get_settings(WorkSettings).clicks_queue_name]))
    worker.run_worker(current_app._get_current_object(), taken, burst=burst)  # type: ignore[attr-defined]


@click.command("scheduler")
def run_scheduler() -> None:
    """Queue periodic work at its time; more than one may run, one acts."""
    wait_for_services()
    scheduler.new_scheduler(schedule()).run()
