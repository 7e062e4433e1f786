"""What the tests of clicks share."""

import pytest
from flask import Flask

from tests.clicks.records import Clicks


@pytest.fixture
def clicks(app: Flask) -> Clicks:
    """Clicks that are counted already, and their sums."""
    return Clicks()
