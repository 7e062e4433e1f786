"""Find forecasts by a B-tree, which costs the same whatever the order of their places."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_forecasts_place",
        "forecasts",
        [sa.literal_column("floor(lat)"), "lon"],
        postgresql_where=sa.text("is_active"),
    )
    op.drop_index("ix_forecasts_earth", table_name="forecasts")


def downgrade() -> None:
    op.create_index(
        "ix_forecasts_earth",
        "forecasts",
        [sa.literal_column("ll_to_earth(lat, lon)")],
        postgresql_using="gist",
        postgresql_where=sa.text("is_active"),
    )
    op.drop_index("ix_forecasts_place", table_name="forecasts")
