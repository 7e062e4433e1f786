"""Jobs that read files and drop those that are done with."""

from project.core.db.transaction import transaction
from project.weather import tasks
from project.weather.imports import runner


def run_due_tasks() -> int:
    """Work through due tasks and return how many rows were looked at."""
    return runner.run_in_worker()


def drop_old_files() -> int:
    """Drop the files of tasks that ended some days ago and return of how many."""
    dropped = 0
    while True:
        with transaction():
            some = tasks.drop_old_files()
        dropped += some
        if not some:
            return dropped
