"""unsent callbacks and former secrets

Revision ID: 0013
Revises: 0012
Create Date: 2026-11-25 02:30:00.000000

"""
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0013'
down_revision = '0012'
branch_labels = None
depends_on = None

LIST_THE_FORMER = """
    UPDATE endpoints SET former_secrets = jsonb_build_array(jsonb_build_object(
        'sealed', convert_from(former_secret, 'UTF8'), 'until', former_secret_until))
    WHERE former_secret IS NOT NULL AND former_secret_until IS NOT NULL
"""
KEEP_THE_NEWEST = """
    UPDATE endpoints SET former_secret = convert_to(former_secrets -> 0 ->> 'sealed', 'UTF8'),
        former_secret_until = (former_secrets -> 0 ->> 'until')::timestamptz
    WHERE former_secrets <> '[]'
"""


def upgrade() -> None:
    # Since when a callback could not be sent, for a reason that may be ours.
    op.add_column('callbacks', sa.Column('unsent_since', sa.DateTime(timezone=True)))
    op.add_column('endpoints', sa.Column('former_secrets', postgresql.JSONB(), nullable=False,
        server_default=sa.text("'[]'")))
    op.execute(LIST_THE_FORMER)
    op.drop_column('endpoints', 'former_secret_until')
    op.drop_column('endpoints', 'former_secret')


def downgrade() -> None:
    op.add_column('endpoints', sa.Column('former_secret', sa.LargeBinary()))
    op.add_column('endpoints', sa.Column('former_secret_until', sa.DateTime(timezone=True)))
    op.execute(KEEP_THE_NEWEST)
    op.drop_column('endpoints', 'former_secrets')
    op.drop_column('callbacks', 'unsent_since')
