"""Apps: made once per name, their endpoint changed, their signing secret rotated."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, Select, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from project.callbacks import service as callbacks
from project.callbacks.queries import endpoints
from project.core import clock
from project.core.errors import Conflict, NotFound
from project.extensions import db
from project.mobile.models import App

OWNER_TYPE = "app"


@dataclass(frozen=True)
class CreatedApp:
    """An app; `callback_secret` is there only if this call made it."""

    id: int
    name: str
    endpoint: str
    require_proof: bool
    created_at: datetime
    callback_secret: str | None


def create_app(name: str, endpoint: str, *, require_proof: bool | None = None) -> CreatedApp:
    """Make an app; the same name and endpoint again is the same app. Raises Conflict.

    `require_proof`: a device that is known gets a new client-token for a proof only.

    The endpoint has been checked with `network_guard` before.
    """
    now = clock.now()
    app_id = db.session.scalar(
        insert(App)
        .values(name=name, require_proof=bool(require_proof), created_at=now)
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(App.id)
    )
    if app_id is None:
        return _same_app(name, endpoint, require_proof)
    made, secret = callbacks.create_endpoint(endpoint, owner_type=OWNER_TYPE, owner_id=app_id)
    app = existing_app(app_id)
    app.endpoint_id = made
    return CreatedApp(app_id, name, endpoint, bool(require_proof), now, secret)


def _same_app(name: str, endpoint: str, require_proof: bool | None) -> CreatedApp:
    row = db.session.execute(listed_apps().where(App.name == name)).one()
    if row.endpoint != endpoint:
        raise Conflict(
            f"There is already an app named {name!r} with another endpoint. "
            f"Change it with PATCH /api/apps/{row.id}.",
            {"endpoint": ["Differs from the app's endpoint."]},
        )
    if require_proof not in (None, row.require_proof):
        raise Conflict(
            f"There is already an app named {name!r} with another require_proof. "
            f"Change it with PATCH /api/apps/{row.id}.",
            {"require_proof": ["Differs from the app's."]},
        )
    return CreatedApp(row.id, row.name, row.endpoint, row.require_proof, row.created_at, None)


def change_app(
    app_id: int, *, name: str | None, endpoint: str | None, require_proof: bool | None = None
) -> None:
    """Change an app. Raises NotFound, and Conflict for another app's name."""
    app = existing_app(app_id)
    if require_proof is not None:
        app.require_proof = require_proof
    if endpoint is not None:
        callbacks.change_url(_endpoint_of(app), endpoint)
    if name is not None and name != app.name:
        app.name = name
        try:
            db.session.flush()
        except IntegrityError as error:
            raise Conflict(
                f"There is already an app named {name!r}.", {"name": ["Already taken."]}
            ) from error


def rotate_secret(app_id: int) -> str:
    """Give the app a new signing secret and return it; the old one signs along for 24 hours."""
    return callbacks.rotate_secret(_endpoint_of(existing_app(app_id)))


def existing_app(app_id: int) -> App:
    """Return the app, locked against changes. Raises NotFound."""
    app = db.session.scalars(select(App).where(App.id == app_id).with_for_update()).one_or_none()
    if app is None:
        raise NotFound(f"There is no app {app_id}.")
    return app


def _endpoint_of(app: App) -> int:
    if app.endpoint_id is None:
        raise NotFound(f"The app {app.id} has no endpoint.")
    return app.endpoint_id


def listed_apps() -> Select[int, str, str, bool, datetime]:
    """Select apps as they are shown, oldest first."""
    return (
        select(
            App.id,
            App.name,
            endpoints.c.url.label("endpoint"),
            App.require_proof,
            App.created_at,
        )
        .join(endpoints, endpoints.c.id == App.endpoint_id)
        .order_by(App.id)
    )


def listed_app(app_id: int) -> Row[int, str, str, bool, datetime]:
    """Return an app as it is shown. Raises NotFound."""
    row = db.session.execute(listed_apps().where(App.id == app_id)).one_or_none()
    if row is None:
        raise NotFound(f"There is no app {app_id}.")
    return row


def endpoint_ids(app_ids: Sequence[int]) -> dict[int, int | None]:
    """Return the endpoint of each app."""
    rows = db.session.execute(select(App.id, App.endpoint_id).where(App.id.in_(app_ids)))
    return {row.id: row.endpoint_id for row in rows}
