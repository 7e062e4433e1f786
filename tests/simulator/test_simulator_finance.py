"""The simulated finance service: it takes whole days, and nothing that it could not book."""

import base64
import hashlib
import json
from typing import Any

import pytest

from simulator.client import Answer, SimulatorClient

CLICK = {
    "click_id": "click-1",
    "offer_id": 7,
    "source": "mail",
    "timestamp": "2026-03-09T10:00:00Z",
    "signature": None,
}


def day(*clicks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"date": "2026-03-09", "total_clicks": len(clicks), "clicks": clicks, **changes}


def send(simulator: SimulatorClient, data: object, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return simulator.call("POST", "/finance/clicks", data, named)


def exports(simulator: SimulatorClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = simulator.control("GET", "/finance")["exports"]
    return found


def test_it_is_well_unless_a_fault_says_otherwise(simulator_process: SimulatorClient) -> None:
    assert simulator_process.call("GET", "/finance/health").json() == {"status": "ok"}
    simulator_process.add_fault("/finance/health", status=503)
    assert simulator_process.call("GET", "/finance/health").status == 503


def test_a_day_that_arrives_is_shown(simulator_process: SimulatorClient) -> None:
    body = json.dumps(day(CLICK, {**CLICK, "click_id": "click-2", "offer_id": 8})).encode()
    digest = hashlib.sha256(body)
    answer = send(
        simulator_process,
        body,
        Content_Digest=f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",
        Idempotency_Key="export-1",
        Authorization="Bearer token",
    )

    assert (answer.status, answer.json()) == (200, {"status": "ok", "received": 2})
    assert exports(simulator_process) == [
        {
            "date": "2026-03-09",
            "total_clicks": 2,
            "clicks_by_offer": {"7": 1, "8": 1},
            "sha256": digest.hexdigest(),
            "key": "export-1",
            "authorization": "Bearer token",
            "body_bytes": len(body),
            "times": 1,
        }
    ]
    assert simulator_process.call("GET", "/control/finance/2026-03-09").body == body
    assert simulator_process.call("GET", "/control/finance/2026-03-10").status == 404


def test_the_same_key_again_is_taken_once(simulator_process: SimulatorClient) -> None:
    for _ in range(2):
        assert send(simulator_process, day(CLICK), Idempotency_Key="one").status == 200
    send(simulator_process, day(CLICK), Idempotency_Key="two")
    send(simulator_process, day(CLICK))

    assert [one["times"] for one in exports(simulator_process)] == [2, 1, 1]


@pytest.mark.parametrize(
    "data",
    [
        b"not json",
        b"[" * 100_000,
        [],
        {},
        day(CLICK, extra=1),
        day(CLICK, date="2026-13-01"),
        day(CLICK, date=None),
        day(CLICK, total_clicks=2),
        day(CLICK, clicks="many"),
        day(CLICK, CLICK),
        day({**CLICK, "more": 1}),
        day({name: CLICK[name] for name in CLICK if name != "source"}),
        day({**CLICK, "offer_id": "7"}),
        day({**CLICK, "click_id": 1}),
        day({**CLICK, "timestamp": "2026-03-09T10:00:00"}),
        day({**CLICK, "timestamp": "2026-03-10T00:00:00Z"}),
        day({**CLICK, "timestamp": "2026-03-09T23:00:00-02:00"}),
        day({**CLICK, "timestamp": 5}),
    ],
)
def test_what_could_not_be_booked_is_refused(
    simulator_process: SimulatorClient, data: object
) -> None:
    answer = send(simulator_process, data)

    assert answer.status == 400
    assert answer.json()["error"]
    assert exports(simulator_process) == []
    assert simulator_process.control("GET", "/finance")["requests"]["refused"] == 1


def test_a_digest_of_another_body_is_refused(simulator_process: SimulatorClient) -> None:
    digest = base64.b64encode(hashlib.sha256(b"other").digest()).decode()

    answer = send(simulator_process, day(CLICK), Content_Digest=f"sha-256=:{digest}:")

    assert answer.status == 400


@pytest.mark.parametrize("with_latency", [False, True])
def test_a_large_day_is_taken_and_no_other_large_body(
    simulator_process: SimulatorClient, with_latency: bool
) -> None:
    if with_latency:
        latency = {"/finance/*": 0.01, "/inbox/*": 0.01}
        simulator_process.control("PUT", "/settings", {"latency_seconds": latency})
    padded = json.dumps(day(CLICK)).encode() + b" " * 100_000_000

    assert send(simulator_process, padded).status == 200
    [arrival] = exports(simulator_process)
    assert arrival["body_bytes"] == len(padded)
    assert simulator_process.call("GET", "/control/finance/2026-03-09").status == 404
    assert simulator_process.call("POST", "/inbox/x", b" " * 2_000_000).status == 413


def test_a_reset_forgets_what_arrived(simulator_process: SimulatorClient) -> None:
    send(simulator_process, day(CLICK))
    simulator_process.reset()

    assert exports(simulator_process) == []
