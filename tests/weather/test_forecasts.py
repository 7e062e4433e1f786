"""Forecasts by the API, and what their changes mean for subscribers."""

import pytest
from flask.testing import FlaskClient

from project.weather.imports import runner
from tests.weather.world import ANKARA, FORECASTS, ISTANBUL, MOSCOW, Operator, counts, lines

BODY = {"gid": 7, "lat": 55.75, "lon": 37.62, "fcat24": "Sun, 5 C", "fcat48": "Rain"}
NEAR_MOSCOW = (55.8, 37.6)


def test_a_forecast_is_made_shown_changed_and_deleted(operator: FlaskClient) -> None:
    made = operator.post("/api/forecasts", json=BODY)
    assert made.status_code == 201
    assert made.json["data"] == BODY | {"is_active": True}
    assert operator.get("/api/forecasts/7").json["data"] == BODY | {"is_active": True}

    changed = operator.patch("/api/forecasts/7", json={"fcat24": "Snow", "is_active": False})
    assert changed.json["data"] == BODY | {"fcat24": "Snow", "is_active": False}

    replaced = operator.put(
        "/api/forecasts/7", json={"lat": 1, "lon": 2, "fcat24": "a", "fcat48": "b"}
    )
    assert replaced.json["data"]["is_active"] is True
    assert replaced.json["data"]["lat"] == 1

    assert operator.delete("/api/forecasts/7").status_code == 204
    assert operator.get("/api/forecasts/7").status_code == 404


@pytest.mark.parametrize(
    ("value", "kept"), [(12.5, "12.5"), (-3, "-3"), (0, "0"), ("3.250", "3.250")]
)
def test_a_forecast_may_be_a_number(operator: FlaskClient, value: object, kept: str) -> None:
    made = operator.post("/api/forecasts", json=BODY | {"fcat24": value, "fcat48": value})
    changed = operator.patch("/api/forecasts/7", json={"fcat24": value})

    assert made.status_code == 201
    assert (changed.json["data"]["fcat24"], changed.json["data"]["fcat48"]) == (kept, kept)
    for wrong in (True, None, [1], {}):
        body = BODY | {"gid": 8, "fcat24": wrong}
        assert operator.post("/api/forecasts", json=body).status_code == 400


def test_what_is_shown_of_a_forecast_may_be_put_back(operator: FlaskClient) -> None:
    operator.post("/api/forecasts", json=BODY)
    shown = operator.get("/api/forecasts/7").json["data"]

    assert operator.put("/api/forecasts/7", json=shown).json["data"] == shown
    other = operator.put("/api/forecasts/7", json=shown | {"gid": 8})
    assert other.json["data"] == shown, "the path says which it is"


def test_degrees_next_to_nothing_are_nothing(desk: Operator) -> None:
    desk.forecast(1, (5e-324, -1e-300))
    task = desk.imported("forecasts", lines(FORECASTS, "2,1e-320,1e-310,a,b"))

    assert counts(task) == (1, 0, 0, 0)
    assert desk.subscriber("+79161234567", (1e-320, 0.0))["forecast"]["gid"] == 1


def test_a_gid_is_taken_once(operator: FlaskClient) -> None:
    operator.post("/api/forecasts", json=BODY)

    assert operator.post("/api/forecasts", json=BODY).status_code == 409


@pytest.mark.parametrize(
    "wrong",
    [
        {"lat": 91},
        {"lat": -90.001},
        {"lon": 181},
        {"lat": "NaN"},
        {"lat": True},
        {"lon": None},
        {"gid": 0},
        {"gid": 2**63},
        {"gid": "seven"},
        {"fcat24": ""},
        {"fcat24": "x" * 201},
        {"fcat48": "a\u0000b"},
        {"is_active": "perhaps"},
        {"colour": "blue"},
    ],
    ids=str,
)
def test_bad_input_is_refused_by_name(operator: FlaskClient, wrong: dict[str, object]) -> None:
    answer = operator.post("/api/forecasts", json=BODY | wrong)

    assert answer.status_code == 400
    assert set(answer.json["errors"]) == set(wrong)


def test_the_list_is_in_pages_and_by_activity(desk: Operator) -> None:
    for gid in range(1, 6):
        desk.forecast(gid, MOSCOW, is_active=gid != 3)

    answer = desk.client.get("/api/forecasts?page=2&limit=2&is_active=true").json
    assert [one["gid"] for one in answer["data"]] == [4, 5]
    assert answer["pagination"]["total"] == 4
    hidden = desk.client.get("/api/forecasts?is_active=0").json["data"]
    assert [one["gid"] for one in hidden] == [3]


@pytest.mark.parametrize("path", ["/api/forecasts", "/forecasts/api/v1/forecasts"])
def test_the_older_path_answers_too(desk: Operator, path: str) -> None:
    desk.forecast(7, MOSCOW)

    assert desk.client.get(f"{path}/7/").json["data"]["gid"] == 7
    assert desk.client.get(f"{path}/").json["pagination"]["total"] == 1


class TestSubscribers:
    def gid_of(self, desk: Operator, msisdn: str = "+79161234567") -> int | None:
        runner.run()
        shown = desk.shown(msisdn)["forecast"]
        return shown and int(shown["gid"])

    def test_get_a_nearer_forecast_when_one_is_made(self, desk: Operator) -> None:
        desk.forecast(1, NEAR_MOSCOW)
        desk.subscriber("+79161234567")
        assert self.gid_of(desk) == 1

        desk.forecast(2, MOSCOW)

        assert self.gid_of(desk) == 2
        assert desk.shown("+79161234567")["forecast"]["distance_km"] == 0

    def test_get_the_next_one_when_theirs_is_deleted_moved_or_put_to_rest(
        self, desk: Operator
    ) -> None:
        for gid, place in enumerate((MOSCOW, MOSCOW, MOSCOW, NEAR_MOSCOW), start=1):
            desk.forecast(gid, place)
        desk.subscriber("+79161234567")
        assert self.gid_of(desk) == 1

        desk.client.delete("/api/forecasts/1")
        assert desk.shown("+79161234567")["forecast"] is None
        assert self.gid_of(desk) == 2
        desk.client.patch("/api/forecasts/2", json={"is_active": False})
        assert self.gid_of(desk) == 3
        desk.client.patch("/api/forecasts/3", json={"lat": 56.5})
        assert self.gid_of(desk) == 4
        desk.client.delete("/api/forecasts/4")
        assert self.gid_of(desk) == 3

    def test_are_not_looked_at_when_only_a_text_changes(self, desk: Operator) -> None:
        desk.forecast(1, MOSCOW)
        runner.run()
        before = desk.client.get("/api/tasks").json["pagination"]["total"]

        desk.client.patch("/api/forecasts/1", json={"fcat24": "Hail"})

        assert desk.client.get("/api/tasks").json["pagination"]["total"] == before

    def test_are_looked_at_once_for_many_changes(self, desk: Operator) -> None:
        for gid in range(1, 6):
            desk.forecast(gid, MOSCOW)

        listed = desk.client.get("/api/tasks?kind=assignments").json
        assert listed["pagination"]["total"] == 1

    def test_get_the_forecasts_of_a_file(self, desk: Operator) -> None:
        desk.forecast(1, NEAR_MOSCOW)
        desk.subscriber("+79161234567")
        desk.subscriber("+905321234567", ISTANBUL)
        rows = [
            f"5,{MOSCOW[0]},{MOSCOW[1]},Sun,Rain",
            f"6,{ISTANBUL[0]},{ISTANBUL[1]},Sun,Rain",
            f"7,{ANKARA[0]},{ANKARA[1]},Sun,Rain",
        ]

        task = desk.imported("forecasts", lines(FORECASTS, *rows))

        assert counts(task) == (3, 0, 0, 0)
        assert self.gid_of(desk) == 5
        assert self.gid_of(desk, "+905321234567") == 6


class TestFile:
    def test_changes_what_is_there_and_skips_what_is_the_same(self, desk: Operator) -> None:
        desk.forecast(1, MOSCOW)
        desk.forecast(2, MOSCOW, is_active=False)
        desk.forecast(3, MOSCOW)
        rows = (f"{gid},{MOSCOW[0]},{MOSCOW[1]},{text},Rain" for gid, text in
                ((1, "Sun"), (2, "Fog"), (4, "Sun")))  # fmt: skip

        task = desk.imported("forecasts", lines(FORECASTS, *rows))

        assert counts(task) == (1, 1, 1, 0)
        shown = [desk.client.get(f"/api/forecasts/{gid}").json["data"] for gid in (1, 2, 3, 4)]
        assert [one["fcat24"] for one in shown] == ["Sun", "Fog", "Sun", "Sun"]
        assert [one["is_active"] for one in shown] == [True, False, True, True]

    def test_may_say_whether_a_forecast_is_active(self, desk: Operator) -> None:
        content = lines(FORECASTS + ",is_active", "1,1,1,a,b,0", "2,1,1,a,b,TRUE", "3,1,1,a,b,hm")

        task = desk.imported("forecasts", content)

        assert desk.errors(task["id"]) == [(4, "is_active", "hm")]
        assert desk.client.get("/api/forecasts/1").json["data"]["is_active"] is False
        assert desk.client.get("/api/forecasts/2").json["data"]["is_active"] is True

    def test_bad_rows_are_recorded_and_stop_nobody(self, desk: Operator) -> None:
        content = lines(
            FORECASTS, "0,1,1,a,b", "x,1,1,a,b", "1,91,1,a,b", "2,1,181,a,b", "3,NaN,1,a,b",
            "4,1,1,,b", f"5,1,1,a,{'b' * 201}", "6,1,1,a,b,extra", "7,1,1", "8,1,1,a,b",
            "9,1_0,1,a,b", "10,inf,1,a,b", "+11,1,1,a,b",
        )  # fmt: skip

        task = desk.imported("forecasts", content)

        assert counts(task) == (1, 0, 0, 12)
        assert [(row, column) for row, column, _ in desk.errors(task["id"])] == [
            (2, "gid"), (3, "gid"), (4, "lat"), (5, "lon"), (6, "lat"), (7, "fcat24"),
            (8, "fcat48"), (9, ""), (10, "fcat24"), (12, "lat"), (13, "lat"), (14, "gid"),
        ]  # fmt: skip
