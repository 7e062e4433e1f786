"""Things that another thread makes ahead of their use."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from flask import Flask

from project.weather.imports.prefetch import AHEAD, ahead


class TroubleError(Exception):
    """Something that goes wrong in the other thread."""


def numbers(made: list[int], *, fails_at: int | None = None) -> Iterator[int]:
    for number in range(1000):
        if number == fails_at:
            raise TroubleError
        made.append(number)
        yield number


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "ahead"]


def test_everything_comes_in_its_order(app: Flask) -> None:
    assert list(ahead(numbers([]))) == list(range(1000))
    assert threads() == []


def test_no_more_is_made_than_a_few_ahead(app: Flask) -> None:
    made: list[int] = []
    with closing(ahead(numbers(made))) as found:
        for number in found:
            # One in hand, those that wait, and one that finds no room yet.
            assert len(made) <= number + 2 + AHEAD
            if number == 10:
                break

    assert threads() == []
    assert len(made) <= 10 + 2 + AHEAD


def test_trouble_comes_after_what_was_made_before_it(app: Flask) -> None:
    found = ahead(numbers([], fails_at=5))

    assert [next(found) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(TroubleError):
        next(found)
    assert threads() == []
