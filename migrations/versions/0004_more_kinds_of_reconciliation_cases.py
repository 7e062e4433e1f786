"""Cases of what is unpaid or unreadable there, and a quick way to what was paid lately."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KIND = "ck_reconciliation_cases_kind"
OLD_KINDS = (
    "kind IN ('paid_there_pending_here', 'paid_there_missing_here',"
    " 'paid_here_unknown_there', 'amount_differs')"
)
NEW_KINDS = (
    "kind IN ('paid_there_pending_here', 'paid_there_missing_here',"
    " 'paid_here_unknown_there', 'paid_here_unpaid_there', 'amount_differs', 'unreadable_there')"
)


def upgrade() -> None:
    op.drop_constraint(op.f(KIND), "reconciliation_cases", type_="check")
    op.create_check_constraint(op.f(KIND), "reconciliation_cases", NEW_KINDS)
    op.create_index(
        "ix_payments_paid",
        "payments",
        ["provider", "settled_at"],
        unique=False,
        postgresql_where=sa.text("state = 'succeeded'"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_payments_paid",
        table_name="payments",
        postgresql_where=sa.text("state = 'succeeded'"),
    )
    op.execute(
        "DELETE FROM reconciliation_cases"
        " WHERE kind IN ('paid_here_unpaid_there', 'unreadable_there')"
    )
    op.drop_constraint(op.f(KIND), "reconciliation_cases", type_="check")
    op.create_check_constraint(op.f(KIND), "reconciliation_cases", OLD_KINDS)
