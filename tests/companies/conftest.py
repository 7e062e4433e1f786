"""Shops, packages and the commands that let their time pass."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from simulator.client import SimulatorClient
from tests.companies.shop import END, START, Run, Shop
from tests.time_machine import Clock

NewShop = Callable[..., Shop]
NewPackage = Callable[..., int]


@pytest.fixture
def clock(clock: Clock) -> Clock:
    """The test clock, at ten in the morning of 31 January 2027."""
    clock.set_to(START)
    return clock


@pytest.fixture
def new_shop(app: Flask, clock: Clock, simulator: SimulatorClient) -> NewShop:
    """Register a shop; `hears=True` has its callbacks sent to an inbox."""
    numbers = itertools.count(1)

    def register(*, hears: bool = False, **changes: Any) -> Shop:
        number = next(numbers)
        if hears:
            changes["callback_url"] = f"{simulator.base_url}/inbox/shop-{number}"
        return Shop(app, simulator, number, **changes)

    return register


@pytest.fixture
def shop(new_shop: NewShop) -> Shop:
    """A shop that has logged in, whose card is good."""
    made = new_shop()
    made.log_in()
    made.card()
    return made


@pytest.fixture
def new_package(operator: FlaskClient) -> NewPackage:
    """Make a package, monthly for 10.00 EUR unless it says otherwise, and return its id."""
    numbers = itertools.count(1)

    def make(**changes: Any) -> int:
        body = {"name": f"Package {next(numbers)}", "price": 1000, **changes}
        answer = operator.post("/api/packages", json=body)
        assert answer.status_code == 201, answer.get_json()
        made: int = answer.get_json()["data"]["id"]
        return made

    return make


@pytest.fixture
def run(app: Flask) -> Run:
    """Run a command of flask and return what it printed."""
    runner = app.test_cli_runner()

    def invoke(*arguments: str) -> str:
        result = runner.invoke(args=list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return invoke


@pytest.fixture
def passive(shop: Shop, new_package: NewPackage, clock: Clock, run: Run) -> Shop:
    """A shop whose three charges were refused, logged in again."""
    shop.card(then="canceled")
    shop.take(new_package())
    clock.set_to(END)
    for _ in range(3):
        run("autopayments-run", "--inline")
        clock.advance(days=1)
    shop.log_in()
    return shop
