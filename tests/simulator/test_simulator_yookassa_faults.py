"""YooKassa's notices, and its payments under the faults that every system has."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from simulator.client import SimulatorClient
from simulator.yookassa.payments import Payment
from simulator.yookassa.webhooks import LONGEST_SHUFFLE_SECONDS, Webhooks

API = "/yookassa/v3/payments"
ORDER = {
    "amount": {"value": "10.00", "currency": "RUB"},
    "capture": True,
    "payment_method_id": "card-1",
}
SECONDS = 5


def pay(simulator: SimulatorClient, key: str) -> dict[str, Any]:
    headers = {"Authorization": "Basic c2hvcDpzZWNyZXQ=", "Idempotence-Key": key}
    payment: dict[str, Any] = simulator.call("POST", API, ORDER, headers).json()
    return payment


def settings(simulator: SimulatorClient, **changes: Any) -> Any:
    return simulator.control("PUT", "/yookassa/settings", changes)


def payments(simulator: SimulatorClient) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = simulator.control("GET", "/yookassa/payments")["items"]
    return items


def send_notices_to_inbox(simulator: SimulatorClient, **changes: Any) -> None:
    settings(simulator, webhook_url=f"{simulator.base_url}/inbox/notices", **changes)


def counters_when(simulator: SimulatorClient, **expected: int) -> dict[str, int]:
    """Return the counters of the notices once nothing is on its way any more."""
    deadline = time.monotonic() + SECONDS
    while True:
        counters: dict[str, int] = settings(simulator)["webhooks"]
        if not counters["waiting"] and counters.items() >= expected.items():
            return counters
        assert time.monotonic() < deadline, counters
        time.sleep(0.01)


def notices(simulator: SimulatorClient, count: int) -> Iterator[dict[str, Any]]:
    counters_when(simulator, sent=count)
    for message in simulator.inbox("notices", limit=1000)["messages"]:
        assert message["headers"]["content-type"] == "application/json"
        yield json.loads(message["body"])


# Notices


@pytest.mark.parametrize("outcome", ["succeeded", "canceled"])
def test_settled_payment_is_told(simulator_process: SimulatorClient, outcome: str) -> None:
    send_notices_to_inbox(simulator_process, default=outcome)

    payment = pay(simulator_process, "key")
    pay(simulator_process, "key")

    assert list(notices(simulator_process, 1)) == [
        {"type": "notification", "event": f"payment.{outcome}", "object": payment}
    ]


def test_open_and_tampered_payments_are_not_told(simulator_process: SimulatorClient) -> None:
    send_notices_to_inbox(simulator_process, default="pending")
    payment_id = pay(simulator_process, "key")["id"]
    path = "/yookassa/payments"
    simulator_process.control("PATCH", f"{path}/{payment_id}", {"amount": "1.00"})
    simulator_process.control("POST", path, {"amount": "1.00", "status": "succeeded"})
    assert settings(simulator_process)["webhooks"]["waiting"] == 0

    simulator_process.control("POST", f"{path}/{payment_id}/settle", {"status": "succeeded"})

    (notice,) = notices(simulator_process, 1)
    assert notice["object"]["id"] == payment_id


def test_payment_that_nobody_asked_for_is_told_on_demand(
    simulator_process: SimulatorClient,
) -> None:
    send_notices_to_inbox(simulator_process)
    order = {"amount": "1.00", "status": "succeeded", "notify": True}

    added = simulator_process.control("POST", "/yookassa/payments", order)

    (notice,) = notices(simulator_process, 1)
    assert notice["object"]["id"] == added["id"]


def test_notices_can_be_doubled_and_shuffled(simulator_process: SimulatorClient) -> None:
    send_notices_to_inbox(
        simulator_process, default="succeeded", webhook_times=2, webhook_shuffle=True
    )

    ids = [pay(simulator_process, f"key-{number}")["id"] for number in range(30)]

    sent = [notice["object"]["id"] for notice in notices(simulator_process, 60)]
    assert Counter(sent) == dict.fromkeys(ids, 2)
    assert sent != [payment_id for payment_id in ids for _ in range(2)]


def test_notice_that_is_not_taken_is_counted_and_harms_nothing(
    simulator_process: SimulatorClient,
) -> None:
    simulator_process.add_fault("/inbox/notices", status=500, times=1)
    send_notices_to_inbox(simulator_process, default="succeeded")
    pay(simulator_process, "key-1")
    assert counters_when(simulator_process, failed=1)["sent"] == 0

    settings(simulator_process, webhook_url="http://127.0.0.1:9/")
    pay(simulator_process, "key-2")
    counters_when(simulator_process, failed=2)

    send_notices_to_inbox(simulator_process)
    pay(simulator_process, "key-3")
    assert counters_when(simulator_process, sent=1)["failed"] == 2


def test_slow_receiver_does_not_slow_the_payments(simulator_process: SimulatorClient) -> None:
    simulator_process.add_fault("/inbox/notices", delay_seconds=0.3)
    send_notices_to_inbox(simulator_process, default="succeeded")

    begin = time.monotonic()
    for number in range(40):
        pay(simulator_process, f"key-{number}")
    assert time.monotonic() - begin < 40 * 0.3 / 2

    counters_when(simulator_process, sent=40)


@pytest.mark.parametrize("shuffle", [True, False])
def test_reset_forgets_the_notices_that_wait(shuffle: bool) -> None:
    async def failed_sendings() -> int:
        webhooks = Webhooks()
        for sent in (40, 1):
            webhooks.reset()
            webhooks.url, webhooks.shuffle = "http://127.0.0.1:9/", shuffle
            for _ in range(sent):
                webhooks.send(Payment("1.00", "RUB", status="succeeded"))
            assert webhooks.counters()["waiting"] >= sent
        await asyncio.sleep(LONGEST_SHUFFLE_SECONDS + 0.1)
        while webhooks.counters()["waiting"]:
            await asyncio.sleep(0.01)
        failed = webhooks.counters()["failed"]
        await webhooks.close()
        return failed

    assert asyncio.run(failed_sendings()) == 1


# Faults


def test_lost_answer_leaves_the_payment_in_the_books(simulator_process: SimulatorClient) -> None:
    settings(simulator_process, default="succeeded")
    simulator_process.add_fault("/yookassa/v3/payments", drop="after", times=1)

    with pytest.raises(OSError):  # noqa: PT011 - reset or closed, as the system sees it
        pay(simulator_process, "key")

    (made,) = payments(simulator_process)
    assert (made["status"], made["idempotence_key"]) == ("succeeded", "key")
    assert pay(simulator_process, "key")["id"] == made["id"]
    assert len(payments(simulator_process)) == 1


@pytest.mark.parametrize("fault", [{"status": 500}, {"body": "<html>"}, {"drop": "before"}])
def test_fault_in_place_of_the_work_makes_no_payment(
    simulator_process: SimulatorClient, fault: dict[str, Any]
) -> None:
    simulator_process.add_fault("/yookassa/*", times=1, **fault)

    with pytest.raises((OSError, ValueError, KeyError)):
        assert pay(simulator_process, "key")["id"]

    assert payments(simulator_process) == []
    assert pay(simulator_process, "key")["id"]


def test_answer_after_the_deadline_comes_with_the_work_done(
    simulator_process: SimulatorClient,
) -> None:
    simulator_process.add_fault("/yookassa/v3/payments", delay_seconds=0.5, times=1)
    hasty = SimulatorClient(simulator_process.base_url, timeout_seconds=0.1)

    with pytest.raises(TimeoutError):
        pay(hasty, "key")

    assert payments(simulator_process) == []
    deadline = time.monotonic() + SECONDS
    while not payments(simulator_process) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [made["idempotence_key"] for made in payments(simulator_process)] == ["key"]


def test_fault_strikes_one_kind_of_path_only(simulator_process: SimulatorClient) -> None:
    simulator_process.add_fault("/yookassa/v3/payments/*", status=503)
    payment_id = pay(simulator_process, "key")["id"]

    headers = {"Authorization": "Basic c2hvcDpzZWNyZXQ="}
    answer = simulator_process.call("GET", f"{API}/{payment_id}", headers=headers)

    assert answer.status == 503
    assert simulator_process.call("GET", API, headers=headers).status == 200
