"""What the tests of the kernel share: other settings, threads, a table of work, commands."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from structlog.testing import capture_logs

from project.extensions import db
from tests.core.things import Things

InThreads = Callable[..., list[Any]]


@pytest.fixture
def in_threads(app: Flask) -> InThreads:
    """Run functions at once, each in a thread and application context of its own."""

    def run(*functions: Callable[[], Any]) -> list[Any]:
        def call(function: Callable[[], Any]) -> Any:
            with app.app_context():
                return function()

        with ThreadPoolExecutor(len(functions)) as pool:
            return list(pool.map(call, functions))

    return run


@pytest.fixture
def things(app: Flask) -> Iterator[Things]:
    """A table of claimable rows that no domain knows of."""
    made = Things()
    made.create()
    yield made
    db.session.rollback()
    made.drop()


@pytest.fixture
def logs() -> Iterator[Sequence[Any]]:
    """What is logged from now on."""
    with capture_logs() as captured:
        yield captured
