"""All that the API, a worker or the scheduler needs, imported at once: no setting is read here."""

from importlib import import_module

from sqlalchemy.orm import configure_mappers

from project import application, background
from project.billing import jobs as billing_jobs
from project.callbacks import jobs as callback_jobs
from project.clicks import jobs as click_jobs
from project.clicks.exports import jobs as export_jobs
from project.commands import database, processes
from project.front import server
from project.mobile.purchases import jobs as purchase_jobs
from project.weather.imports import jobs as import_jobs
from project.weather.messages import jobs as message_jobs

SHARED = (application, background, database, processes, server)
JOBS = (
    billing_jobs,
    callback_jobs,
    click_jobs,
    export_jobs,
    purchase_jobs,
    import_jobs,
    message_jobs,
)
SOON_NEEDED = (
    "flask_limiter.commands",
    "flask_sqlalchemy.cli",
    "rich.progress",
    "rich.table",
    *processes.WORKERS_NEED,
)
"""Not imported with what is above, but by every process or every worker a moment later."""

for name in SOON_NEEDED:
    import_module(name)
configure_mappers()
