"""Remember how many requests at once an endpoint copes with; each lane begins with one."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "delivery_lanes",
        sa.Column("concurrency", sa.Integer(), server_default=sa.text("1"), nullable=False),
    )
    op.add_column("delivery_lanes", sa.Column("slow_start_threshold", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("delivery_lanes", "slow_start_threshold")
    op.drop_column("delivery_lanes", "concurrency")
