"""Every click of a request by itself: one that is bad costs none of its neighbours anything."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from project.clicks.intake import inbox
from project.core import clock
from project.extensions import db
from tests.api.problems import assert_problem
from tests.clicks.conftest import BATCH, Sender, drain, value
from tests.time_machine import Clock

OFFSETS = st.integers(-(23 * 60 + 59), 23 * 60 + 59)
DEEP = "[" * 3_000 + "]" * 3_000
GOOD = st.builds(
    dict,
    offset=OFFSETS,
    age_minutes=st.integers(0, 60 * 24 * 80),
    fraction=st.sampled_from(["", ".5", ".123456789", ".999999"]),
    separator=st.sampled_from("Tt"),
    # Whatever stands in fields that are not known is passed over.
    extra=st.sampled_from(["1", '"\\ud83d"', "1e400", "9" * 5_000, DEEP, '{"a": [[[null]]]}']),
)
BAD_FIELDS = st.sampled_from(
    [
        ("click_id", '"\\ud83d"'),
        ("click_id", '"\\udc00 a"'),
        ("click_id", '"\\u0000"'),
        ("click_id", "7"),
        ("click_id", '""'),
        ("click_id", json.dumps("x" * 100_000)),
        ("source", '"\\ud83d"'),
        ("source", "{}"),
        ("signature", '"\\ud83d"'),
        ("signature", "[]"),
        ("offer_id", '"\\ud83d"'),
        ("offer_id", "9" * 5_000),
        ("offer_id", "1e400"),
        ("offer_id", "-1"),
        ("offer_id", "NaN"),
        ("offer_id", "-Infinity"),
        ("offer_id", "true"),
        ("offer_id", DEEP),
        ("timestamp", '"\\ud83d"'),
        ("timestamp", '"2026-11-25T23:59:60Z"'),
        ("timestamp", '"2026-11-25T12:00:00+24:00"'),
        ("timestamp", '"2026-11-25T12:00:00"'),
        ("timestamp", '"0001-01-01T00:00:00+23:59"'),
        ("timestamp", '"9999-12-31T23:59:59.9999999-23:59"'),
        ("timestamp", "1e400"),
    ]
)
NO_CLICKS = st.sampled_from(["1", "null", '"\\ud83d"', "[]", "{}", "NaN", DEEP, '{"a": {}}'])
ITEMS = st.lists(st.one_of(GOOD, BAD_FIELDS, NO_CLICKS), min_size=1, max_size=12)


def written(number: int, made: dict[str, Any] | tuple[str, str] | str) -> tuple[str, str]:
    """Return an item of a batch as JSON text, and its moment in UTC if it is a good click."""
    if isinstance(made, str):
        return made, ""
    zone, minutes, moment_format = UTC, 1, ""
    if isinstance(made, dict):
        zone = timezone(timedelta(minutes=made["offset"]))
        minutes = made["age_minutes"] + 1
        moment_format = made["fraction"]
    moment = (clock.now() - timedelta(minutes=minutes)).replace(microsecond=0).astimezone(zone)
    stamp = f"{moment:%Y-%m-%dT%H:%M:%S}{moment_format}{moment.isoformat()[19:]}"
    fields = {
        "click_id": f'"c-{number}"',
        "offer_id": "7",
        "source": '"google"',
        "timestamp": json.dumps(stamp),
    }
    if isinstance(made, tuple):
        fields[made[0]] = made[1]
        return _object(fields), ""
    fields["campaign"] = made["extra"]
    fields["timestamp"] = fields["timestamp"].replace("T", made["separator"])
    return _object(fields), moment.astimezone(UTC).isoformat()


def _object(fields: dict[str, str]) -> str:
    return "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"


def emptied() -> None:
    with db.engine.begin() as connection:
        connection.execute(text("DELETE FROM click_inbox"))
    inbox.backlog.forget()


def stored() -> dict[str, datetime]:
    with db.engine.begin() as connection:
        rows = connection.execute(
            text("SELECT unnest(click_ids), unnest(clicked_at) FROM click_inbox")
        ).all()
    return {click_id: moment.astimezone(UTC) for click_id, moment in rows}


@settings(suppress_health_check=list(HealthCheck), max_examples=150)
@given(items=ITEMS)
@example(
    items=[
        ("click_id", '"\\ud83d"'),
        {"offset": 960, "age_minutes": 5, "fraction": "", "separator": "T", "extra": "1"},
    ]
)
def test_of_any_batch_the_good_are_stored_in_utc_and_the_bad_are_named(
    sender: Sender, items: list[Any]
) -> None:
    emptied()
    texts = [written(number, made) for number, made in enumerate(items)]
    good = {f"c-{number}": moment for number, (_, moment) in enumerate(texts) if moment}
    bad = [number for number, (_, moment) in enumerate(texts) if not moment]
    body = '{"clicks": [' + ", ".join(item for item, _ in texts) + "]}"

    answer = sender.send(body.encode(), path=BATCH)

    assert answer.status_code == 202
    said = answer.get_json()
    assert (said["processed"], said["failed"], said["total"]) == (len(good), len(bad), len(items))
    assert [item["index"] for item in said["errors"]] == bad
    for item in said["errors"]:
        made = items[item["index"]]
        assert made[0] in item["errors"] if isinstance(made, tuple) else item["errors"]
    found = stored()
    assert set(found) == set(good)
    for click_id, moment in good.items():
        assert abs(found[click_id] - datetime.fromisoformat(moment)) <= timedelta(seconds=1)


@settings(suppress_health_check=list(HealthCheck), max_examples=60)
@given(made=st.one_of(GOOD, BAD_FIELDS, NO_CLICKS))
def test_a_click_alone_fares_as_in_a_batch(sender: Sender, made: Any) -> None:
    emptied()
    item, moment = written(1, made)

    alone = sender.send(item.encode())
    beside = sender.send(f'{{"clicks": [NaN, {item}]}}'.encode(), path=BATCH).get_json()

    assert alone.status_code == (202 if moment else 400)
    assert beside["processed"] == (1 if moment else 0)
    if not moment:
        assert beside["errors"][1]["errors"] == alone.get_json()["errors"]


@pytest.mark.parametrize("first", ['{"click_id": 1}', "GOOD"])
@pytest.mark.parametrize(
    "rest", [", {]}", ", ]}", "]", "]} x", ', {"a": }]}', ', {"a": "', ", 1 2]}", "]]}", ", {]}}"]
)
def test_broken_syntax_is_no_batch_whatever_came_before(
    sender: Sender, first: str, rest: str
) -> None:
    item = json.dumps(sender.click("c-1")) if first == "GOOD" else first

    answer = sender.send(f'{{"clicks": [{item}{rest}'.encode(), path=BATCH)

    assert_problem(answer, 400)
    assert "not valid JSON" in answer.get_json()["detail"]
    assert stored() == {}


def test_bytes_that_are_no_text_cost_only_their_own_click(sender: Sender) -> None:
    batch = json.dumps({"clicks": [sender.click("c-1"), sender.click("BYTE")]}).encode()

    said = sender.send(batch.replace(b"BYTE", b"\xff\xfe"), path=BATCH).get_json()

    assert (said["processed"], [item["index"] for item in said["errors"]]) == (1, [1])
    assert list(said["errors"][0]["errors"]) == ["click_id"]


@pytest.mark.parametrize("offset", ["+16:00", "-16:00", "+23:59", "-23:59", "-00:00", "z"])
def test_a_click_of_any_offset_counts_on_its_day_in_utc(
    sender: Sender, clock: Clock, offset: str
) -> None:
    clock.set_to(datetime(2027, 3, 10, 12, 0, tzinfo=UTC))
    moment = "2027-03-09t12:00:00"

    assert sender.send(sender.click(timestamp=moment + offset)).status_code == 202
    drain()

    zone = "UTC" if offset == "z" else offset
    expected = datetime.fromisoformat(moment.upper() + ("+00:00" if zone == "UTC" else zone))
    assert value("SELECT clicked_at FROM clicks") == expected
    assert value("SELECT day FROM clicks_daily") == expected.astimezone(UTC).date()
