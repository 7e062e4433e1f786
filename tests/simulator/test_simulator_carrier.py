"""The carrier charges once per key, and numbers and scripts decide how it answers."""

import http.client

import pytest

from simulator.client import Answer, SimulatorClient

KEY = {"Auth-Key": "secret"}


def bill(
    simulator: SimulatorClient, msisdn: str, *, key: str | None = None, plan: str = "daily"
) -> Answer:
    headers = KEY | ({"Idempotency-Key": key} if key else {})
    return simulator.call("POST", "/carrier/billing", {"msisdn": msisdn, "sub_plan": plan}, headers)


def test_a_charge_is_made_once_per_key(simulator_process: SimulatorClient) -> None:
    first = bill(simulator_process, "+79001112233", key="k1").json()
    again = bill(simulator_process, "+79001112233", key="k1").json()
    asked = simulator_process.call("GET", "/carrier/billing/k1", headers=KEY).json()

    assert first["status"] == "charged"
    assert first == again == asked
    counts = simulator_process.control("GET", "/carrier")
    assert (counts["requests"], counts["repeated"], counts["charged"]) == (2, 1, 1)


def test_a_key_used_for_something_else_is_refused(simulator_process: SimulatorClient) -> None:
    bill(simulator_process, "+79001112233", key="k1")

    assert bill(simulator_process, "+79001112244", key="k1").status == 409


def test_an_unknown_key_is_not_found(simulator_process: SimulatorClient) -> None:
    assert simulator_process.call("GET", "/carrier/billing/k1", headers=KEY).status == 404


def test_nobody_is_served_without_the_auth_key(simulator_process: SimulatorClient) -> None:
    order = {"msisdn": "+79001112233", "sub_plan": "daily"}

    assert simulator_process.call("POST", "/carrier/billing", order).status == 401
    assert simulator_process.call("GET", "/carrier/billing/k1").status == 401


@pytest.mark.parametrize(
    "order", [{}, {"msisdn": "+7900"}, {"msisdn": "+7900", "sub_plan": "hourly"}, {"msisdn": 7}]
)
def test_an_order_that_is_none(simulator_process: SimulatorClient, order: object) -> None:
    assert simulator_process.call("POST", "/carrier/billing", order, KEY).status == 400


def test_magic_numbers(simulator_process: SimulatorClient) -> None:
    answers = {
        digits: [bill(simulator_process, f"+7900111{digits}") for _ in range(2)]
        for digits in ("9990", "9991", "9992", "9993")
    }

    def statuses(digits: str) -> list[str]:
        return [one.json().get("status", str(one.status)) for one in answers[digits]]

    assert statuses("9990") == ["refused", "refused"]
    assert statuses("9991") == ["refused", "charged"]
    assert answers["9992"][0].json()["reason"] == "unknown_subscriber"
    assert statuses("9993") == ["503", "charged"]


def test_a_dropped_answer_comes_after_the_work(simulator_process: SimulatorClient) -> None:
    simulator_process.control("PUT", "/carrier/numbers/+79001112233", {"outcomes": ["drop"]})

    with pytest.raises((OSError, http.client.HTTPException)):
        bill(simulator_process, "+79001112233", key="k1")

    found = simulator_process.call("GET", "/carrier/billing/k1", headers=KEY).json()
    assert found["status"] == "charged"


def test_a_script_is_used_up_and_taken_back(simulator_process: SimulatorClient) -> None:
    path = "/carrier/numbers/+79001112233"
    simulator_process.control("PUT", path, {"outcomes": ["refused:barred"], "then": "refused"})
    reasons = [bill(simulator_process, "+79001112233").json()["reason"] for _ in range(2)]
    simulator_process.control("PUT", path, {})

    assert reasons == ["barred", "insufficient_funds"]
    assert bill(simulator_process, "+79001112233").json()["status"] == "charged"
    with pytest.raises(ValueError, match="none of"):
        simulator_process.control("PUT", path, {"outcomes": ["perhaps"]})


def test_charges_are_listed_and_forgotten(simulator_process: SimulatorClient) -> None:
    bill(simulator_process, "+79001112233", key="k1")
    bill(simulator_process, "+79001112244", key="k2", plan="weekly")
    listed = simulator_process.control("GET", "/carrier/charges?msisdn=%2B79001112244")["items"]
    simulator_process.reset()

    assert [(one["key"], one["sub_plan"]) for one in listed] == [("k2", "weekly")]
    assert simulator_process.control("GET", "/carrier/charges")["items"] == []


def test_the_older_protocol_knows_no_key_and_charges_each_time(
    simulator_process: SimulatorClient,
) -> None:
    simulator_process.control("PUT", "/carrier/numbers/+79001112233", {"outcomes": ["refused"]})

    def bill_as_older(**changes: object) -> tuple[int, object]:
        body = {"msisdn": "79001112233", "sub_plan": 11} | changes
        answer = simulator_process.call("POST", "/carrier/legacy", body, headers=KEY)
        return answer.status, answer.json().get("status") if answer.status == 200 else None

    assert [bill_as_older() for _ in range(3)] == [(200, "failure"), *[(200, "success")] * 2]
    assert simulator_process.control("GET", "/carrier")["charged"] == 2
    assert bill_as_older(sub_plan="11") == bill_as_older(msisdn="+79001112233") == (400, None)
    assert simulator_process.call("GET", "/carrier/legacy/k1", headers=KEY).status == 404
