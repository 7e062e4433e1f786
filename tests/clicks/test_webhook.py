"""The webhook: what is taken, what is refused and how it is said."""

import random
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from project.clicks.intake import inbox
from project.core import clock as product_clock
from tests.api.problems import assert_problem
from tests.clicks.conftest import BATCH, WEBHOOK, Sender, counted, drain, value
from tests.conftest import ChangeSettings
from tests.time_machine import Clock


def in_inbox() -> int:
    return int(value("SELECT coalesce(sum(size), 0) FROM click_inbox"))


def test_an_accepted_click_is_on_disk_before_the_answer(sender: Sender) -> None:
    answer = sender.send(sender.click("c-1"))
    assert answer.status_code == 202
    assert answer.get_json() == {"status": "success", "message": "Accepted.", "click_id": "c-1"}
    assert in_inbox() == 1


def test_a_click_is_counted_once_however_often_it_comes(sender: Sender) -> None:
    for _ in range(3):
        assert sender.send(sender.click("c-1")).status_code == 202
    drain()
    assert sender.send(sender.click("c-1")).status_code == 202
    assert drain().new == 0
    assert value("SELECT count(*) FROM clicks") == 1
    assert [row[3] for row in counted()] == [1]


def test_a_click_id_may_be_a_number_where_the_older_senders_are_kept(
    sender: Sender, change_settings: ChangeSettings
) -> None:
    change_settings(compatibility=frozenset({"form-ids"}))
    single = sender.send(sender.click("x") | {"click_id": 70_021})
    batch = sender.send_batch([sender.click("x") | {"click_id": 70_022}, sender.click("c-1")])
    assert (single.status_code, single.get_json()["click_id"]) == (202, "70021")
    assert batch.get_json()["processed"] == 2
    drain()
    assert value("SELECT count(*) FROM clicks WHERE click_id IN ('70021', '70022', 'c-1')") == 3


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"click_id": None}, "click_id"),
        ({"click_id": ""}, "click_id"),
        ({"click_id": 7}, "click_id"),
        ({"click_id": "x" * 2_049}, "click_id"),
        ({"click_id": "a\0b"}, "click_id"),
        ({"click_id": "a\nb"}, "click_id"),
        ({"offer_id": None}, "offer_id"),
        ({"offer_id": 0}, "offer_id"),
        ({"offer_id": -1}, "offer_id"),
        ({"offer_id": 1.5}, "offer_id"),
        ({"offer_id": True}, "offer_id"),
        ({"offer_id": "7a"}, "offer_id"),
        ({"offer_id": ""}, "offer_id"),
        ({"offer_id": "٣"}, "offer_id"),
        ({"offer_id": 2**63}, "offer_id"),
        ({"offer_id": 10**40}, "offer_id"),
        ({"offer_id": [1]}, "offer_id"),
        ({"source": None}, "source"),
        ({"source": ""}, "source"),
        ({"source": "s" * 256}, "source"),
        ({"source": {"a": 1}}, "source"),
        ({"timestamp": None}, "timestamp"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"timestamp": "2026-01-31T12:00:00"}, "timestamp"),
        ({"timestamp": "2026-02-30T12:00:00Z"}, "timestamp"),
        ({"timestamp": 1_700_000_000}, "timestamp"),
        ({"timestamp": "0001-01-01T00:00:00+23:59"}, "timestamp"),
        ({"timestamp": "9999-12-31T23:59:59-23:59"}, "timestamp"),
        ({"signature": 7}, "signature"),
        ({"signature": "s" * 513}, "signature"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_taken(
    sender: Sender, changes: dict[str, Any], field: str
) -> None:
    answer = sender.send(sender.click(**changes))
    assert_problem(answer, 400, field)
    assert in_inbox() == 0


def test_every_bad_field_is_named_at_once(sender: Sender) -> None:
    answer = sender.send({"click_id": 1, "offer_id": "x", "timestamp": "now"})
    assert set(answer.get_json()["errors"]) == {"click_id", "source", "timestamp"}


@pytest.mark.parametrize("offer_id", [7, "7", "007", 2**63 - 1, str(2**63 - 1)])
def test_an_offer_may_come_as_digits_in_a_string(sender: Sender, offer_id: Any) -> None:
    assert sender.send(sender.click(offer_id=offer_id)).status_code == 202
    drain()
    assert value("SELECT offer_id FROM clicks") == int(offer_id)


@pytest.mark.parametrize(
    "text", ['quo"te', "back\\slash", "ünï→✓", "{a,b}", "NULL", "null", " ", "a,b", "'; DROP--"]
)
def test_texts_arrive_as_they_were_sent(sender: Sender, text: str) -> None:
    click = sender.click(click_id=text, source=text, signature=text)
    assert sender.send(click).status_code == 202
    drain()
    row = value("SELECT click_id || '|' || source || '|' || signature FROM clicks")
    assert row == "|".join([text] * 3)


def noise(seed: int, alphabet: str, length: int) -> str:
    """Return a text that no compression makes shorter by much."""
    drawn = random.Random(seed)
    return "".join(drawn.choice(alphabet) for _ in range(length))


LETTERS = "".join(chr(code) for code in range(33, 126))
EMOJI = "".join(chr(0x1F300 + number) for number in range(512))


@pytest.mark.parametrize("alphabet", [LETTERS, EMOJI], ids=["letters", "emoji"])
@pytest.mark.parametrize("length", [250, 251, 310, 1_000, 1_001, 2_048])
def test_ids_of_any_length_count_once_and_apart(sender: Sender, alphabet: str, length: int) -> None:
    ids = [noise(number, alphabet, length) for number in range(3)]
    ids.append(ids[0][:-1] + "~")
    batch = [sender.click(click_id, source=noise(9, alphabet, 255)) for click_id in ids]

    assert sender.send_batch([*batch, batch[1]]).get_json()["processed"] == 5
    assert drain().new == 4
    assert sender.send(batch[2]).status_code == 202
    assert drain().new == 0

    assert value("SELECT count(*) FROM click_dead") == 0
    assert value("SELECT array_agg(click_id) @> CAST(:ids AS text[]) FROM clicks", ids=ids)
    assert [row[3] for row in counted()] == [4]


def test_a_click_without_a_signature_in_its_body_is_taken(sender: Sender) -> None:
    assert sender.send(sender.click(signature=None)).status_code == 202
    drain()
    assert value("SELECT count(*) FROM clicks WHERE signature IS NULL") == 1


def test_fields_that_are_not_known_are_passed_over(sender: Sender) -> None:
    assert sender.send(sender.click(campaign="spring")).status_code == 202


@pytest.mark.parametrize(
    ("age", "status"),
    [
        (timedelta(minutes=-4), 202),
        (timedelta(minutes=-6), 400),
        (timedelta(days=89), 202),
        (timedelta(days=91), 400),
    ],
)
def test_the_age_of_a_click_is_bounded(sender: Sender, age: timedelta, status: int) -> None:
    moment = (product_clock.now() - age).isoformat()
    assert sender.send(sender.click(timestamp=moment)).status_code == status


def test_the_day_of_a_click_is_its_day_in_utc(sender: Sender, clock: Clock) -> None:
    clock.set_to(product_clock.now().replace(year=2027, month=3, day=1, hour=12))
    assert sender.send(sender.click(timestamp="2027-03-01T01:30:00+05:00")).status_code == 202
    drain()
    assert [row[0] for row in counted()] == ["2027-02-28"]


@pytest.mark.parametrize("path", [WEBHOOK, BATCH])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"{}",
        b"[" * 100_000,
        b"NaN",
        b'"\\ud800"',
    ],
)
def test_what_is_no_click_is_a_bad_request(sender: Sender, path: str, body: bytes) -> None:
    assert_problem(sender.send(body, path=path), 400)
    assert in_inbox() == 0


def test_only_json_is_taken(sender: Sender) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert_problem(sender.send(b"click_id=1", headers=form), 415)


def test_of_a_batch_the_good_ones_are_taken_and_the_bad_ones_named(sender: Sender) -> None:
    batch = [
        sender.click("c-1"),
        sender.click("c-2", offer_id=-1),
        "no click",
        sender.click("c-3", source=None),
        sender.click("c-4"),
    ]
    answer = sender.send_batch(batch)
    assert answer.status_code == 202
    said = answer.get_json()
    counts = (said["status"], said["processed"], said["failed"], said["total"])
    assert counts == ("success", 2, 3, 5)
    shown = [(bad["index"], bad["click_id"], list(bad["errors"])) for bad in said["errors"]]
    assert shown == [(1, "c-2", ["offer_id"]), (2, None, ["click"]), (3, "c-3", ["source"])]
    assert in_inbox() == 2


def test_a_batch_of_only_bad_ones_takes_nothing(sender: Sender) -> None:
    said = sender.send_batch([sender.click(offer_id=0)]).get_json()
    assert (said["processed"], said["failed"]) == (0, 1)
    assert in_inbox() == 0


@pytest.mark.parametrize("length", [0, 10_001])
def test_a_batch_has_a_length(sender: Sender, length: int) -> None:
    assert_problem(sender.send_batch([{}] * length), 400, "clicks")


def test_a_batch_of_ten_thousand_is_taken(sender: Sender) -> None:
    batch = [sender.click(f"c-{number}") for number in range(10_000)]
    assert sender.send_batch(batch).get_json()["processed"] == 10_000
    assert drain().new == 10_000
    assert sum(row[3] for row in counted()) == 10_000


def test_a_body_over_the_limit_is_refused(sender: Sender, change_settings: ChangeSettings) -> None:
    change_settings(click_webhook_max_body_bytes=2_000)
    assert_problem(sender.send_batch([sender.click("x" * 200)] * 20), 413)
    assert_problem(sender.send(sender.click(signature="x" * 2_000_000)), 413)


def test_a_backlog_over_the_limit_asks_to_come_back(
    sender: Sender, change_settings: ChangeSettings
) -> None:
    change_settings(click_backlog_limit=2)
    sender.send_batch([sender.click("c-1"), sender.click("c-2")])
    inbox.backlog.forget()
    answer = sender.send(sender.click("c-3"))
    assert_problem(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0
    drain()
    inbox.backlog.forget()
    assert sender.send(sender.click("c-3")).status_code == 202


@pytest.mark.usefixtures("database_away")
def test_without_a_database_nothing_is_accepted(sender: Sender) -> None:
    answer = sender.send(b"{}")
    assert_problem(answer, 503)
    assert "Retry-After" in answer.headers


def test_a_get_says_that_only_post_is_known(client: FlaskClient) -> None:
    assert client.get(WEBHOOK).status_code == 405
