"""Subscribers by the API."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from project.core import clock
from project.core.db.transaction import transaction
from project.extensions import db
from project.weather.models import SmsStop, TaskError
from tests.weather.world import ADDITIONS, ISTANBUL, MOSCOW, Operator, addition, counts, lines

BODY = {"msisdn": "+79161234567", "lat": MOSCOW[0], "lon": MOSCOW[1], "plan": "daily"}
PATH = "/api/subscribers/+79161234567"


def test_a_subscriber_is_added_with_its_forecast_zone_and_language(desk: Operator) -> None:
    desk.forecast(7, (55.8, 37.6))

    shown = desk.subscriber("79161234567")

    assert shown["msisdn"] == "+79161234567"
    assert shown["forecast"]["gid"] == 7
    assert shown["forecast"]["distance_km"] == pytest.approx(5.032, abs=0.01)
    assert (shown["zone"], shown["language"]) == ("Europe/Moscow", "ru")
    assert (shown["state"], shown["plan"], shown["last_message"]) == ("active", "daily", None)
    assert desk.client.get("/api/subscribers/79161234567").json["data"] == shown


def test_without_a_forecast_near_enough_there_is_none(desk: Operator) -> None:
    desk.forecast(7, ISTANBUL)

    assert desk.subscriber("+79161234567")["forecast"] is None


def test_one_that_is_there_is_a_conflict(desk: Operator) -> None:
    desk.subscriber("+79161234567")

    assert desk.client.post("/api/subscribers", json=BODY).status_code == 409


def test_one_that_left_starts_again(desk: Operator) -> None:
    desk.subscriber("+79161234567")
    left = desk.client.patch(PATH, json={"state": "canceled"}).json["data"]
    assert left["state"] == "canceled"
    assert left["canceled_at"] is not None

    again = desk.subscriber("+79161234567", ISTANBUL, "weekly")

    assert (again["state"], again["plan"], again["canceled_at"]) == ("active", "weekly", None)
    assert again["zone"] == "Europe/Istanbul"


def test_a_number_that_said_stop_never_comes_back(desk: Operator) -> None:
    desk.subscriber("+79161234567")
    desk.client.delete(PATH)
    with transaction():
        db.session.add(SmsStop(msisdn="+79161234567", text="STOP", received_at=clock.now()))

    answer = desk.client.post("/api/subscribers", json=BODY)

    assert answer.status_code == 409
    assert answer.json["errors"] == {"msisdn": ["Said STOP."]}


def test_one_that_moves_gets_the_forecast_of_its_new_place(desk: Operator) -> None:
    desk.forecast(1, MOSCOW)
    desk.forecast(2, ISTANBUL)
    assert desk.subscriber("+79161234567")["forecast"]["gid"] == 1

    body = {"lat": ISTANBUL[0], "lon": ISTANBUL[1]}
    moved = desk.client.patch(PATH, json=body).json["data"]

    assert moved["forecast"] == {"gid": 2, "distance_km": 0}
    assert moved["zone"] == "Europe/Istanbul"
    assert moved["plan"] == "daily"


def test_put_says_everything_anew(desk: Operator) -> None:
    desk.subscriber("+79161234567")

    body = {"lat": ISTANBUL[0], "lon": ISTANBUL[1], "plan": "weekly", "state": "canceled"}
    shown = desk.client.put(PATH, json=body).json["data"]

    assert (shown["plan"], shown["state"], shown["zone"]) == (
        "weekly",
        "canceled",
        "Europe/Istanbul",
    )
    assert desk.client.put(PATH, json={"plan": "daily"}).status_code == 400


def test_what_is_shown_of_a_subscriber_may_be_put_back(desk: Operator) -> None:
    desk.subscriber("+79161234567")
    shown = desk.client.get(PATH).json["data"]

    again = desk.client.put(PATH, json=shown)

    assert again.status_code == 200
    assert again.json["data"] == shown
    assert desk.client.put(PATH, json=shown | {"colour": "red"}).status_code == 400


def test_the_plan_may_be_named_as_in_files(desk: Operator) -> None:
    place = {"lat": 41.0, "lon": 28.9}
    body = {"msisdn": "+79161234567", **place, "original_sub_plan": "weekly"}

    assert desk.client.post("/api/subscribers", json=body).json["data"]["plan"] == "weekly"
    changed = desk.client.patch(PATH, json={"original_sub_plan": "daily"})
    assert changed.json["data"]["plan"] == "daily"
    twice = desk.client.post("/api/subscribers", json=body | {"plan": "daily"})
    assert (twice.status_code, list(twice.json["errors"])) == (400, ["plan"])


def test_a_deleted_subscriber_is_gone(desk: Operator) -> None:
    desk.subscriber("+79161234567")

    assert desk.client.delete(PATH).status_code == 204
    assert desk.client.get(PATH).status_code == 404
    assert desk.client.delete(PATH).status_code == 404
    assert desk.subscriber("+79161234567")["state"] == "active"


def test_the_list_is_by_plan_state_and_forecast(desk: Operator) -> None:
    desk.forecast(1, MOSCOW)
    desk.forecast(2, ISTANBUL)
    desk.subscriber("+79160000001")
    desk.subscriber("+79160000002", plan="weekly")
    desk.subscriber("+905320000003", ISTANBUL)
    desk.client.patch("/api/subscribers/+79160000002", json={"state": "canceled"})

    def listed(query: str) -> list[str]:
        answer = desk.client.get(f"/api/subscribers{query}").json
        return [one["msisdn"] for one in answer["data"]]

    assert listed("") == ["+905320000003", "+79160000002", "+79160000001"]
    assert listed("?plan=weekly") == listed("?state=canceled") == ["+79160000002"]
    assert listed("?forecast=2") == listed("?msisdn=%2B905320000003") == ["+905320000003"]
    assert listed("?msisdn=+905320000003") == ["+905320000003"]
    assert listed("?plan=daily&state=active&limit=1&page=2") == ["+79160000001"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/subscribers",
        "/subscriptions/api/v1/subscriptions",
        "/subscription/api/v1/subscription",
    ],
)
def test_the_older_paths_answer_too(desk: Operator, path: str) -> None:
    assert desk.client.post(f"{path}/", json=BODY).status_code == 201
    assert desk.client.get(f"{path}/79161234567/").json["data"]["plan"] == "daily"
    asked = desk.client.get(f"{path}/task_status/?task_id=x")
    assert asked.json["task_status"] == "EXPIRED"


@pytest.mark.parametrize(
    "wrong",
    [
        {"msisdn": "7916abc4567"},
        {"msisdn": "+7916"},
        {"msisdn": 79161234567.5},
        {"msisdn": ""},
        {"lat": 91},
        {"lon": -181},
        {"lat": "NaN"},
        {"lon": "Infinity"},
        {"plan": "yearly"},
        {"plan": 1},
        {"state": "stopped"},
    ],
    ids=str,
)
def test_bad_input_is_refused_by_name(operator: FlaskClient, wrong: dict[str, object]) -> None:
    answer = operator.post("/api/subscribers", json=BODY | wrong)

    assert answer.status_code == 400
    assert set(answer.json["errors"]) == set(wrong)


@pytest.mark.parametrize(
    ("msisdn", "words"),
    [
        ("9031110022", "Too long or too short"),
        ("5321110022", "country code"),
        ("2025550143", "country code"),
        (" 2025550143", "country code"),
        ("-905321110022", "Not a number"),
        ("+-905321110022", "Not a number"),
        ("(-) 905321110022", "Not a number"),
        ("+79031110022", None),
        ("79031110022", None),
        (" 905321110022", None),
        ("+4930901820", None),
        ("37251234567", None),
        ("+79099", "Too long or too short"),
        ("+448712345678", "premium rate"),
        ("+881612345678", "satellite"),
    ],
)
def test_a_number_is_served_or_refused_alike_by_api_and_by_file(
    desk: Operator, msisdn: str, words: str | None
) -> None:
    task = desk.imported("additions", lines(ADDITIONS, addition(msisdn)))
    answer = desk.client.post("/api/subscribers", json=BODY | {"msisdn": msisdn})

    if words is None:
        assert (counts(task), answer.status_code) == ((1, 0, 0, 0), 409)
    else:
        assert (counts(task), answer.status_code) == ((0, 0, 0, 1), 400)
        with db.engine.connect() as connection:
            assert words in connection.scalar(select(TaskError.reason))
        assert words in str(answer.json["errors"]["msisdn"])


@pytest.mark.parametrize("msisdn", ["0000", "+00000", "123456", "99999999999999999"])
def test_a_path_that_names_no_number_is_not_found(operator: FlaskClient, msisdn: str) -> None:
    assert operator.get(f"/api/subscribers/{msisdn}").status_code == 404


def test_stopped_is_no_state_to_ask_for(desk: Operator) -> None:
    desk.subscriber("+79161234567")

    assert desk.client.patch(PATH, json={"state": "stopped"}).status_code == 400
    assert desk.client.patch(PATH, json={}).status_code == 400
