"""What was refunded of a payment, and cases of refunds and of periods given up before they began."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

KIND = "ck_reconciliation_cases_kind"
KINDS = (
    "paid_there_pending_here",
    "paid_there_missing_here",
    "paid_here_unknown_there",
    "paid_here_unpaid_there",
    "amount_differs",
    "unreadable_there",
    "not_taken",
)
NEW_KINDS = ("refunded_there", "given_up")
REFUNDED = "ck_payments_refunded_amount"


def upgrade() -> None:
    op.add_column(
        "payments",
        sa.Column("refunded_amount", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.create_check_constraint(op.f(REFUNDED), "payments", "refunded_amount >= 0")
    _set_kinds((*KINDS, *NEW_KINDS))
    op.execute("DROP VIEW company_payments")
    op.execute(VIEW.format(refunded="payments.refunded_amount,"))


def _set_kinds(kinds: tuple[str, ...]) -> None:
    op.drop_constraint(op.f(KIND), "reconciliation_cases", type_="check")
    written = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint(op.f(KIND), "reconciliation_cases", f"kind IN ({written})")


VIEW = """
    CREATE VIEW company_payments AS
    SELECT companies.id AS company_id,
           companies.company_name,
           payments.id AS payment_id,
           payments.subscription_id,
           payments.package_id,
           payments.state,
           payments.amount,
           {refunded}
           payments.currency,
           payments.period_start,
           payments.period_end,
           payments.attempt,
           payments.trigger,
           payments.reason,
           payments.provider,
           payments.external_id,
           payments.created_at,
           payments.settled_at
      FROM companies
      JOIN payments ON payments.customer_id = companies.customer_id
"""


def downgrade() -> None:
    op.execute("DROP VIEW company_payments")
    op.execute(VIEW.format(refunded=""))
    op.execute("DELETE FROM reconciliation_cases WHERE kind IN ('refunded_there', 'given_up')")
    _set_kinds(KINDS)
    op.drop_constraint(op.f(REFUNDED), "payments", type_="check")
    op.drop_column("payments", "refunded_amount")
