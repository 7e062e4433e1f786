"""Which sites were given a first period, so that another registration brings no second one."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from project.companies.sites import site_of

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

AT_ONCE = 5000


def upgrade() -> None:
    table = op.create_table(
        "given_sites",
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("given_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["company_id"], ["companies.id"], name=op.f("fk_given_sites_company_id")
        ),
        sa.PrimaryKeyConstraint("site", name=op.f("pk_given_sites")),
    )
    rows: list[dict[str, Any]] = []
    for row in _given():
        rows.append(row)
        if len(rows) == AT_ONCE:
            op.bulk_insert(table, rows)
            rows = []
    op.bulk_insert(table, rows)


def _given() -> Iterator[dict[str, Any]]:
    """Return each site once, with the first company that was given a period for it."""
    found = op.get_bind().execute(
        sa.text(
            """
            SELECT companies.id, companies.site_url, min(periods.period_start) AS given_at
              FROM companies
              JOIN subscriptions ON subscriptions.customer_id = companies.customer_id
              JOIN subscription_periods AS periods ON periods.subscription_id = subscriptions.id
             WHERE periods.payment_id IS NULL
             GROUP BY companies.id
             ORDER BY companies.id
            """
        )
    )
    seen: set[str] = set()
    for row in found:
        site = site_of(row.site_url)
        if site not in seen:
            seen.add(site)
            yield {"site": site, "company_id": row.id, "given_at": row.given_at}


def downgrade() -> None:
    op.drop_table("given_sites")
