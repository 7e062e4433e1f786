"""Inboxes remember what arrived, exactly."""

import http.client
import time

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from simulator.client import SimulatorClient
from simulator.inbox import KEPT_IDS, Inbox, Message

NO_HEADERS = CIMultiDictProxy(CIMultiDict[str]())


def send(simulator: SimulatorClient, path: str, webhook_id: str | None = None) -> int:
    headers = {} if webhook_id is None else {"Webhook-Id": webhook_id}
    return simulator.call("POST", path, b"hello", headers).status


def test_message_is_kept_as_it_came(simulator_process: SimulatorClient) -> None:
    begin = time.time()
    answer = simulator_process.call(
        "POST",
        "/inbox/shop/deep/down?x=1",
        "tür 1".encode(),
        {"Webhook-Id": "msg_1", "X-Custom": "Value"},
    )

    assert (answer.status, answer.json()) == (200, {"ok": True})
    inbox = simulator_process.inbox("shop")
    (message,) = inbox["messages"]
    assert (inbox["count"], inbox["distinct_ids"]) == (1, 1)
    assert (message["id"], message["path"]) == ("msg_1", "/inbox/shop/deep/down")
    assert (message["body"], message["answered"]) == ("tür 1", 200)
    assert message["headers"]["x-custom"] == "Value"
    assert message["headers"]["webhook-id"] == "msg_1"
    assert begin <= message["arrived_at"] <= time.time()


def test_each_id_is_counted(simulator_process: SimulatorClient) -> None:
    for webhook_id in ["a", "b", "a", None, "a"]:
        assert send(simulator_process, "/inbox/shop", webhook_id) == 200

    inbox = simulator_process.inbox("shop")
    assert (inbox["count"], inbox["distinct_ids"]) == (5, 2)
    assert simulator_process.control("GET", "/inbox/shop/ids") == {"a": 3, "b": 1}


def test_first_arrival_of_each_id_is_remembered(simulator_process: SimulatorClient) -> None:
    for webhook_id in ["a", "b", "a"]:
        send(simulator_process, "/inbox/shop", webhook_id)

    first, second, _ = [
        message["arrived_at"] for message in simulator_process.inbox("shop")["messages"]
    ]
    arrivals = simulator_process.control("GET", "/inbox/shop/arrivals")
    assert arrivals == {"a": first, "b": second}


def test_counts_stay_exact_beyond_the_kept_messages(simulator_process: SimulatorClient) -> None:
    host = simulator_process.base_url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    for number in range(2_005):
        connection.request("POST", "/inbox/busy", b"x", {"webhook-id": f"id-{number}"})
        connection.getresponse().read()
    connection.close()

    inbox = simulator_process.inbox("busy", limit=5_000)
    assert (inbox["count"], inbox["distinct_ids"]) == (2_005, 2_005)
    assert len(inbox["messages"]) == 2_000
    assert inbox["messages"][0]["id"] == "id-5"
    ids = simulator_process.control("GET", "/inbox/busy/ids")
    assert ids == {f"id-{number}": 1 for number in range(2_005)}


def test_last_messages_are_shown_up_to_the_limit(simulator_process: SimulatorClient) -> None:
    for number in range(105):
        send(simulator_process, "/inbox/shop", f"id-{number}")

    assert len(simulator_process.control("GET", "/inbox/shop")["messages"]) == 100
    last_two = simulator_process.inbox("shop", limit=2)["messages"]
    assert [message["id"] for message in last_two] == ["id-103", "id-104"]
    assert simulator_process.inbox("shop", limit=0)["messages"] == []


@pytest.mark.parametrize("limit", ["-1", "many", "", "1.5"])
def test_senseless_limit_is_a_bad_request(simulator_process: SimulatorClient, limit: str) -> None:
    assert simulator_process.call("GET", f"/control/inbox/shop?limit={limit}").status == 400


def test_inboxes_are_apart_and_can_be_emptied(simulator_process: SimulatorClient) -> None:
    for path in ["/inbox/shop", "/inbox/shop/x", "/inbox/bank"]:
        send(simulator_process, path)
    counts = simulator_process.control("GET", "/inbox")
    assert {name: inbox["count"] for name, inbox in counts.items()} == {"shop": 2, "bank": 1}

    assert simulator_process.control("DELETE", "/inbox/shop") == {"removed": 2}
    assert simulator_process.inbox("shop")["count"] == 0
    assert simulator_process.inbox("bank")["count"] == 1

    assert simulator_process.control("DELETE", "/inbox") == {"removed": 1}
    assert simulator_process.control("GET", "/inbox") == {}


def test_inbox_that_got_nothing_is_empty(simulator_process: SimulatorClient) -> None:
    inbox = simulator_process.inbox("nobody")

    assert (inbox["count"], inbox["messages"]) == (0, [])
    assert simulator_process.control("GET", "/inbox/nobody/ids") == {}


def test_ids_beyond_the_limit_are_reported_as_uncounted() -> None:
    inbox = Inbox()
    for number in [*range(KEPT_IDS + 3), 0]:
        inbox.add(Message(0.0, 0.0, "/inbox/x", str(number), NO_HEADERS, b"", 200))

    assert inbox.counts() == {
        "count": KEPT_IDS + 4,
        "distinct_ids": KEPT_IDS,
        "messages_with_uncounted_id": 3,
    }
    assert inbox.times_arrived["0"] == 2
