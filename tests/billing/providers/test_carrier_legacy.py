"""A carrier as the older service knew it: sent once, and never again by guesswork."""

import asyncio
import socket
from typing import Any

import pytest

from project.billing.providers.base import ProviderPayment, ProviderStatus, Rejected, Unknown
from project.billing.providers.carrier_legacy import LegacyCarrier
from simulator.client import SimulatorClient
from tests.billing.providers.conftest import ask, charge

NUMBER = "+233240007711"


def legacy(simulator: SimulatorClient, *, deadline: float = 3) -> LegacyCarrier:
    url = f"{simulator.base_url}/carrier/legacy"
    return LegacyCarrier(url, "token", deadline_seconds=deadline)


def order(description: str = "forecast-daily", **changes: Any) -> Any:
    return charge(NUMBER, amount=100, description=description, **changes)


def charges(simulator: SimulatorClient) -> list[Any]:
    items: list[Any] = simulator.control("GET", "/carrier/charges")["items"]
    return items


@pytest.mark.parametrize("plan", ["daily", "weekly"])
def test_number_and_plan_are_told_as_the_older_service_did(
    simulator: SimulatorClient, plan: str
) -> None:
    """The simulated carrier takes nothing but digits and the integers 11 and 21."""
    wanted = order(f"forecast-{plan}")
    made = ask(legacy(simulator).create(wanted))
    assert isinstance(made, ProviderPayment)
    assert (made.status, made.external_id) == (ProviderStatus.SUCCEEDED, str(wanted.payment_id))
    assert [(one["msisdn"], one["sub_plan"]) for one in charges(simulator)] == [(NUMBER, plan)]


def test_failure_is_a_refusal(simulator: SimulatorClient) -> None:
    simulator.control("PUT", f"/carrier/numbers/{NUMBER}", {"outcomes": ["refused"]})
    made = ask(legacy(simulator).create(order()))
    assert (made.status, made.is_hard) == (ProviderStatus.CANCELED, False)


async def serve(status: int, body: bytes, call: Any) -> tuple[Any, int]:
    """Answer every request like this, and return the word and how many requests there were."""
    requests = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/billing"
    word = await call(LegacyCarrier(url, "token", deadline_seconds=3))
    server.close()
    return word, requests


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"status": "success"}', ProviderStatus.SUCCEEDED),
        (200, b'{"status": "Success "}', ProviderStatus.SUCCEEDED),
        (201, b'{"status": "PAID"}', ProviderStatus.SUCCEEDED),
        (200, b'{"status": "charged"}', ProviderStatus.SUCCEEDED),
        (200, b'{"status": "failure"}', ProviderStatus.CANCELED),
        (200, b'{"status": "declined"}', ProviderStatus.CANCELED),
        (200, b'{"status": "refused"}', ProviderStatus.CANCELED),
        (402, b"no money", ProviderStatus.CANCELED),
        (200, b'{"status": "ok?"}', Unknown),
        (200, b'{"status": ["success"]}', Unknown),
        (200, b'["success"]', Unknown),
        (200, b"<html>", Unknown),
        (202, b"", Unknown),
        (204, b"", Unknown),
        (500, b'{"status": "failure"}', Unknown),
        (502, b"", Unknown),
        (503, b'{"status": "success"}', Unknown),
        (400, b"", Rejected),
        (401, b'{"status": "failure"}', Rejected),
        (403, b"", Rejected),
        (404, b"", Rejected),
        (429, b"", Rejected),
    ],
)
def test_every_answer_has_one_meaning(status: int, body: bytes, expected: Any) -> None:
    word, requests = ask(serve(status, body, lambda one: one.create(order())))
    is_payment = isinstance(expected, ProviderStatus)
    assert word.status == expected if is_payment else isinstance(word, expected)
    assert requests == 1


@pytest.mark.parametrize("fault", [{"drop": "before"}, {"drop": "after"}, {"delay_seconds": 2}])
def test_a_request_without_an_answer_is_sent_once_and_nobody_knows(
    simulator: SimulatorClient, fault: dict[str, Any]
) -> None:
    provider = legacy(simulator, deadline=0.5)
    # A connection that is kept and closed as it is used again is where a client would send twice.
    assert isinstance(ask(provider.create(order())), ProviderPayment)
    simulator.add_fault("/carrier/legacy", **fault)
    word = ask(provider.create(order()))
    assert isinstance(word, Unknown)
    assert len(charges(simulator)) <= 2
    assert simulator.control("GET", "/carrier")["requests"] <= 2
    assert isinstance(ask(provider.get(str(order().payment_id))), Unknown)


def test_what_never_left_may_be_made_anew() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/billing"
    for unreachable in (url, "http://no-such-host.invalid/billing"):
        word = ask(LegacyCarrier(unreachable, "token", deadline_seconds=3).create(order()))
        assert isinstance(word, Rejected), word
