"""One transaction per request and per job, opened here; jobs leave only after its commit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from flask import Flask, request
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from project.core.fast_path import FAILURE
from project.extensions import db

_HOOKS = "after_commit_hooks"
View = TypeVar("View", bound=Callable[..., Any])


@contextmanager
def transaction(*, read_only: bool = False) -> Iterator[Session]:
    """Commit at the end, roll back on any error; inside another transaction, be part of it.

    Hooks given to `after_commit` run once the commit has succeeded and are forgotten otherwise.
    `read_only` reads each statement by itself, which saves the round trips of BEGIN and COMMIT.
    """
    session = db.session()
    if _HOOKS in session.info:
        yield session
        return
    if read_only:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    hooks: list[Callable[[], object]] = []
    session.info[_HOOKS] = hooks
    try:
        yield session
        session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        del session.info[_HOOKS]
    for hook in hooks:
        hook()


def is_open() -> bool:
    """Tell whether a transaction is under way here."""
    return _HOOKS in db.session().info


def after_commit(hook: Callable[[], object]) -> None:
    """Run the hook after the commit of the present transaction, or at once if there is none."""
    hooks = db.session().info.get(_HOOKS)
    if hooks is None:
        hook()
    else:
        hooks.append(hook)


def own_transactions(view: View) -> View:
    """Mark a view that opens its transactions itself, because it calls outside between them."""
    view.own_transactions = True  # type: ignore[attr-defined]
    return view


class TransactionalFlask(Flask):
    """Flask whose every view runs in one transaction, unless marked `own_transactions`."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the view as it is: none is a coroutine, and to find that out takes time."""
        return func

    def dispatch_request(self) -> ResponseReturnValue:
        """Run the view, and commit before its answer leaves; raise what has failed before."""
        failure: Exception | None = request.environ.get(FAILURE)
        if failure is not None:
            raise failure
        endpoint = request.endpoint
        view = self.view_functions.get(endpoint) if endpoint else None
        if view is None or getattr(view, "own_transactions", False):
            return super().dispatch_request()
        with transaction(read_only=request.method in ("GET", "HEAD")):
            return super().dispatch_request()
