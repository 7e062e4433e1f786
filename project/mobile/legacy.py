"""Moving in from the older mobile service: its apps, devices and purchases, under their own ids.

Clients keep their app_id and their client-token, receivers of callbacks their deviceID. Nothing is
told and nothing is counted in the reports: these subscriptions started elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any

from sqlalchemy import Table, select

from project.callbacks import service as callbacks
from project.core import clock
from project.core.db.rows import table_of
from project.core.errors import BadRequest, Conflict
from project.core.legacy.importer import (
    ImportReport,
    continue_ids,
    insert,
    moment,
    number,
    rows_by_table,
)
from project.core.legacy.sql_dump import Row
from project.core.net import network_guard
from project.core.secrets import token_hash
from project.extensions import db
from project.mobile.apps.service import OWNER_TYPE
from project.mobile.models import App, Device
from project.mobile.purchases import queries
from project.mobile.purchases.service import receipt_hash
from project.mobile.states import DeviceOs, PurchaseState

TABLES = ("apps", "devices", "purchases")
_apps = table_of(App)


def import_mobile(rows: Iterable[tuple[str, Row]], *, zone: tzinfo = UTC) -> ImportReport:
    """Import the rows of a dump; those that are here already, from a run before, stay as they are.

    `zone` is the one in which the older service wrote its moments. Raises Conflict where an id is
    taken by something else: then nothing may be imported, because clients know the ids.
    """
    report = ImportReport()
    found = rows_by_table(rows, TABLES, report)
    _import_apps(found["apps"], report)
    devices = _import_devices(found["devices"], report, zone)
    _import_purchases(found["purchases"], devices, report, zone)
    for kept in (_apps, queries.devices, queries.purchases):
        continue_ids(kept)
    return report


def _import_apps(rows: Sequence[Row], report: ImportReport) -> None:
    here = {row.id: row.name for row in db.session.execute(select(App.id, App.name))}
    names = set(here.values())
    for row in rows:
        app_id, name, endpoint = number(row, "id"), row.get("name"), row.get("endpoint")
        if app_id in here:
            if here[app_id] not in (name, _told_apart(name, app_id)):
                raise Conflict(
                    f"The app {app_id} here is {here[app_id]!r}, in the dump it is {name!r}. "
                    "Import into a copy whose apps do not use these ids yet."
                )
            report.known["apps"] += 1
            continue
        if not name or not endpoint:
            report.leave_out("apps", row, "has no name or no endpoint")
            continue
        try:
            network_guard.check_url(endpoint)
        except BadRequest as error:
            report.leave_out("apps", row, error.detail)
            continue
        name = _told_apart(name, app_id) if name in names else name
        names.add(name)
        app = App(id=app_id, name=name, created_at=clock.now())
        db.session.add(app)
        db.session.flush()
        made, _ = callbacks.create_endpoint(endpoint, owner_type=OWNER_TYPE, owner_id=app_id)
        app.endpoint_id = made
        report.imported["apps"] += 1
    db.session.flush()


def _told_apart(name: str | None, app_id: int) -> str:
    return f"{name} ({app_id})"


def _import_devices(rows: Sequence[Row], report: ImportReport, zone: tzinfo) -> dict[int, Any]:
    """Import devices; return by the older id what a purchase needs to know of each."""
    apps = set(db.session.scalars(select(App.id)))
    newest: dict[tuple[int, str], dict[str, Any]] = {}
    standing_for: dict[int, tuple[int, str]] = {}
    for row in rows:
        device = _device(row, apps, zone)
        if isinstance(device, str):
            report.leave_out("devices", row, device)
            continue
        key = (device["app_id"], device["uid"])
        standing_for[device["id"]] = key
        if key in newest:
            _leave_out_earlier(report, "devices", newest[key], device, "the same app and uid")
        newest[key] = device
    _insert(queries.devices, list(newest.values()), "devices", report)
    kept = {
        (row.app_id, row.uid): row
        for row in db.session.execute(select(Device.id, Device.app_id, Device.uid, Device.os))
    }
    return {older: kept[key] for older, key in standing_for.items() if key in kept}


def _device(row: Row, apps: set[int], zone: tzinfo) -> dict[str, Any] | str:
    """Return the device, or why it cannot be imported."""
    uid, token, os = row.get("uid"), row.get("token"), (row.get("os") or "").lower()
    app_id = number(row, "app_id")
    if app_id not in apps:
        return f"there is no app {app_id}"
    if not uid or not token:
        return "has no uid or no token"
    if os not in set(DeviceOs):
        return f"os is {os!r}, not ios or android"
    created_at = moment(row.get("created_at"), zone) or clock.now()
    return {
        "id": number(row, "id"),
        "app_id": app_id,
        "uid": uid[:255],
        "language": (row.get("language") or "en")[:35],
        "os": os,
        "token_hash": token_hash(token),
        "created_at": created_at,
        "updated_at": moment(row.get("updated_at"), zone) or created_at,
    }


def _import_purchases(
    rows: Sequence[Row], devices: Mapping[int, Any], report: ImportReport, zone: tzinfo
) -> None:
    newest: dict[bytes, dict[str, Any]] = {}
    for row in rows:
        device = devices.get(number(row, "device_id"))
        receipt, expires_at = row.get("receipt"), moment(row.get("expire-date"), zone)
        if device is None or not receipt or expires_at is None:
            report.leave_out("purchases", row, "has no known device, no receipt or no expire-date")
            continue
        key = receipt_hash(receipt)
        is_active = row.get("status") not in ("0", "f", "false", None)
        created_at = moment(row.get("created_at"), zone) or clock.now()
        purchase = {
            "id": number(row, "id"),
            "app_id": device.app_id,
            "device_id": device.id,
            "os": device.os,
            "receipt": receipt,
            "receipt_hash": key,
            "state": PurchaseState.ACTIVE if is_active else PurchaseState.CANCELED,
            "expire_date": expires_at,
            "due_at": expires_at if is_active else None,
            "attempts": 0,
            "reason": "imported",
            "started_at": created_at,
            "canceled_at": None if is_active else moment(row.get("updated_at"), zone),
            "created_at": created_at,
        }
        if key in newest:
            _leave_out_earlier(report, "purchases", newest[key], purchase, "the same receipt")
        newest[key] = purchase
    _insert(queries.purchases, list(newest.values()), "purchases", report)


def _leave_out_earlier(
    report: ImportReport,
    table: str,
    earlier: Mapping[str, Any],
    later: Mapping[str, Any],
    same: str,
) -> None:
    """Note that of two rows for one thing, the later counts."""
    report.leave_out(table, {"id": str(earlier["id"])}, f"{same} as {later['id']}, which counts")


def _insert(table: Table, rows: list[dict[str, Any]], name: str, report: ImportReport) -> None:
    new = insert(table, rows)
    report.imported[name] += new
    report.known[name] += len(rows) - new
