"""Devices: registered as often as they like, known by the newest client-token."""

from typing import Any

from sqlalchemy import Row, Select, exists, func, select
from sqlalchemy.dialects.postgresql import insert

from project.core import clock
from project.core.errors import NotFound, Unauthorized
from project.core.secrets import new_token, token_hash
from project.extensions import db
from project.mobile.models import App, Device, DeviceOs

MAX_TOKEN_LENGTH = 200


def register_device(
    app_id: int, uid: str, *, language: str, os: DeviceOs, click_id: str | None = None
) -> tuple[int, str]:
    """Register a device and return its id and a new client-token.

    The same uid and app is the same device: its language and os are updated, its old token is
    dead, and the click that first brought it stands. Raises NotFound for an unknown app.
    """
    if not db.session.scalar(select(exists().where(App.id == app_id))):
        raise NotFound(f"There is no app {app_id}.", {"appId": ["There is no such app."]})
    token = new_token("ct")
    now = clock.now()
    statement = insert(Device).values(
        app_id=app_id,
        uid=uid,
        language=language,
        os=str(os),
        click_id=click_id,
        token_hash=token_hash(token),
        created_at=now,
        updated_at=now,
    )
    new = statement.excluded
    device_id = db.session.scalar(
        statement.on_conflict_do_update(
            index_elements=["app_id", "uid"],
            set_={
                "language": new.language,
                "os": new.os,
                "click_id": func.coalesce(Device.click_id, new.click_id),
                "token_hash": new.token_hash,
                "updated_at": new.updated_at,
            },
        ).returning(Device.id)
    )
    assert device_id is not None
    return device_id, token


def authenticate_device(token: str) -> Row[int, int, str]:
    """Return the (id, app_id, os) of the device with this client-token. Raises Unauthorized."""
    found = db.session.execute(
        select(Device.id, Device.app_id, Device.os).where(Device.token_hash == token_hash(token))
    ).one_or_none()
    if found is None:
        raise unknown_token()
    return found


def unknown_token() -> Unauthorized:
    """Return the one answer to every client-token that is not in force."""
    return Unauthorized("This client-token is not known. Register the device to get a new one.")


def listed_devices(*, app_id: int | None = None, os: str | None = None) -> Select[Any]:
    """Select devices, oldest first."""
    statement = select(Device).order_by(Device.id)
    if app_id is not None:
        statement = statement.where(Device.app_id == app_id)
    if os is not None:
        statement = statement.where(Device.os == os)
    return statement


def existing_device(device_id: int) -> Device:
    """Return the device. Raises NotFound."""
    device = db.session.get(Device, device_id)
    if device is None:
        raise NotFound(f"There is no device {device_id}.")
    return device
