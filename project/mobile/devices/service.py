"""Devices: registered as often as they like, known by the newest client-token in use."""

import re
from typing import Any

from sqlalchemy import Row, Select, bindparam, delete, exists, select, update
from sqlalchemy.dialects.postgresql import insert

from project.callbacks import service as callbacks
from project.core import clock
from project.core.db.rows import table_of
from project.core.errors import NotFound, Unauthorized
from project.core.fast_path.reading import PreparedQuery
from project.core.loop import finish
from project.core.secrets import new_token, token_hash
from project.extensions import db
from project.mobile.models import App, Device, NewToken
from project.mobile.states import DeviceOs

MAX_NEW_TOKENS = 5
"""So many that were given to a device may wait for their first use."""
PROVEN = b"devices/register"
PROOF_SECONDS = 300
_DIGITS = re.compile(r"[0-9]{1,12}")
devices = table_of(Device)
new_tokens = table_of(NewToken)


def register_device(
    app_id: int,
    uid: str,
    *,
    language: str,
    os: DeviceOs,
    click_id: str | None = None,
    old_token: str | None = None,
    proof: str | None = None,
) -> tuple[int, str]:
    """Register a device and return its id and a new client-token.

    The same uid and app is the same device: its language and os are updated, the click that first
    brought it stands, and its old token is good until the new one is used. Raises NotFound for an
    unknown app, and Unauthorized where the app requires a proof: `old_token`, one that the device
    has, or `proof`, the unix time and, after a comma, the
    signature of uid, time and PROVEN by the app's signing secret, as Standard Webhooks signs.
    """
    app = db.session.execute(
        select(App.require_proof, App.endpoint_id).where(App.id == app_id)
    ).one_or_none()
    if app is None:
        raise NotFound(f"There is no app {app_id}.", {"appId": ["There is no such app."]})
    token = new_token("ct")
    now = clock.now()
    said = {"language": language, "os": os, "updated_at": now}
    made = db.session.scalar(
        insert(Device)
        .values(
            app_id=app_id,
            uid=uid,
            click_id=click_id,
            token_hash=token_hash(token),
            created_at=now,
            **said,
        )
        .on_conflict_do_nothing(index_elements=["app_id", "uid"])
        .returning(Device.id)
    )
    if made is not None:
        return made, token
    device = db.session.scalars(
        select(Device).where(Device.app_id == app_id, Device.uid == uid).with_for_update()
    ).one()
    if app.require_proof and not _is_proven(device, app.endpoint_id, old_token, proof):
        raise Unauthorized(
            "This device is registered, and its app requires a proof: send a client-token that it "
            "has, or a proof that the app's back end has signed.",
            {"client-token": ["Missing, or not the device's."]},
        )
    for name, value in said.items():
        setattr(device, name, value)
    device.click_id = device.click_id or click_id
    _give_token(device.id, token)
    return device.id, token


def _is_proven(
    device: Device, endpoint_id: int | None, old_token: str | None, proof: str | None
) -> bool:
    if old_token is not None:
        old_hash = token_hash(old_token)
        if old_hash == device.token_hash or db.session.scalar(
            select(exists().where(NewToken.token_hash == old_hash, NewToken.device_id == device.id))
        ):
            return True
    if proof is None or endpoint_id is None:
        return False
    moment, _, signature = proof.partition(",")
    if not _DIGITS.fullmatch(moment):
        return False
    age = clock.real_now().timestamp() - int(moment)
    return abs(age) <= PROOF_SECONDS and callbacks.is_signed_by_owner(
        endpoint_id, device.uid, int(moment), PROVEN, signature
    )


def _give_token(device_id: int, token: str) -> None:
    given = NewToken(device_id=device_id, token_hash=token_hash(token), created_at=clock.now())
    db.session.add(given)
    db.session.flush()
    kept = (
        select(NewToken.id)
        .where(NewToken.device_id == device_id)
        .order_by(NewToken.id.desc())
        .limit(MAX_NEW_TOKENS)
    )
    db.session.execute(
        delete(NewToken).where(NewToken.device_id == device_id, NewToken.id.not_in(kept))
    )


def authenticate_device(token: str) -> Row[int, int, DeviceOs]:
    """Return the (id, app_id, os) of the device with this client-token. Raises Unauthorized."""
    wanted = select(Device.id, Device.app_id, Device.os).where(
        Device.token_hash == token_hash(token)
    )
    found = db.session.execute(wanted).one_or_none()
    if found is None:
        finish(put_in_force(token))
        found = db.session.execute(wanted).one_or_none()
    if found is None:
        raise unknown_token()
    return found


# Locks the device first: of two new tokens at once, the one that was given last stays.
_locked = (
    select(devices.c.id)
    .join(new_tokens, new_tokens.c.device_id == devices.c.id)
    .where(new_tokens.c.token_hash == bindparam("token_hash"))
    .with_for_update(of=devices)
    .cte("locked")
)
_used = (
    delete(new_tokens)
    .where(
        new_tokens.c.device_id == _locked.c.id, new_tokens.c.token_hash == bindparam("token_hash")
    )
    .returning(new_tokens.c.id, new_tokens.c.device_id, new_tokens.c.token_hash)
    .cte("used")
)
_older = (
    delete(new_tokens)
    .where(new_tokens.c.device_id == _used.c.device_id, new_tokens.c.id < _used.c.id)
    .cte("older")
)
_PUT_IN_FORCE = PreparedQuery(
    update(devices)
    .where(devices.c.id == _used.c.device_id)
    .values(token_hash=_used.c.token_hash)
    .add_cte(_older)
    .returning(devices.c.id)
)
_IS_NEW = PreparedQuery(
    select(new_tokens.c.id).where(new_tokens.c.token_hash == bindparam("token_hash"))
)


async def put_in_force(token: str) -> None:
    """Put a token in force that was given and is used for the first time.

    The tokens that were in force or given before it end. To be asked of a token that is not known;
    then it is to be looked up again, because another request may have done this meanwhile.
    Committed when this returns: what the token is used for may fail, it has been used all the same.
    """
    given = {"token_hash": token_hash(token)}
    if await _IS_NEW.read(given) is not None:
        await _PUT_IN_FORCE.read(given)


def unknown_token() -> Unauthorized:
    """Return the one answer to every client-token that is not in force."""
    return Unauthorized("This client-token is not known. Register the device to get a new one.")


def listed_devices(*, app_id: int | None = None, os: DeviceOs | None = None) -> Select[Any]:
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
