"""What the tables hold before a measurement: rows made in bulk, spread as real ones are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from benchmarks.rig import Rig
from project.callbacks import service as callbacks
from project.callbacks.service import NewEvent
from project.core.db.transaction import transaction
from project.extensions import db
from project.mobile.apps import service as apps

KEPT = "alembic_version"
EMIT_AT_ONCE = 1000

# Tokens and receipts are as long as real ones; a receipt that ends in 1 is good.
_DEVICES = """
    INSERT INTO devices (app_id, uid, language, os, token_hash, created_at, updated_at)
    SELECT :first_app + n % :apps, 'device-' || n, 'en',
           CASE n % 2 WHEN 0 THEN 'ios' ELSE 'android' END,
           sha256(convert_to('ct_' || lpad(n::text, 43, '0'), 'UTF8')), now(), now()
      FROM generate_series(1, :count) AS n
"""
# Every stride-th row is due since some moment of the last hour, the others expire on some day of
# the next month. Due rows are spread over the whole table, as they are in one that has grown.
_PURCHASES = """
    INSERT INTO purchases (app_id, device_id, os, receipt, receipt_hash, state, expire_date,
                           due_at, started_at, checked_at, created_at)
    SELECT app_id, device_id, os, receipt, sha256(convert_to(receipt, 'UTF8')), 'active',
           expires_at, expires_at, now(), now(), now()
      FROM (SELECT d.app_id, d.id AS device_id, d.os,
                   'receipt-' || lpad(n::text, 55, '0') || '-1' AS receipt,
                   CASE n % :stride WHEN 0 THEN now() - random() * interval '1 hour'
                        ELSE now() + interval '1 day' + random() * interval '29 days'
                   END AS expires_at
              FROM generate_series(1, :count) AS n
              JOIN devices AS d ON d.id = 1 + n % :devices) AS new
"""
_DUE_AGAIN = """
    UPDATE purchases SET expire_date = moment, due_at = moment, claim_id = NULL,
                         claimed_until = NULL, attempts = 0
      FROM (SELECT id, now() - random() * interval '1 hour' AS moment
              FROM purchases WHERE id % :stride = :rest) AS chosen
     WHERE purchases.id = chosen.id
"""
_COMPANIES = (
    """
    INSERT INTO packages (name, price, currency, period, period_count, status, retry_attempts,
                          retry_interval_seconds, at_retry_end, created_at)
    VALUES ('Monthly', 1000, 'EUR', 'month', 1, 'active', 3, 86400, 'expire', now())
    """,
    """
    INSERT INTO customers (kind, reference, provider, payment_method_id, created_at)
    SELECT 'company', n, 'yookassa', 'card-' || n, now() FROM generate_series(1, :count) AS n
    """,
    """
    INSERT INTO companies (customer_id, site_url, name, lastname, company_name, email,
                           password_hash, state, created_at, updated_at)
    SELECT n, 'https://shop-' || n || '.example', 'Ada', 'Byron', 'Byron Looms ' || n,
           'ada@shop-' || n || '.example', 'none', 'active', now(), now()
      FROM generate_series(1, :count) AS n
    """,
    """
    INSERT INTO company_tokens (company_id, token_hash, created_at, expires_at)
    SELECT n, sha256(convert_to('co_' || lpad(n::text, 43, '0'), 'UTF8')), now(),
           now() + interval '30 days'
      FROM generate_series(1, :count) AS n
    """,
    """
    INSERT INTO subscriptions (customer_id, package_id, state, anchor_at, current_period_start,
                               ended_at, due_at, attempts, refusals, created_at)
    SELECT n, 1, 'active', now(), now(), now() + interval '20 days', now() + interval '20 days',
           0, 0, now()
      FROM generate_series(1, :count) AS n
    """,
)


@dataclass(frozen=True)
class App:
    """An app and its endpoint."""

    id: int
    endpoint_id: int


def empty_tables(rig: Rig) -> None:
    """Bring the database, the outside world and the workers back to the start."""
    tables = [table.name for table in db.metadata.sorted_tables if table.name != KEPT]
    rig.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE")
    rig.wait_until_idle()
    rig.simulator.reset()


def make_apps(rig: Rig, count: int, inbox_of: Callable[[int], str]) -> list[App]:
    """Make apps whose callbacks go to inboxes of the simulator; `inbox_of` names them."""
    with transaction():
        ids = [
            apps.create_app(f"App {number}", f"{rig.simulator.base_url}/inbox/{inbox_of(number)}")
            for number in range(count)
        ]
    endpoints = apps.endpoint_ids([app.id for app in ids])
    db.session.rollback()
    return [App(app.id, endpoints[app.id] or 0) for app in ids]


def make_devices(rig: Rig, count: int, made: Sequence[App]) -> None:
    """Make devices, in turn one of each app; see `token` for their client-tokens."""
    rig.execute(_DEVICES, count=count, first_app=made[0].id, apps=len(made))


def token(number: int) -> str:
    """Return the client-token of the device of this number, from 1 on."""
    return f"ct_{number:043d}"


def make_purchases(rig: Rig, count: int, *, due: int, devices: int) -> None:
    """Make active purchases of good receipts, `due` of which are due."""
    stride = count // due if due else count + 1
    rig.execute(_PURCHASES, count=count, stride=stride, devices=devices)


def make_companies(rig: Rig, count: int) -> None:
    """Make companies that are logged in and have a package; see `company_token`."""
    for statement in _COMPANIES:
        rig.execute(statement, count=count)


def company_token(number: int) -> str:
    """Return the token of the company of this number, from 1 on."""
    return f"co_{number:043d}"


def make_due_again(rig: Rig, count: int, *, due: int, rest: int) -> None:
    """Make `due` others of the purchases due: those whose id leaves this rest."""
    rig.execute(_DUE_AGAIN, stride=count // due, rest=rest)


def hold_back_deliveries(rig: Rig) -> None:
    """Let every endpoint rest, so that callbacks are written but not sent."""
    rig.execute("UPDATE delivery_lanes SET due_at = now() + interval '1 day'")


def release_deliveries(rig: Rig) -> None:
    """Let callbacks be sent."""
    rig.execute("UPDATE delivery_lanes SET due_at = now()")


def hold_back_purchases(rig: Rig) -> None:
    """Claim every due purchase for the peer, so that no sweep of ours takes it."""
    rig.execute(
        "UPDATE purchases SET claim_id = gen_random_uuid(),"
        " claimed_until = now() + interval '1 day' WHERE due_at <= now()"
    )


def emit_callbacks(count: int, endpoint_ids: Sequence[int]) -> list[UUID]:
    """Write events with a callback each, in turn one for each endpoint; return their ids."""
    ids: list[UUID] = []
    for start in range(0, count, EMIT_AT_ONCE):
        numbers = range(start, min(start + EMIT_AT_ONCE, count))
        with transaction():
            ids += callbacks.emit(
                [_renewal(number, endpoint_ids[number % len(endpoint_ids)]) for number in numbers]
            )
    return ids


def _renewal(number: int, endpoint_id: int) -> NewEvent:
    now = datetime.now(UTC)
    data = {
        "appID": 1,
        "deviceID": number,
        "purchaseID": number,
        "expire-date": now.isoformat(),
    }
    return NewEvent("renewed", "purchase", number, data, now, endpoint_id)
