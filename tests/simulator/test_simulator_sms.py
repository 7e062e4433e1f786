"""Gateways take a message once per msgid and send receipts; numbers and scripts decide."""

import json
import time
from typing import Any

import pytest

from simulator.client import Answer, SimulatorClient
from simulator.sms import twilio_signature


def send(simulator: SimulatorClient, msisdn: str, msgid: str = "m1", gateway: str = "a") -> Answer:
    order = {
        "msisdn": msisdn,
        "msgid": msgid,
        "text": "Sunny",
        "callback": f"{simulator.base_url}/inbox/receipts",
    }
    return simulator.call("POST", f"/sms/{gateway}/messages", order)


def receipts(simulator: SimulatorClient, count: int) -> list[Any]:
    deadline = time.monotonic() + 5
    while simulator.inbox("receipts")["count"] < count:
        assert time.monotonic() < deadline, "the receipts do not come"
        time.sleep(0.01)
    return [json.loads(one["body"]) for one in simulator.inbox("receipts")["messages"]]


def test_a_message_is_accepted_once_and_delivered(simulator_process: SimulatorClient) -> None:
    first = send(simulator_process, "+79001112233").json()
    again = send(simulator_process, "+79001112233").json()

    assert first == again
    assert first["status"] == "accepted"
    assert receipts(simulator_process, 1) == [{"msgid": "m1", "status": "delivered"}]
    counts = simulator_process.control("GET", "/sms")
    assert counts["gateways"]["a"] == {"requests": 2, "accepted": 1, "repeated": 1}
    assert counts["accepted"] == 1


def test_another_gateway_does_not_know_the_msgid(simulator_process: SimulatorClient) -> None:
    send(simulator_process, "+79001112233", gateway="a")
    send(simulator_process, "+79001112233", gateway="b")

    assert simulator_process.control("GET", "/sms")["accepted"] == 2


def test_magic_numbers(simulator_process: SimulatorClient) -> None:
    assert send(simulator_process, "+79001119980").json() == {
        "status": "rejected",
        "reason": "unknown_number",
    }
    assert send(simulator_process, "+79001119981").json()["reason"] == "opted_out"
    assert send(simulator_process, "+79001119983", "silent").json()["status"] == "accepted"
    busy = [send(simulator_process, "+79001119984", "busy").status for _ in range(2)]
    assert busy == [503, 200]
    send(simulator_process, "+79001119982", "lost")
    found = {one["msgid"]: one["status"] for one in receipts(simulator_process, 2)}
    assert found == {"busy": "delivered", "lost": "failed"}


def test_receipts_can_be_doubled_or_left_out(simulator_process: SimulatorClient) -> None:
    simulator_process.control("PUT", "/sms/settings", {"receipt_times": 3})
    send(simulator_process, "+79001112233")
    assert len(receipts(simulator_process, 3)) == 3
    simulator_process.control("PUT", "/sms/settings", {"receipt_after_seconds": None})
    send(simulator_process, "+79001112233", "m2")
    assert simulator_process.control("GET", "/sms")["receipts"]["waiting"] == 0


@pytest.mark.parametrize("order", [{}, {"msisdn": "+7900", "msgid": "m1"}, {"msisdn": 1}])
def test_an_order_that_is_none(simulator_process: SimulatorClient, order: object) -> None:
    assert simulator_process.call("POST", "/sms/a/messages", order).status == 400


def test_twilio_takes_forms_and_signs_its_receipts(simulator_process: SimulatorClient) -> None:
    callback = f"{simulator_process.base_url}/inbox/receipts"
    form = f"To=%2B79001112233&From=%2B7900&Body=Sunny&StatusCallback={callback}"
    answer = simulator_process.call(
        "POST",
        "/twilio/2010-04-01/Accounts/AC1/Messages.json",
        form.encode(),
        {"Authorization": "Basic QUMxOnRva2Vu"},
    )
    assert answer.status == 201
    sid = answer.json()["sid"]
    deadline = time.monotonic() + 5
    while simulator_process.inbox("receipts")["count"] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    last = simulator_process.inbox("receipts")["messages"][-1]
    wanted = {"MessageSid": sid, "MessageStatus": "delivered", "To": "+79001112233"}
    found = {
        one["headers"]["x-twilio-signature"]
        for one in simulator_process.inbox("receipts")["messages"]
    }
    assert twilio_signature(callback, wanted) in found
    assert "MessageSid" in last["body"]
