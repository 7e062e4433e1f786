"""order subscriber events by their time, and keep how a file is to be read

Revision ID: 0015
Revises: 0014
Create Date: 2026-11-25 02:20:00.000000

"""
import sqlalchemy as sa
from alembic import op

revision = '0015'
down_revision = '0014'
branch_labels = None
depends_on = None

TIMES = ('subscription_event_at', 'place_event_at')
HOW_READ = ('stated_encoding', 'ts_format', 'ts_timezone', 'note')


def upgrade() -> None:
    for name in TIMES:
        op.add_column('subscribers', sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    # Of those who left it is known that nothing older may bring them back. Of the others nothing
    # is known, so that the first thing that is heard of them counts, above all that they left.
    op.execute(
        "UPDATE subscribers SET subscription_event_at = canceled_at"
        " WHERE state = 'canceled' AND canceled_at IS NOT NULL"
    )
    op.create_table('absent_subscribers',
    sa.Column('msisdn', sa.Text(), nullable=False),
    sa.Column('subscription_event_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('place_event_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('lat', sa.Double(), nullable=True),
    sa.Column('lon', sa.Double(), nullable=True),
    sa.Column('recorded_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('msisdn', name=op.f('pk_absent_subscribers'))
    )
    for name in HOW_READ:
        op.add_column('tasks', sa.Column(name, sa.Text(), nullable=True))
    op.add_column('tasks', sa.Column('blank', sa.BigInteger(), server_default=sa.text('0'), nullable=False))


def downgrade() -> None:
    op.drop_column('tasks', 'blank')
    for name in reversed(HOW_READ):
        op.drop_column('tasks', name)
    op.drop_table('absent_subscribers')
    for name in reversed(TIMES):
        op.drop_column('subscribers', name)
