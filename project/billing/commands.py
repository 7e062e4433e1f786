"""The commands of billing; each is also a periodic job, and safe to run twice at once."""

from datetime import timedelta
from typing import Any

import click

from project.billing import installation, queries
from project.billing.payments.charging import Autopayment
from project.billing.payments.inquiry import ExpiringInquiry, PendingInquiry
from project.billing.reconciliation import matching
from project.billing.reconciliation.restore import read_books
from project.billing.settings import BillingSettings
from project.billing.subscriptions.service import expire_some
from project.config.environment import get_settings
from project.core import clock
from project.core.commands import COUNT_AT_MOST, progress_bar, run_due
from project.core.db.transaction import transaction
from project.core.errors import AppError
from project.core.work.queues import QueueName, Wakeup, wake

INLINE = click.option("--inline", is_flag=True, help="Do it here, with a progress bar.")


@click.command("autopayments-run")
@INLINE
def autopayments_run(inline: bool) -> None:
    """Charge every subscription whose period ends today or has ended."""
    if inline:
        read_books()
    run_due(Autopayment(), lambda: _count(queries.subscriptions), "subscriptions", inline=inline)


@click.command("expire-subscriptions-run")
@INLINE
def expire_subscriptions_run(inline: bool) -> None:
    """Expire subscriptions that ended three days ago and were not paid."""
    if not inline:
        _wake_job("expire-subscriptions", "expire_subscriptions")
        return
    expired = 0
    with progress_bar("subscriptions", None) as advance:
        while True:
            with transaction():
                some = expire_some()
            if some == 0:
                break
            expired += some
            advance(some)
    click.echo(f"{expired} subscriptions expired.")


@click.command("expire-payments-run")
@INLINE
def expire_payments_run(inline: bool) -> None:
    """Ask once more after payments that were pending too long, and expire them."""
    work = ExpiringInquiry()
    run_due(work, work.count_due, "payments", inline=inline)


@click.command("match-pending-payments-run")
@INLINE
def match_pending_run(inline: bool) -> None:
    """Ask the provider after pending payments."""
    run_due(PendingInquiry(), lambda: _count(queries.payments), "payments", inline=inline)


@click.command("match-successful-payments-run")
@INLINE
def match_successful_run(inline: bool) -> None:
    """Record what succeeded at the provider in the last hour and is missing here."""
    if not inline:
        _wake_job("match-successful-payments", "match_successful")
        return
    _reconcile(timedelta(seconds=get_settings(BillingSettings).reconcile_window_seconds))


@click.command("reconcile")
@click.option("--since", default="1h", show_default=True, help="How far back, such as 30d.")
def reconcile(since: str) -> None:
    """Compare the provider's books with ours over a longer time; each difference is a case."""
    try:
        _reconcile(clock.parse_duration(since))
    except AppError as error:
        raise click.ClickException(error.detail) from error


@click.group("charges")
def charges() -> None:
    """Hold and release charges, before and after work on the database."""


@charges.command("hold")
@click.option("--reason", default="held by an operator", show_default=True)
def hold_charges(reason: str) -> None:
    """Charge nobody until `flask charges release`; what is under way is still asked after."""
    with transaction():
        installation.hold_charges(reason)
    click.echo("Nobody is charged until `flask charges release`.")


@charges.command("release")
@click.option("--since", default="7d", show_default=True, help="How far back the books are read.")
def release_charges(since: str) -> None:
    """Read the providers' books, record what is missing here, then charge again."""
    try:
        with transaction():
            held = installation.hold()
        window = clock.parse_duration(since)
        if held is not None and held.unread_from is not None:
            window = max(window, clock.now() - held.unread_from)
        _reconcile(window)
    except AppError as error:
        raise click.ClickException(error.detail) from error
    with transaction():
        installation.release_charges()
    click.echo("Charges go on.")


@charges.command("show")
def show_charges() -> None:
    """Say whether charges are held, and why."""
    with transaction():
        held = installation.hold()
    click.echo(f"Held since {held.since:%F %T}: {held.reason}." if held else "Charges go on.")


def _reconcile(window: timedelta) -> None:
    end = clock.now()
    report, unread = matching.reconcile_all(end - window, end)
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(report.cases.items()))
    click.echo(f"{report.read} payments read; cases: {found or 'none'}.")
    if report.failed:
        click.echo(f"{report.failed} could not be compared; the log says why.", err=True)
    if unread:
        why = "; ".join(f"{name}: {reason}" for name, reason in unread.items())
        raise click.ClickException(f"The provider's books could not be read: {why}")


def _count(table: Any) -> int:
    return queries.count_due(table, at_most=COUNT_AT_MOST)


def _wake_job(name: str, job: str) -> None:
    wakeup = Wakeup(name, QueueName.MEDIUM, f"project.billing.jobs.{job}")
    with transaction():
        wake(wakeup)
    click.echo("The workers have been woken.")
