"""Clicks: the inbox, the clicks by month, the daily sums, the exports."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
NOW = sa.text("now()")


def upgrade() -> None:
    op.execute("CREATE SCHEMA clicks_by_month")
    op.create_table(
        "click_inbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("click_ids", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("offer_ids", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("sources", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("clicked_at", postgresql.ARRAY(MOMENT), nullable=False),
        sa.Column("signatures", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("received_at", MOMENT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_click_inbox")),
    )
    # Compressing what lives for a second costs more than it saves.
    for column in ("click_ids", "offer_ids", "sources", "clicked_at", "signatures"):
        op.execute(f"ALTER TABLE click_inbox ALTER COLUMN {column} SET STORAGE EXTERNAL")
    # Rows come and go thousands of times a second: dead ones must not pile up.
    op.execute(
        "ALTER TABLE click_inbox SET (autovacuum_vacuum_scale_factor = 0,"
        " autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0)"
    )
    op.create_table(
        "clicks",
        sa.Column("clicked_at", MOMENT, nullable=False),
        sa.Column("click_id", sa.Text(), nullable=False),
        sa.Column("offer_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=True),
        sa.Column("received_at", MOMENT, nullable=False),
        postgresql_partition_by="RANGE (clicked_at)",
    )
    op.create_index("ix_clicks_clicked_at", "clicks", ["clicked_at"])
    op.create_table(
        "click_ids",
        sa.Column("click_id", sa.Text(collation="C"), nullable=False),
        sa.Column("counted_on", sa.Date(), nullable=False),
        sa.PrimaryKeyConstraint("click_id", name=op.f("pk_click_ids")),
    )
    op.create_index(
        "ix_click_ids_counted_on", "click_ids", ["counted_on"], postgresql_using="brin"
    )
    op.create_table(
        "clicks_daily",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("offer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(collation="C"), nullable=False),
        sa.Column("clicks", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "offer_id", "source", name=op.f("pk_clicks_daily")),
    )
    op.create_table(
        "click_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("clicks", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_click_days")),
    )
    op.create_table(
        "click_dead",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("click_id", sa.Text(), nullable=False),
        sa.Column("offer_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("clicked_at", MOMENT, nullable=False),
        sa.Column("signature", sa.Text(), nullable=True),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("put_aside_at", MOMENT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_click_dead")),
    )
    op.create_table(
        "click_sources",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_click_sources")),
    )
    _create_exports()


def _create_exports() -> None:
    op.create_table(
        "click_exports",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("clicks_sent", sa.BigInteger(), nullable=True),
        sa.Column("checksum", sa.Text(), nullable=True),
        sa.Column("day_version", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("due_at", MOMENT, nullable=True),
        sa.Column("claim_id", sa.Uuid(), nullable=True),
        sa.Column("claimed_until", MOMENT, nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'succeeded', 'failed')", name=op.f("ck_click_exports_state")
        ),
        sa.CheckConstraint(
            "(state = 'pending') = (due_at IS NOT NULL)",
            name=op.f("ck_click_exports_pending_is_due"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_click_exports")),
    )
    op.create_index(
        "uq_click_exports_one_pending",
        "click_exports",
        ["day"],
        unique=True,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index("ix_click_exports_day", "click_exports", ["day", "id"])
    op.create_index(
        "ix_click_exports_due_at",
        "click_exports",
        ["due_at"],
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )


def downgrade() -> None:
    for table in (
        "click_exports",
        "click_sources",
        "click_dead",
        "click_days",
        "clicks_daily",
        "click_ids",
        "clicks",
        "click_inbox",
    ):
        op.drop_table(table)
    op.execute("DROP SCHEMA clicks_by_month")
