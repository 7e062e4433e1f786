"""Lists come in pages, and ask for nothing that is not there."""

import pytest
from flask.testing import FlaskClient

from tests.factories import Factory


@pytest.fixture
def five_apps(factory: Factory) -> list[int]:
    return [factory.app().id for _ in range(5)]


@pytest.mark.parametrize(
    ("query", "shown", "pagination"),
    [
        ("", [0, 1, 2, 3, 4], (1, 100, 5, 1)),
        ("limit=2", [0, 1], (1, 2, 5, 3)),
        ("limit=2&page=2", [2, 3], (2, 2, 5, 3)),
        ("limit=2&page=3", [4], (3, 2, 5, 3)),
        ("limit=2&page=4", [], (4, 2, 5, 3)),
        ("limit=5", [0, 1, 2, 3, 4], (1, 5, 5, 1)),
        ("limit=1000", [0, 1, 2, 3, 4], (1, 1000, 5, 1)),
        ("page=1000000&limit=1000", [], (1_000_000, 1000, 5, 1)),
    ],
)
def test_pages(
    operator: FlaskClient,
    five_apps: list[int],
    query: str,
    shown: list[int],
    pagination: tuple[int, int, int, int],
) -> None:
    told = operator.get(f"/api/apps?{query}").get_json()

    assert [row["id"] for row in told["data"]] == [five_apps[position] for position in shown]
    assert told["status"] == "success"
    names = ("current_page", "per_page", "total", "last_page")
    assert told["pagination"] == dict(zip(names, pagination, strict=True))


def test_an_empty_list_has_one_page(operator: FlaskClient) -> None:
    told = operator.get("/api/apps").get_json()

    assert told["data"] == []
    assert told["pagination"] == {
        "current_page": 1,
        "per_page": 100,
        "total": 0,
        "last_page": 1,
    }


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=-1",
        "page=abc",
        "page=",
        "page=1.5",
        "page=1e3",
        "page=1000001",
        "page=" + "9" * 5000,
        "page=%00",
        "page=1&page=2",
        "limit=0",
        "limit=-5",
        "limit=1001",
        "limit=all",
        "limit=%31%00",
        "page=1%20OR%201=1",
    ],
)
def test_pages_that_cannot_be(operator: FlaskClient, query: str) -> None:
    answer = operator.get(f"/api/apps?{query}")

    assert answer.status_code == 400
    assert answer.mimetype == "application/problem+json"
