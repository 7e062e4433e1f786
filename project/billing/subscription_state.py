"""What a customer has now and what is booked behind it, found out when it is asked.

A subscription's row knows the last period that was paid for or given, and `ended_at`, its end.
Money comes before the period that it pays for, so which period runs is read from
`subscription_periods` by the clock: it begins without anybody having to write anything.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Row,
    Table,
    and_,
    case,
    func,
    literal,
    literal_column,
    select,
    true,
)

from project.billing.models import Subscription, SubscriptionPeriod
from project.billing.states import SubscriptionState
from project.extensions import db

periods: Table = SubscriptionPeriod.__table__  # type: ignore[assignment]
subscriptions: Table = Subscription.__table__  # type: ignore[assignment]

ENDING = (SubscriptionState.CANCELED, SubscriptionState.PAST_DUE)
Moment = datetime | ColumnElement[datetime]


def is_over(subscription: Subscription, now: datetime) -> bool:
    """Tell whether access has ended: nothing more will be charged, and the last period is over."""
    is_ending = subscription.state in ENDING and subscription.due_at is None
    return is_ending and subscription.ended_at <= now


def has_ended(table: FromClause, now: Moment) -> ColumnElement[bool]:
    """Hold for subscriptions of which `is_over` is true."""
    return and_(is_ending(table), table.c.ended_at <= now)


def is_ending(table: FromClause) -> ColumnElement[bool]:
    """Hold for subscriptions that end with their period: canceled, or refused for the last time."""
    states: list[ColumnElement[str]] = [literal_column(f"'{state}'") for state in ENDING]
    return and_(table.c.due_at.is_(None), table.c.state.in_(states))


def state_at(table: FromClause, now: Moment) -> ColumnElement[str]:
    """Return the state as it is at a moment; whoever writes `expired` may be a minute late."""
    return case((has_ended(table, now), str(SubscriptionState.EXPIRED)), else_=table.c.state)


def oldest_ended_at() -> datetime | None:
    """Return when the first of the subscriptions that end with their period ended or will end."""
    return db.session.scalar(
        select(subscriptions.c.ended_at)
        .where(is_ending(subscriptions))
        .order_by(subscriptions.c.ended_at)
        .limit(1)
    )


class Standing:
    """The joins and columns that tell what a subscription is at a moment, for any statement.

    Columns: `package_id`, `period_start` and `period_end` of the period that runs, or was the
    last to run; `paid_until`; `next_package_id` and `next_package_at`, if another package is
    paid for or will be charged; `state`.
    """

    def __init__(self, table: FromClause, now: Moment) -> None:
        self._running = (
            select(periods.c.package_id, periods.c.period_start, periods.c.period_end)
            .where(periods.c.subscription_id == table.c.id, periods.c.period_start <= now)
            .order_by(periods.c.period_start.desc())
            .limit(1)
            .lateral("running")
        )
        self._booked = (
            select(periods.c.package_id, periods.c.period_start)
            .where(
                periods.c.subscription_id == table.c.id,
                periods.c.period_start > now,
                periods.c.package_id != self._running.c.package_id,
            )
            .order_by(periods.c.period_start)
            .limit(1)
            .lateral("booked")
        )
        running, booked = self._running.c, self._booked.c
        planned_at = case((table.c.next_package_id.is_not(None), table.c.ended_at))
        self.columns: dict[str, ColumnElement[Any]] = {
            "package_id": func.coalesce(running.package_id, table.c.package_id),
            "period_start": func.coalesce(running.period_start, table.c.current_period_start),
            "period_end": func.coalesce(running.period_end, table.c.ended_at),
            "paid_until": table.c.ended_at,
            "next_package_id": func.coalesce(booked.package_id, table.c.next_package_id),
            "next_package_at": func.coalesce(booked.period_start, planned_at),
            "state": state_at(table, now),
        }

    def labeled(self) -> list[ColumnElement[Any]]:
        """Return the columns under their names."""
        return [column.label(name) for name, column in self.columns.items()]

    def joined(self, source: FromClause) -> FromClause:
        """Return the source, which has the subscriptions in it, with what the columns need."""
        return source.outerjoin(self._running, true()).outerjoin(self._booked, true())


def standings(subscription_ids: Sequence[int], now: datetime) -> Mapping[int, Row[Any]]:
    """Return by id what subscriptions are at a moment, with the columns of `Standing`."""
    standing = Standing(subscriptions, literal(now, subscriptions.c.ended_at.type))
    rows = db.session.execute(
        select(subscriptions.c.id, *standing.labeled())
        .select_from(standing.joined(subscriptions))
        .where(subscriptions.c.id.in_(subscription_ids))
    )
    return {row.id: row for row in rows}
