"""Let apps ask a known device for a proof, and keep its old token until the new one is used."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "apps",
        sa.Column("require_proof", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_table(
        "device_new_tokens",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name=op.f("fk_device_new_tokens_device_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_new_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_device_new_tokens_token_hash")),
    )
    op.create_index(
        op.f("ix_device_new_tokens_device_id"), "device_new_tokens", ["device_id"], unique=False
    )


def downgrade() -> None:
    op.drop_table("device_new_tokens")
    op.drop_column("apps", "require_proof")
