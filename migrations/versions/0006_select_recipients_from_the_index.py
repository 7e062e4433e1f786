"""select recipients from the index

Revision ID: 0006
Revises: 0005
Create Date: 2026-11-21 16:05:00.000000

"""
import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None

NAME = 'ix_subscribers_next_message'
COLUMNS = ['next_message_at', 'id']
PLANNED = sa.text('next_message_at IS NOT NULL')


def upgrade() -> None:
    op.drop_index(NAME, table_name='subscribers', postgresql_where=PLANNED)
    op.create_index(NAME, 'subscribers', COLUMNS, unique=False, postgresql_where=PLANNED,
        postgresql_include=['msisdn', 'zone', 'language', 'state', 'paid_until', 'forecast_gid'])
    # An index is read without its table only as far as vacuum has been there.
    op.execute('ALTER TABLE subscribers SET (autovacuum_vacuum_scale_factor = 0.02)')


def downgrade() -> None:
    op.execute('ALTER TABLE subscribers RESET (autovacuum_vacuum_scale_factor)')
    op.drop_index(NAME, table_name='subscribers', postgresql_where=PLANNED)
    op.create_index(NAME, 'subscribers', COLUMNS, unique=False, postgresql_where=PLANNED)
