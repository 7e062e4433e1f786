"""Sources that sign with a secret of their own."""

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select

from project.clicks.models import MAX_SOURCE_LENGTH, ClickSource
from project.core.errors import BadRequest, Conflict, NotFound
from project.core.fast_path.reading import PreparedQuery
from project.core.secrets import decrypt, encrypt, new_token
from project.extensions import db

_SEALED = PreparedQuery(
    select(func.array_agg(ClickSource.name), func.array_agg(ClickSource.sealed_secret)).having(
        func.count() > 0
    )
)


def add_source(name: str) -> str:
    """Give a source its own secret and return it; it cannot be shown again.

    Raises BadRequest for a name that no click can have, Conflict if it has a secret.
    """
    if not 0 < len(name) <= MAX_SOURCE_LENGTH or not name.isprintable():
        raise BadRequest(f"A source's name has 1 to {MAX_SOURCE_LENGTH} printable characters.")
    if db.session.get(ClickSource, name) is not None:
        raise Conflict(f"{name} has a secret already. Remove it first to give it another.")
    secret = new_token("clk")
    db.session.add(ClickSource(name=name, sealed_secret=encrypt(secret)))
    return secret


def remove_source(name: str) -> None:
    """Take a source's secret away: from then on the common one signs for it. Raises NotFound."""
    source = db.session.get(ClickSource, name)
    if source is None:
        raise NotFound(f"No source called {name} has a secret of its own.")
    db.session.delete(source)


def all_sources() -> Sequence[ClickSource]:
    """Return every source with a secret of its own, by name."""
    return db.session.scalars(select(ClickSource).order_by(ClickSource.name)).all()


async def own_secrets() -> Mapping[str, str]:
    """Return the secret of each source that has one."""
    names, sealed = await _SEALED.read({}) or ([], [])
    return {name: decrypt(secret) for name, secret in zip(names, sealed, strict=True)}
