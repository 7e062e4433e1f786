"""Those who work with the forecast SMS in its tests."""

import pytest
from flask.testing import FlaskClient

from tests.weather.world import Operator


@pytest.fixture
def desk(operator: FlaskClient) -> Operator:
    """An operator of the forecast SMS."""
    return Operator(operator)
