"""Packages: what can be subscribed to, changed by operators."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from project.billing.models import Package
from project.billing.queries import EXPIRED_AFTER
from project.core import clock
from project.core.errors import BadRequest, Conflict, NotFound
from project.extensions import db

ACTIVE = "active"


def create_package(values: Mapping[str, Any]) -> Package:
    """Make a package.

    Raises Conflict for a name that is taken, BadRequest for tries that do not fit.
    """
    package = Package(**values, created_at=clock.now())
    _require_time_for_retries(package)
    db.session.add(package)
    _flush(package.name)
    return package


def ensure_package(values: Mapping[str, Any]) -> Package:
    """Return the package of this name as described here, made or changed if need be.

    For packages that settings describe: whoever starts first makes them, and a new setting counts
    from each subscription's next period on.
    """
    db.session.execute(
        insert(Package)
        .values(**values, created_at=clock.now())
        .on_conflict_do_nothing(index_elements=["name"])
    )
    package = db.session.scalars(select(Package).where(Package.name == values["name"])).one()
    for name, value in values.items():
        if getattr(package, name) != value:
            setattr(package, name, value)
    return package


def change_package(package_id: int, values: Mapping[str, Any]) -> Package:
    """Change a package; a new price or period counts from each subscription's next period on.

    Raises NotFound, Conflict for a name that is taken, BadRequest for tries that do not fit.
    """
    package = existing_package(package_id)
    for name, value in values.items():
        setattr(package, name, value)
    _require_time_for_retries(package)
    _flush(package.name)
    return package


def _require_time_for_retries(package: Package) -> None:
    """Raise BadRequest if a subscription would expire before its last try."""
    last_try = timedelta(seconds=(package.retry_attempts - 1) * package.retry_interval_seconds)
    if last_try >= EXPIRED_AFTER:
        hours = EXPIRED_AFTER // timedelta(hours=1)
        raise BadRequest(
            f"A subscription expires {hours} hours after its period's end, before the last try "
            f"would come. (retry_attempts - 1) * retry_interval_seconds must be less.",
            {"retry_attempts": ["Too many for this interval."]},
        )


def _flush(name: str) -> None:
    try:
        db.session.flush()
    except IntegrityError as error:
        raise Conflict(
            f"There is already a package named {name!r}.", {"name": ["Already taken."]}
        ) from error


def existing_package(package_id: int) -> Package:
    """Return the package. Raises NotFound."""
    package = db.session.get(Package, package_id, populate_existing=True)
    if package is None:
        raise NotFound(f"There is no package {package_id}.", {"package_id": ["Not known."]})
    return package


def package_for_sale(package_id: int) -> Package:
    """Return the package if it can be taken. Raises NotFound and BadRequest."""
    package = existing_package(package_id)
    if package.status != ACTIVE:
        raise BadRequest(
            f"The package {package.name!r} is not sold any more.", {"package_id": ["Inactive."]}
        )
    return package


def listed_packages(*, status: str | None = None) -> Select[Any]:
    """Select packages, oldest first."""
    statement = select(Package).order_by(Package.id)
    return statement if status is None else statement.where(Package.status == status)
