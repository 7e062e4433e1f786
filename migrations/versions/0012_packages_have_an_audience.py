"""Whom a package is for: those that settings describe are nobody's to take or to change."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

AUDIENCE = "ck_packages_audience"


def upgrade() -> None:
    op.add_column(
        "packages",
        sa.Column("audience", sa.Text(), server_default=sa.text("'companies'"), nullable=False),
    )
    op.execute(
        "UPDATE packages SET audience = 'internal'"
        " WHERE name IN ('forecast-daily', 'forecast-weekly') AND charged = 'at_the_end'"
    )
    op.create_check_constraint(
        op.f(AUDIENCE), "packages", "audience IN ('companies', 'internal')"
    )


def downgrade() -> None:
    op.drop_constraint(op.f(AUDIENCE), "packages", type_="check")
    op.drop_column("packages", "audience")
