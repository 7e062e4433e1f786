"""Packages: what can be subscribed to, changed by operators."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from project.billing.models import Package
from project.billing.periods import EXPIRED_AFTER
from project.billing.providers.registry import DEFAULT_PROVIDER, provider_named
from project.billing.queries import is_package_taken
from project.billing.settings import BillingSettings
from project.billing.snapshots import PackageSnapshot
from project.billing.states import Audience
from project.config.environment import get_settings
from project.core import clock
from project.core.errors import BadRequest, Conflict, Forbidden, NotFound
from project.core.money import to_decimal_text
from project.extensions import db

ACTIVE = "active"
AGREED = ("currency", "period", "period_count")
"""What those who took a package agreed to; the price counts from their next period on."""


def create_package(values: Mapping[str, Any]) -> Package:
    """Make a package.

    Raises Conflict for a name that is taken, BadRequest for tries that do not fit and for a price
    that cannot be drawn.
    """
    package = Package(**values, created_at=clock.now())
    _require_time_for_retries(package)
    _require_drawable(package)
    db.session.add(package)
    _flush(package.name)
    return package


def ensure_package(values: Mapping[str, Any]) -> Package:
    """Return the package of this name as described here, made or changed if need be.

    For packages that settings describe: whoever starts first makes them, and a new setting counts
    from each subscription's next period on. They are internal: nobody else takes or changes them.
    """
    values = {**values, "audience": str(Audience.INTERNAL)}
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
    """Change a package; a new price counts from each subscription's next period on.

    Raises NotFound, Forbidden for an internal one, Conflict for a name that is taken and for what
    somebody has agreed to, BadRequest for tries that do not fit and a price that cannot be drawn.
    """
    package = existing_package(package_id, lock=True)
    if package.audience == Audience.INTERNAL:
        raise Forbidden(
            f"The package {package.name!r} is internal: it is kept as the settings say."
        )
    changed = {name for name, value in values.items() if getattr(package, name) != value}
    agreed = sorted(changed.intersection(AGREED))
    if agreed and is_package_taken(package.id):
        raise Conflict(
            f"The package {package.name!r} has been taken: its period and currency stay as they "
            "are. Make a new package, and set the status of this one to inactive.",
            {name: ["Cannot be changed any more."] for name in agreed},
        )
    for name, value in values.items():
        setattr(package, name, value)
    _require_time_for_retries(package)
    _require_drawable(package)
    _flush(package.name)
    return package


def _require_drawable(package: Package) -> None:
    """Raise BadRequest for a price that the provider of companies cannot draw."""
    provider = provider_named(DEFAULT_PROVIDER)
    known = provider.currencies
    if known is not None and package.currency not in known:
        raise BadRequest(
            f"{provider.name} draws no {package.currency}, only {', '.join(sorted(known))}.",
            {"currency": ["Cannot be drawn."]},
        )
    if provider.max_amount is not None and package.price > provider.max_amount:
        most = to_decimal_text(provider.max_amount, package.currency)
        raise BadRequest(
            f"{provider.name} draws at most {most} {package.currency} at once.",
            {"price": ["Cannot be drawn."]},
        )


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


def existing_package(package_id: int, *, lock: bool | dict[str, Any] = False) -> Package:
    """Return the package, locked if asked for. Raises NotFound."""
    package = db.session.get(Package, package_id, populate_existing=True, with_for_update=lock)
    if package is None:
        raise _not_there(package_id)
    return package


def _not_there(package_id: int) -> NotFound:
    return NotFound(f"There is no package {package_id}.", {"package_id": ["Not known."]})


def terms_of(package: Package) -> PackageSnapshot:
    """Return the terms of a package, as the rules of billing take them."""
    return PackageSnapshot.of(
        package, bill_missed=get_settings(BillingSettings).bill_missed_periods
    )


def package_for_sale(package_id: int) -> Package:
    """Return the package if it can be taken, as it stays until the end of this transaction.

    Raises NotFound, also for an internal one, and BadRequest.
    """
    package = existing_package(package_id, lock={"read": True})
    if package.audience == Audience.INTERNAL:
        raise _not_there(package_id)
    if package.status != ACTIVE:
        raise BadRequest(
            f"The package {package.name!r} is not sold any more.", {"package_id": ["Inactive."]}
        )
    return package


def listed_packages(*, status: str | None = None, with_internal: bool = False) -> Select[Any]:
    """Select packages, oldest first."""
    statement = select(Package).order_by(Package.id)
    if not with_internal:
        statement = statement.where(Package.audience == str(Audience.COMPANIES))
    return statement if status is None else statement.where(Package.status == status)
