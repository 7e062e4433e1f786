"""Ways of the older services: off unless COMPATIBILITY names them, and then beside our own."""

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import insert

from project.areas import read_settings
from project.clicks.models import ClicksDaily
from project.config.declare import ConfigurationError
from project.core import clock
from project.core.db.transaction import transaction
from tests.conftest import ChangeSettings
from tests.factories import Factory


@pytest.fixture
def days() -> dict[str, str]:
    """Two days: the older one with the more clicks."""
    today = clock.now().date()
    yesterday = today - timedelta(days=1)
    rows = [
        {"day": today, "offer_id": 1, "source": "a", "clicks": 2},
        {"day": yesterday, "offer_id": 2, "source": "b", "clicks": 9},
    ]
    with transaction() as session:
        session.execute(insert(ClicksDaily), rows)
    return {"start_date": str(yesterday), "end_date": str(today)}


def counts(answer: Any) -> list[int]:
    return [row["clicks_count"] for row in answer.get_json()["data"]]


def test_the_report_is_ordered_by_clicks_if_nothing_else_is_asked(
    operator: FlaskClient, change_settings: ChangeSettings, days: dict[str, str]
) -> None:
    assert counts(operator.get("/api/reports/aggregated", query_string=days)) == [2, 9]
    change_settings(compatibility=frozenset({"report-order"}))
    usual = operator.get("/api/reports/aggregated", query_string=days)
    assert counts(usual) == [9, 2]
    assert usual.get_json()["sorting"] == {"sort_by": "clicks_count", "sort_direction": "desc"}
    asked = days | {"sort_by": "date"}
    assert counts(operator.get("/api/reports/aggregated", query_string=asked)) == [2, 9]


def test_an_empty_filter_asks_for_everything(
    operator: FlaskClient, change_settings: ChangeSettings, days: dict[str, str]
) -> None:
    form = days | {"offer_id": "", "source": "", "sort_by": ""}
    assert operator.get("/api/reports/aggregated", query_string=form).status_code == 400
    change_settings(compatibility=frozenset({"empty-filters"}))
    assert counts(operator.get("/api/reports/aggregated", query_string=form)) == [2, 9]
    wrong = days | {"offer_id": "x"}
    assert operator.get("/api/reports/aggregated", query_string=wrong).status_code == 400


def test_a_problem_says_error_and_details_too(
    operator: FlaskClient, change_settings: ChangeSettings
) -> None:
    assert "error" not in operator.get("/api/reports/summary").get_json()
    change_settings(compatibility=frozenset({"error-words"}))
    problem = operator.get("/api/reports/summary").get_json()
    assert problem["error"] == problem["message"] == problem["detail"]
    assert problem["details"] == problem["errors"]
    missing = operator.get("/api/apps/77").get_json()
    assert (missing["error"], missing["details"]) == (missing["detail"], {})


def test_a_uid_may_be_a_number(
    client: FlaskClient, change_settings: ChangeSettings, factory: Factory
) -> None:
    body = {"uid": 347732, "app_id": factory.app().id, "language": "de", "os": "ios"}
    assert client.post("/api/devices/register", json=body).status_code == 400
    change_settings(compatibility=frozenset({"form-ids"}))
    assert client.post("/api/devices/register", json=body).status_code == 200
    assert client.post("/api/devices/register", json=body | {"uid": True}).status_code == 400


def test_a_switch_that_there_is_not_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPATIBILITY", "report-order, nicer-words")
    with pytest.raises(ConfigurationError, match="COMPATIBILITY names nicer-words"):
        read_settings()
