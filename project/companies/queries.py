"""What a company's check asks, as fast as it can be read; nothing here writes."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select, true

from project.billing import queries as billing
from project.billing.subscription_state import Standing
from project.companies.models import Company, CompanyToken
from project.core import clock
from project.core.db.models import Timestamp
from project.core.db.rows import table_of
from project.core.fast_path.reading import PreparedQuery
from project.core.secrets import token_hash

companies = table_of(Company)
tokens = table_of(CompanyToken)

COMPANY = ("id", "site_url", "name", "lastname", "company_name", "email", "state", "created_at")
SUBSCRIPTION = (
    "state",
    "period_start",
    "period_end",
    "paid_until",
    "next_package_id",
    "next_package_at",
)
PACKAGE = (
    "id",
    "name",
    "price",
    "currency",
    "period",
    "period_count",
    "status",
    "retry_attempts",
    "retry_interval_seconds",
    "at_retry_end",
    "audience",
    "created_at",
)

# Made once: this is the query behind every `companies/check`.
_NOW = bindparam("now", type_=Timestamp)
_current = billing.current_subscription_of(companies.c.customer_id).lateral("current")
_standing = Standing(_current, _NOW)
_STANDING = PreparedQuery(
    select(
        *(companies.c[name].label(f"company_{name}") for name in COMPANY),
        *(_standing.columns[name].label(f"subscription_{name}") for name in SUBSCRIPTION),
        *(billing.packages.c[name].label(f"package_{name}") for name in PACKAGE),
    )
    .select_from(
        _standing.joined(
            tokens.join(companies, companies.c.id == tokens.c.company_id).outerjoin(
                _current, true()
            )
        ).outerjoin(billing.packages, billing.packages.c.id == _standing.columns["package_id"])
    )
    .where(tokens.c.token_hash == bindparam("token_hash"), tokens.c.expires_at > _NOW)
)

Part = Mapping[str, Any]


async def standing(token: str) -> tuple[Part, Part | None, Part | None] | None:
    """Return the token's company, its newest subscription and the package that runs.

    Without a subscription the last two are None; for a token that is not in force all of it is.
    """
    row = await _STANDING.read({"token_hash": token_hash(token), "now": await clock.current()})
    if row is None:
        return None
    here, there = len(COMPANY), len(COMPANY) + len(SUBSCRIPTION)
    company = dict(zip(COMPANY, row[:here], strict=True))
    if row[here] is None:
        return company, None, None
    subscription = dict(zip(SUBSCRIPTION, row[here:there], strict=True))
    return company, subscription, dict(zip(PACKAGE, row[there:], strict=True))
