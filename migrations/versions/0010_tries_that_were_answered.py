"""What a try came to, what a period costs, and which installation asks."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
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
)
NEW_KINDS = ("not_taken",)
RETRIED = sa.text("due_at IS NOT NULL AND (refusals > 0 OR not_taken > 0)")
# The moment in the first 48 bits of a UUID of version 7, in milliseconds.
MADE_AT = """
    UPDATE payments SET made_at = to_timestamp(
        ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
    WHERE state = 'pending' AND substr(id::text, 15, 1) = '7'
"""
FROZEN = """
    UPDATE payments SET description = packages.name, plan = packages.period, sends = 1
    FROM packages WHERE packages.id = payments.package_id AND payments.state = 'pending'
"""


def upgrade() -> None:
    op.create_table(
        "installation",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Uuid(), nullable=False),
        sa.Column("timeline", sa.Text(), nullable=False),
        sa.Column("database_oid", sa.BigInteger(), nullable=False),
        sa.Column("written_by", sa.BigInteger(), nullable=False),
        sa.Column("held_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hold_reason", sa.Text(), nullable=True),
        sa.Column("books_unread_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("restored_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("ck_installation_single_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installation")),
    )
    op.add_column("subscriptions", sa.Column("refused_at", sa.DateTime(timezone=True)))
    op.add_column(
        "subscriptions",
        sa.Column("not_taken", sa.Integer(), server_default=sa.text("0"), nullable=False),
    )
    op.execute("UPDATE subscriptions SET refused_at = past_due_at WHERE past_due_at IS NOT NULL")
    op.create_index(
        "ix_subscriptions_retried", "subscriptions", ["due_at"], postgresql_where=RETRIED
    )
    op.add_column("payments", sa.Column("description", sa.Text()))
    op.add_column("payments", sa.Column("plan", sa.Text()))
    op.add_column(
        "payments",
        sa.Column("sends", sa.Integer(), server_default=sa.text("0"), nullable=False),
    )
    op.add_column(
        "payments",
        sa.Column("is_answered", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column(
        "payments",
        sa.Column(
            "made_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
    )
    op.execute(MADE_AT)
    op.execute(FROZEN)
    _set_kinds((*KINDS, *NEW_KINDS))


def _set_kinds(kinds: tuple[str, ...]) -> None:
    op.drop_constraint(op.f(KIND), "reconciliation_cases", type_="check")
    written = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint(op.f(KIND), "reconciliation_cases", f"kind IN ({written})")


def downgrade() -> None:
    op.execute("DELETE FROM reconciliation_cases WHERE kind = 'not_taken'")
    _set_kinds(KINDS)
    for column in ("made_at", "is_answered", "sends", "plan", "description"):
        op.drop_column("payments", column)
    op.drop_index("ix_subscriptions_retried", table_name="subscriptions", postgresql_where=RETRIED)
    for column in ("not_taken", "refused_at"):
        op.drop_column("subscriptions", column)
    op.drop_table("installation")
