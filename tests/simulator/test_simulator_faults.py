"""Faults strike the requests that they were ordered for, and no others."""

import threading
import time
from typing import Any

import pytest

from simulator.client import SimulatorClient


def post(simulator: SimulatorClient, path: str = "/inbox/shop") -> int:
    return simulator.call("POST", path, b"hello", {"webhook-id": "msg_1"}).status


def answered(simulator: SimulatorClient, name: str = "shop") -> list[int | None]:
    return [message["answered"] for message in simulator.inbox(name)["messages"]]


def test_status_fault_answers_but_the_arrival_counts(simulator_process: SimulatorClient) -> None:
    simulator_process.add_fault("/inbox/shop", status=500)

    assert post(simulator_process) == 500
    assert post(simulator_process, "/inbox/other") == 200
    assert answered(simulator_process) == [500]
    assert answered(simulator_process, "other") == [200]
    assert simulator_process.control("GET", "/inbox/shop/ids") == {"msg_1": 1}


def test_status_fault_keeps_the_work_of_a_store_undone(simulator_process: SimulatorClient) -> None:
    simulator_process.add_fault("/app-store/*", status=503, headers={"Retry-After": "7"})

    answer = simulator_process.call("POST", "/app-store/verify", {"receipt": "r-1"})

    assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
    assert simulator_process.control("GET", "/stores")["app-store"]["requests"] == 0


def test_fault_gives_the_body_that_was_ordered(simulator_process: SimulatorClient) -> None:
    simulator_process.add_fault(
        "/google-play/*", body="<html>", headers={"Content-Type": "text/html"}
    )

    answer = simulator_process.call("POST", "/google-play/verify", {"receipt": "r-1"})

    assert (answer.status, answer.body) == (200, b"<html>")
    assert answer.headers["Content-Type"] == "text/html"


def test_fault_gives_a_body_that_is_too_large(simulator_process: SimulatorClient) -> None:
    simulator_process.add_fault("/inbox/*", body_bytes=3_000_000)

    answer = simulator_process.call("POST", "/inbox/shop", b"")

    assert (answer.status, len(answer.body)) == (200, 3_000_000)
    assert answered(simulator_process) == [200]


@pytest.mark.parametrize("status", [204, 302, 304, 404, 429, 599])
def test_fault_gives_any_status(simulator_process: SimulatorClient, status: int) -> None:
    simulator_process.add_fault("/inbox/*", status=status, headers={"Location": "/inbox/else"})

    assert post(simulator_process) == status
    assert answered(simulator_process) == [status]


def test_headers_alone_are_added_to_the_usual_answer(simulator_process: SimulatorClient) -> None:
    simulator_process.add_fault("/app-store/*", headers={"Retry-After": "3"})

    answer = simulator_process.call("POST", "/app-store/verify", {"receipt": "r-06"})

    assert (answer.status, answer.headers["Retry-After"]) == (429, "3")
    assert simulator_process.control("GET", "/stores")["app-store"]["limited"] == 1


def test_delay_fault_delays_the_usual_work(simulator_process: SimulatorClient) -> None:
    simulator_process.add_fault("/inbox/slow*", delay_seconds=0.2)

    begin = time.time()
    assert post(simulator_process, "/inbox/slow-one") == 200
    assert time.time() - begin >= 0.2

    (message,) = simulator_process.inbox("slow-one")["messages"]
    assert message["arrived_at"] - begin < 0.15
    assert message["answered"] == 200


def test_delayed_message_has_arrived_before_it_is_answered(
    simulator_process: SimulatorClient,
) -> None:
    simulator_process.add_fault("/inbox/slow", delay_seconds=0.5)
    sender = threading.Thread(target=post, args=(simulator_process, "/inbox/slow"))
    sender.start()

    deadline = time.monotonic() + 0.4
    while not answered(simulator_process, "slow") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert answered(simulator_process, "slow") == [None]

    sender.join()
    assert answered(simulator_process, "slow") == [200]


def test_delay_of_one_request_holds_up_no_other(simulator_process: SimulatorClient) -> None:
    simulator_process.add_fault("/inbox/slow", delay_seconds=0.5)
    sender = threading.Thread(target=post, args=(simulator_process, "/inbox/slow"))
    sender.start()

    begin = time.monotonic()
    assert post(simulator_process) == 200
    assert time.monotonic() - begin < 0.4
    sender.join()


def test_drop_before_does_no_work(simulator_process: SimulatorClient) -> None:
    simulator_process.add_fault("/app-store/*", drop="before")
    simulator_process.add_fault("/inbox/*", drop="before")

    with pytest.raises(OSError):  # noqa: PT011 - reset or closed, as the system sees it
        simulator_process.call("POST", "/app-store/verify", {"receipt": "r-1"})
    with pytest.raises(OSError):  # noqa: PT011
        post(simulator_process)

    assert simulator_process.control("GET", "/stores")["app-store"]["requests"] == 0
    assert simulator_process.inbox("shop")["count"] == 0


def test_drop_after_does_the_work_without_an_answer(simulator_process: SimulatorClient) -> None:
    simulator_process.add_fault("/app-store/*", drop="after")
    simulator_process.add_fault("/inbox/*", drop="after")

    with pytest.raises(OSError):  # noqa: PT011
        simulator_process.call("POST", "/app-store/verify", {"receipt": "r-1"})
    with pytest.raises(OSError):  # noqa: PT011
        post(simulator_process)

    assert simulator_process.control("GET", "/stores")["app-store"]["accepted"] == 1
    assert answered(simulator_process) == [None]


def test_fault_is_used_up_after_its_times(simulator_process: SimulatorClient) -> None:
    simulator_process.add_fault("/inbox/*", status=500, times=2)

    assert [post(simulator_process) for _ in range(4)] == [500, 500, 200, 200]
    (fault,) = simulator_process.control("GET", "/faults")["faults"]
    assert (fault["hits"], fault["used_up"]) == (2, True)


def test_rate_strikes_a_share_that_the_seed_repeats(simulator_process: SimulatorClient) -> None:
    def strikes() -> list[int]:
        fault_id = simulator_process.add_fault("/inbox/*", status=500, rate=0.3, seed=7)
        statuses = [post(simulator_process) for _ in range(60)]
        simulator_process.control("DELETE", f"/faults/{fault_id}")
        return statuses

    first = strikes()

    assert 5 <= first.count(500) <= 35
    assert strikes() == first


def test_first_fault_that_matches_wins(simulator_process: SimulatorClient) -> None:
    simulator_process.add_fault("/inbox/shop", status=501, times=1)
    simulator_process.add_fault("/inbox/*", status=502)

    assert [post(simulator_process) for _ in range(2)] == [501, 502]


def test_removed_fault_strikes_no_more(simulator_process: SimulatorClient) -> None:
    first = simulator_process.add_fault("/inbox/*", status=501)
    simulator_process.add_fault("/inbox/*", status=502)
    simulator_process.control("DELETE", f"/faults/{first}")
    assert post(simulator_process) == 502

    assert simulator_process.control("DELETE", "/faults") == {"removed": 1}
    assert post(simulator_process) == 200
    assert simulator_process.call("DELETE", f"/control/faults/{first}").status == 404


def test_control_and_health_are_never_faulty(simulator_process: SimulatorClient) -> None:
    simulator_process.add_fault("*", status=500)
    simulator_process.control("PUT", "/settings", {"latency_seconds": {"*": 5}})

    begin = time.monotonic()
    assert simulator_process.call("GET", "/health").status == 200
    assert simulator_process.control("GET", "/faults")["faults"][0]["hits"] == 0
    assert time.monotonic() - begin < 1


def test_latency_slows_the_paths_that_match(simulator_process: SimulatorClient) -> None:
    latencies = {"/app-store/*": 0.15}
    shown = simulator_process.control("PUT", "/settings", {"latency_seconds": latencies})
    assert shown["latency_seconds"] == latencies

    begin = time.monotonic()
    assert simulator_process.call("POST", "/app-store/verify", {"receipt": "1"}).status == 200
    slow = time.monotonic() - begin
    assert simulator_process.call("POST", "/google-play/verify", {"receipt": "1"}).status == 200
    quick = time.monotonic() - begin - slow

    assert slow >= 0.15 > quick


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"match": 1},
        {"match": "*", "status": 99},
        {"match": "*", "status": "500"},
        {"match": "*", "status": True},
        {"match": "*", "drop": "during"},
        {"match": "*", "rate": 2},
        {"match": "*", "times": 0},
        {"match": "*", "delay_seconds": -1},
        {"match": "*", "body_bytes": 1e3},
        {"match": "*", "body": 1},
        {"match": "*", "headers": {"X": 1}},
        {"match": "*", "headers": {"X": "a\r\nb"}},
        {"match": "*", "headers": []},
        {"match": "*", "stauts": 500},
        [],
    ],
)
def test_senseless_fault_is_refused(simulator_process: SimulatorClient, order: Any) -> None:
    answer = simulator_process.call("POST", "/control/faults", order)

    assert answer.status == 400
    assert answer.json()["error"]
    assert simulator_process.control("GET", "/faults") == {"faults": []}


def test_nulls_in_an_order_mean_not_given(simulator_process: SimulatorClient) -> None:
    simulator_process.add_fault("/inbox/*", status=500, body=None, drop=None, times=None, seed=None)

    assert post(simulator_process) == 500
