"""Which migration the database stands at, and which one this code wants."""

from functools import lru_cache

from sqlalchemy import text

from project.config.kernel import MIGRATIONS_DIR
from project.core.db.transaction import transaction
from project.extensions import db


def current_revision() -> str | None:
    """Return the migration the database stands at; None if it was never migrated."""
    with transaction():
        exists = db.session.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL"))
        if not exists:
            return None
        found = db.session.scalar(text("SELECT version_num FROM alembic_version"))
        return None if found is None else str(found)


@lru_cache(maxsize=1)
def head_revision() -> str | None:
    """Return the newest migration of this code; they are numbered in their order."""
    # Alembic would import every one of them to say the same.
    files = (MIGRATIONS_DIR / "versions").glob("[0-9]*_*.py")
    return max((path.name.partition("_")[0] for path in files), default=None)
