"""why subscribers ended

Revision ID: 0008
Revises: 0007
Create Date: 2026-11-25 02:05:00.000000

"""
import sqlalchemy as sa
from alembic import op

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None

REASONS = "end_reason IN ('requested', 'unpaid', 'unreachable', 'stop')"


def upgrade() -> None:
    op.add_column('subscribers', sa.Column('end_reason', sa.Text()))
    # How many messages in a row a gateway has refused for good.
    op.add_column('subscribers', sa.Column('refused_messages', sa.Integer(), nullable=False,
        server_default=sa.text('0')))
    op.create_check_constraint(op.f('ck_subscribers_end_reason'), 'subscribers', REASONS)


def downgrade() -> None:
    op.drop_column('subscribers', 'refused_messages')
    op.drop_column('subscribers', 'end_reason')
