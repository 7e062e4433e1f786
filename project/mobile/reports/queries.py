"""The daily report."""

from datetime import date
from typing import Any

from sqlalchemy import Select, func, select

from project.mobile.models import App, PurchaseDaily
from project.mobile.states import DeviceOs

SHOWN_NAMES = {"started": "start", "renewed": "update", "canceled": "cancel"}


def purchases_per_day(
    *, start_date: date | None = None, end_date: date | None = None, app_id: int | None = None
) -> Select[*tuple[Any, ...]]:
    """Select per app and day: app_id, app, day, {os}-{start|update|cancel}, total; newest first."""
    counts = [
        func.coalesce(
            func.sum(getattr(PurchaseDaily, column)).filter(PurchaseDaily.os == os), 0
        ).label(f"{os}-{shown}")
        for os in DeviceOs
        for column, shown in SHOWN_NAMES.items()
    ]
    every = PurchaseDaily.started + PurchaseDaily.renewed + PurchaseDaily.canceled
    statement: Select[*tuple[Any, ...]] = (
        select(
            App.id.label("app_id"),
            App.name.label("app"),
            PurchaseDaily.day,
            *counts,
            func.sum(every).label("total"),
        )
        .join(App, App.id == PurchaseDaily.app_id)
        .group_by(App.id, App.name, PurchaseDaily.day)
        .order_by(PurchaseDaily.day.desc(), App.id)
    )
    if start_date is not None:
        statement = statement.where(PurchaseDaily.day >= start_date)
    if end_date is not None:
        statement = statement.where(PurchaseDaily.day <= end_date)
    if app_id is not None:
        statement = statement.where(PurchaseDaily.app_id == app_id)
    return statement
