"""messages that were never sent

Revision ID: 0016
Revises: 0015
Create Date: 2026-11-25 02:40:00.000000

"""
import sqlalchemy as sa
from alembic import op

revision = '0016'
down_revision = '0015'
branch_labels = None
depends_on = None

NAME = 'uq_messages_msisdn_local_date'
# Of those that were surely not sent it is NULL, and NULLs differ from each other.
ONLY_SENT = 'NULLIF(never_sent, true)'


def upgrade() -> None:
    op.add_column('messages', sa.Column('never_sent', sa.Boolean(), nullable=False,
        server_default=sa.text('false')))
    # Of older days it makes no difference.
    op.execute("UPDATE messages SET never_sent = true WHERE state = 'failed' AND gateway IS NULL"
        " AND local_date >= current_date - 1")
    op.drop_constraint(op.f(NAME), 'messages', type_='unique')
    op.create_index(NAME, 'messages', ['msisdn', 'local_date', sa.text(ONLY_SENT)],
        unique=True)


def downgrade() -> None:
    # Of a number and a day, the one that was sent stays, or the last that was not.
    op.execute('DELETE FROM messages USING messages AS better'
        ' WHERE better.msisdn = messages.msisdn AND better.local_date = messages.local_date'
        ' AND messages.never_sent AND (NOT better.never_sent OR better.id > messages.id)')
    op.drop_index(NAME, table_name='messages')
    op.create_unique_constraint(op.f(NAME), 'messages', ['msisdn', 'local_date'])
    op.drop_column('messages', 'never_sent')
