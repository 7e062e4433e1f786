"""YooKassa charges by its rules, charges nobody twice under one key, and keeps honest books."""

from __future__ import annotations

import base64
import itertools
import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest

from simulator.client import Answer, SimulatorClient
from simulator.yookassa.outcomes import outcome_of_hash, parse_outcome
from simulator.yookassa.payment_store import PaymentStore, Timeline
from simulator.yookassa.payments import Payment

if TYPE_CHECKING:
    from tests.simulator.conftest import StubClock

API = "/yookassa/v3/payments"
BASIC = "Basic " + base64.b64encode(b"100500:test_secret").decode()
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
REDIRECT = {"type": "redirect", "return_url": "https://shop.test/back?order=7"}

keys = itertools.count(1)


def body(**changes: Any) -> dict[str, Any]:
    usual = {
        "amount": {"value": "10.00", "currency": "RUB"},
        "capture": True,
        "payment_method_id": "card-1",
        "metadata": {"payment_id": "p-1", "customer": "c-1"},
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def post(
    simulator: SimulatorClient, data: Any, key: str | None = None, authorization: str = BASIC
) -> Answer:
    headers = {
        "Authorization": authorization,
        "Idempotence-Key": f"key-{next(keys)}" if key is None else key,
    }
    return simulator.call("POST", API, data, headers)


def pay(simulator: SimulatorClient, key: str | None = None, **changes: Any) -> dict[str, Any]:
    answer = post(simulator, body(**changes), key)
    assert answer.status == 200, answer.body
    payment: dict[str, Any] = answer.json()
    return payment


def ask(simulator: SimulatorClient, path: str = "", **query: Any) -> Answer:
    renamed = {name.replace("_at_", "_at."): value for name, value in query.items()}
    return simulator.call(
        "GET", f"{API}{path}?{urlencode(renamed)}", headers={"Authorization": BASIC}
    )


def get(simulator: SimulatorClient, payment_id: str) -> dict[str, Any]:
    payment: dict[str, Any] = ask(simulator, f"/{payment_id}").json()
    return payment


def pages(simulator: SimulatorClient, **query: Any) -> list[list[dict[str, Any]]]:
    """Return all pages of a list, followed by their cursors."""
    found = []
    while True:
        page = ask(simulator, **query).json()
        assert page["type"] == "list"
        found.append(page["items"])
        if "next_cursor" not in page:
            return found
        query["cursor"] = page["next_cursor"]


def script(simulator: SimulatorClient, method_id: str, *outcomes: str, **then: str) -> None:
    order = {"outcomes": outcomes, **then}
    simulator.control("PUT", f"/yookassa/methods/{quote(method_id)}", order)


def settings(simulator: SimulatorClient, **changes: Any) -> Any:
    return simulator.control("PUT", "/yookassa/settings", changes)


def add(simulator: SimulatorClient, **fields: Any) -> dict[str, Any]:
    order = {"amount": "10.00", "status": "succeeded"} | fields
    payment: dict[str, Any] = simulator.control("POST", "/yookassa/payments", order)
    return payment


def books(simulator: SimulatorClient) -> Any:
    return simulator.control("GET", "/yookassa/payments")


def error_of(answer: Answer) -> tuple[int, str, str | None]:
    error = answer.json()
    assert error["type"] == "error"
    assert ID.fullmatch(error["id"])
    assert error["description"]
    return answer.status, error["code"], error.get("parameter")


# What a payment looks like


def test_paid_payment_has_the_fields_of_the_api(
    clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> None:
    settings(clocked_simulator, default="succeeded")

    payment = pay(clocked_simulator, description="Gold, March")

    assert ID.fullmatch(payment.pop("id"))
    assert payment.pop("created_at") == payment.pop("captured_at")
    assert payment == {
        "status": "succeeded",
        "paid": True,
        "amount": {"value": "10.00", "currency": "RUB"},
        "income_amount": {"value": "9.65", "currency": "RUB"},
        "description": "Gold, March",
        "metadata": {"payment_id": "p-1", "customer": "c-1"},
        "recipient": {"account_id": "100500", "gateway_id": "1000001"},
        "payment_method": {
            "type": "bank_card",
            "id": "card-1",
            "saved": True,
            "status": "active",
            "title": "Bank card *4444",
        },
        "refundable": True,
        "test": True,
    }


def test_times_are_simulated_and_in_whole_milliseconds(
    clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> None:
    settings(clocked_simulator, default="succeeded")
    stub_clock.now = datetime(2031, 2, 3, 4, 5, 6, 700_000, tzinfo=UTC)

    payment = pay(clocked_simulator)

    assert re.fullmatch(r"2031-02-03T04:05:0[67]\.\d{3}Z", payment["created_at"])


def test_refused_payment_says_why_and_who(simulator_process: SimulatorClient) -> None:
    script(
        simulator_process,
        "card-1",
        "canceled",
        "canceled:card_expired",
        "canceled:fraud_suspected",
        "canceled:canceled_by_merchant",
    )

    details = [pay(simulator_process)["cancellation_details"] for _ in range(4)]

    assert [(detail["party"], detail["reason"]) for detail in details] == [
        ("payment_network", "insufficient_funds"),
        ("payment_network", "card_expired"),
        ("yoo_money", "fraud_suspected"),
        ("merchant", "canceled_by_merchant"),
    ]


@pytest.mark.parametrize(
    ("outcome", "paid", "refundable", "present"),
    [
        ("succeeded", True, True, {"captured_at", "income_amount"}),
        ("waiting_for_capture", True, False, {"expires_at"}),
        ("canceled", False, False, {"cancellation_details"}),
        ("pending", False, False, set()),
    ],
)
def test_each_status_has_its_own_fields(
    simulator_process: SimulatorClient,
    outcome: str,
    paid: bool,
    refundable: bool,
    present: set[str],
) -> None:
    script(simulator_process, "card-1", outcome)

    payment = pay(simulator_process)

    own = {"captured_at", "income_amount", "expires_at", "cancellation_details", "confirmation"}
    assert (payment["status"], payment["paid"], payment["refundable"]) == (
        outcome,
        paid,
        refundable,
    )
    assert payment.keys() & own == present
    assert get(simulator_process, payment["id"]) == payment


# Who may ask, and for what


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic é",
        "Bearer " + base64.b64encode(b"1:2").decode(),
        "Basic " + base64.b64encode(b"no-colon").decode(),
        "Basic " + base64.b64encode(b":secret").decode(),
        "Basic " + base64.b64encode(b"100500:").decode(),
        "Basic " + base64.b64encode(b"\xff:x").decode(),
    ],
)
def test_request_without_credentials_is_refused(
    simulator_process: SimulatorClient, authorization: str
) -> None:
    refused = (401, "invalid_credentials", "Authorization")
    header = {"Authorization": authorization.encode().decode("latin-1")}

    assert error_of(post(simulator_process, body(), authorization=header["Authorization"])) == (
        refused
    )
    for path in (API, f"{API}/some-id"):
        assert error_of(simulator_process.call("GET", path, headers=header)) == refused
    assert books(simulator_process)["count"] == 0


@pytest.mark.parametrize("key", ["", "k" * 65])
def test_key_is_required_and_short(simulator_process: SimulatorClient, key: str) -> None:
    answer = post(simulator_process, body(), key)

    assert error_of(answer) == (400, "invalid_request", "Idempotence-Key")
    assert post(simulator_process, body(), "k" * 64).status == 200


@pytest.mark.parametrize("data", [b"", b"a=1", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_body_that_is_no_object_is_refused(simulator_process: SimulatorClient, data: bytes) -> None:
    assert error_of(post(simulator_process, data)) == (400, "invalid_request", None)


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"amount": None}, "amount"),
        ({"amount": "10.00"}, "amount"),
        ({"amount": {"currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": 10.0, "currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": "10", "currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": "10.0", "currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": "10,00", "currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": "10.000", "currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": "010.00", "currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": "-1.00", "currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": "0.00", "currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": "1.00\n", "currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": "1٠.00", "currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": "10.00"}}, "amount.currency"),
        ({"amount": {"value": "10.00", "currency": "rub"}}, "amount.currency"),
        ({"amount": {"value": "10.00", "currency": "RUBL"}}, "amount.currency"),
        ({"capture": "yes"}, "capture"),
        ({"save_payment_method": 1}, "save_payment_method"),
        ({"description": "d" * 129}, "description"),
        ({"description": 7}, "description"),
        ({"payment_method_id": ""}, "payment_method_id"),
        ({"payment_method_id": 7}, "payment_method_id"),
        ({"payment_method_id": None}, "confirmation"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {f"k{number}": "v" for number in range(17)}}, "metadata"),
        ({"metadata": {"k" * 33: "v"}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"confirmation": "redirect"}, "confirmation"),
        ({"confirmation": {"type": "embedded"}}, "confirmation.type"),
        ({"confirmation": {"type": "redirect"}}, "confirmation.return_url"),
        ({"confirmation": {**REDIRECT, "return_url": "/back"}}, "confirmation.return_url"),
        (
            {"confirmation": {**REDIRECT, "return_url": "https://x.test/\r\nSet-Cookie: a=b"}},
            "confirmation.return_url",
        ),
        ({"confirmation": {**REDIRECT, "return_url": "x://\ud800"}}, "confirmation.return_url"),
    ],
)
def test_bad_field_is_refused_by_its_name(
    simulator_process: SimulatorClient, changes: dict[str, Any], parameter: str
) -> None:
    answer = post(simulator_process, body(**changes), "same-key")

    assert error_of(answer) == (400, "invalid_request", parameter)
    assert books(simulator_process)["count"] == 0
    assert pay(simulator_process, "same-key"), "a refused request does not use up its key"


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {f"k{number}": "v" for number in range(16)}},
        {"metadata": {"k" * 32: "v" * 512}},
        {"metadata": None},
        {"description": "d" * 128},
        {"amount": {"value": "0.01", "currency": "USD"}},
        {"amount": {"value": "9999999999.99", "currency": "RUB"}},
        {"description": "\ud800"},
        {"client_ip": "1.2.3.4", "receipt": {"items": []}},
    ],
)
def test_field_at_its_limit_is_taken(
    simulator_process: SimulatorClient, changes: dict[str, Any]
) -> None:
    payment = pay(simulator_process, **changes)

    assert payment["amount"] == body(**changes)["amount"]
    assert payment["metadata"] == body(**changes).get("metadata", {})


# What is decided, and by what


@pytest.mark.parametrize(
    ("digit", "status"),
    [(str(number), "succeeded" if number % 2 else "canceled") for number in range(10)],
)
def test_last_digit_of_the_hash_decides(digit: str, status: str) -> None:
    outcome = outcome_of_hash("13579024681357902468135790246813"[:-1] + digit)

    assert outcome.status == status
    assert outcome.reason == (None if status == "succeeded" else "insufficient_funds")


def test_seed_repeats_the_random_outcomes(simulator_process: SimulatorClient) -> None:
    def forty(seed: int) -> list[str]:
        settings(simulator_process, seed=seed)
        return [pay(simulator_process)["status"] for _ in range(40)]

    first = forty(1)

    assert set(first) == {"succeeded", "canceled"}
    assert forty(1) == first
    assert forty(2) != first


def test_changing_another_setting_does_not_sow_again(simulator_process: SimulatorClient) -> None:
    settings(simulator_process, seed=1)
    whole = [pay(simulator_process)["status"] for _ in range(40)]

    settings(simulator_process, seed=1)
    halves = [pay(simulator_process)["status"] for _ in range(20)]
    settings(simulator_process, webhook_times=2)
    halves += [pay(simulator_process)["status"] for _ in range(20)]

    assert halves == whole


def test_script_is_used_up_in_order_and_then_goes_on(simulator_process: SimulatorClient) -> None:
    settings(simulator_process, default="succeeded")
    script(simulator_process, "card/é 1", "canceled:card_expired", "pending", then="canceled")
    script(simulator_process, "card-2", "canceled")

    def statuses(method_id: str) -> list[str]:
        return [pay(simulator_process, payment_method_id=method_id)["status"] for _ in range(4)]

    assert statuses("card/é 1") == ["canceled", "pending", "canceled", "canceled"]
    assert statuses("card-2") == ["canceled", "succeeded", "succeeded", "succeeded"]


def test_empty_script_goes_back_to_the_default(simulator_process: SimulatorClient) -> None:
    settings(simulator_process, default="canceled:card_expired")
    script(simulator_process, "card-1", "succeeded", then="succeeded")

    simulator_process.control("PUT", "/yookassa/methods/card-1", {})

    assert pay(simulator_process)["cancellation_details"]["reason"] == "card_expired"


def test_success_without_capture_waits_for_it(
    clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> None:
    settings(clocked_simulator, default="succeeded")

    payment = pay(clocked_simulator, capture=None)

    assert payment["status"] == "waiting_for_capture"
    assert payment["expires_at"].startswith("2026-01-08T00:00:0")
    stub_clock.now += timedelta(days=7, seconds=1)
    assert get(clocked_simulator, payment["id"])["cancellation_details"] == {
        "party": "yoo_money",
        "reason": "expired_on_capture",
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "paid",
        "succeeded:",
        "succeeded:x",
        "canceled:Card Expired",
        "canceled:" + "r" * 65,
        "pending:pending",
        "pending:random",
        "pending:waiting_for_capture",
        "waiting_for_capture:x",
        "random:1",
    ],
)
def test_senseless_outcome_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no outcome"):
        parse_outcome(text)


# Pending payments


@pytest.mark.parametrize(
    ("outcome", "settled"),
    [("pending:succeeded", "succeeded"), ("pending:canceled:card_expired", "canceled")],
)
def test_pending_settles_when_its_time_has_come(
    clocked_simulator: SimulatorClient, stub_clock: StubClock, outcome: str, settled: str
) -> None:
    settings(clocked_simulator, settle_after_seconds=3600)
    script(clocked_simulator, "card-1", outcome)
    payment = pay(clocked_simulator, "key")
    created_at = datetime.fromisoformat(payment["created_at"])

    stub_clock.now += timedelta(seconds=3590)
    assert get(clocked_simulator, payment["id"])["status"] == "pending"

    stub_clock.now += timedelta(days=2)
    assert [len(page) for page in pages(clocked_simulator, status="pending")] == [0]
    later = get(clocked_simulator, payment["id"])
    assert later["status"] == settled
    if settled == "succeeded":
        captured_at = datetime.fromisoformat(later["captured_at"])
        assert captured_at == created_at + timedelta(seconds=3600)
    else:
        assert later["cancellation_details"]["reason"] == "card_expired"


def test_plain_pending_settles_either_way_by_the_seed(
    clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> None:
    settings(clocked_simulator, seed=3, default="pending", settle_after_seconds=60)
    ids = [pay(clocked_simulator)["id"] for _ in range(20)]
    stub_clock.now += timedelta(seconds=70)

    assert {get(clocked_simulator, one)["status"] for one in ids} == {"succeeded", "canceled"}


def test_pending_without_a_time_stays_until_it_is_settled(
    clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> None:
    settings(clocked_simulator, default="pending:succeeded")
    payment = pay(clocked_simulator)
    stub_clock.now += timedelta(days=400)
    assert get(clocked_simulator, payment["id"]) == payment

    path = f"/yookassa/payments/{payment['id']}/settle"
    settled = clocked_simulator.control("POST", path, {"status": "canceled", "reason": "unknown"})

    assert settled["cancellation_details"]["reason"] == "unknown"
    with pytest.raises(ValueError, match="canceled already"):
        clocked_simulator.control("POST", path, {"status": "succeeded"})


def test_settled_by_hand_is_not_settled_again_by_time(
    clocked_simulator: SimulatorClient, stub_clock: StubClock
) -> None:
    settings(clocked_simulator, default="pending:succeeded", settle_after_seconds=60)
    by_hand, tampered, forgotten = (pay(clocked_simulator)["id"] for _ in range(3))
    path = "/yookassa/payments"
    clocked_simulator.control("POST", f"{path}/{by_hand}/settle", {"status": "canceled"})
    clocked_simulator.control("PATCH", f"{path}/{tampered}", {"status": "pending"})
    clocked_simulator.control("DELETE", f"{path}/{forgotten}")

    stub_clock.now += timedelta(seconds=70)

    assert get(clocked_simulator, by_hand)["status"] == "canceled"
    assert get(clocked_simulator, tampered)["status"] == "pending"
    assert error_of(ask(clocked_simulator, f"/{forgotten}")) == (404, "not_found", "payment_id")


# A person pays


def redirected(simulator: SimulatorClient, **changes: Any) -> dict[str, Any]:
    return pay(simulator, payment_method_id=None, confirmation=REDIRECT, **changes)


def test_payment_by_redirect_waits_for_the_person(simulator_process: SimulatorClient) -> None:
    payment = redirected(simulator_process)

    assert (payment["status"], payment["paid"]) == ("pending", False)
    assert payment["payment_method"]["saved"] is False
    assert payment["confirmation"] == {
        **REDIRECT,
        "confirmation_url": f"{simulator_process.base_url}/yookassa/pay/{payment['id']}",
    }


@pytest.mark.parametrize("save", [True, False, None])
def test_person_pays_and_comes_back(simulator_process: SimulatorClient, save: bool | None) -> None:
    payment = redirected(simulator_process, save_payment_method=save)
    path = payment["confirmation"]["confirmation_url"].removeprefix(simulator_process.base_url)
    assert simulator_process.call("HEAD", path).status == 405

    answers = [simulator_process.call("GET", path) for _ in range(2)]

    assert [answer.status for answer in answers] == [302, 302]
    assert [answer.headers["Location"] for answer in answers] == [REDIRECT["return_url"]] * 2
    paid = get(simulator_process, payment["id"])
    assert paid["status"] == "succeeded"
    assert "confirmation" not in paid
    assert paid["payment_method"]["saved"] is bool(save)
    assert paid["payment_method"]["id"]


def test_page_of_a_refused_payment_does_not_pay_it(simulator_process: SimulatorClient) -> None:
    payment = redirected(simulator_process)
    simulator_process.control(
        "POST", f"/yookassa/payments/{payment['id']}/settle", {"status": "canceled"}
    )

    assert simulator_process.call("GET", f"/yookassa/pay/{payment['id']}").status == 302
    assert get(simulator_process, payment["id"])["status"] == "canceled"


def test_settled_by_control_saves_the_method(simulator_process: SimulatorClient) -> None:
    payment = redirected(simulator_process, save_payment_method=True)

    settled = simulator_process.control(
        "POST", f"/yookassa/payments/{payment['id']}/settle", {"status": "succeeded"}
    )

    assert settled["payment_method"]["saved"] is True


def test_page_of_no_payment_is_not_found(simulator_process: SimulatorClient) -> None:
    autopayment = pay(simulator_process)["id"]

    for payment_id in ("nothing", autopayment):
        assert simulator_process.call("GET", f"/yookassa/pay/{payment_id}").status == 404


# The same key


def test_same_key_gives_the_payment_as_it_is_now(simulator_process: SimulatorClient) -> None:
    script(simulator_process, "card-1", "pending", "canceled")
    first = pay(simulator_process, "key")
    simulator_process.control(
        "POST", f"/yookassa/payments/{first['id']}/settle", {"status": "succeeded"}
    )

    again = pay(simulator_process, "key")

    assert (again["id"], again["status"]) == (first["id"], "succeeded")
    assert books(simulator_process)["count"] == 1


def test_order_of_fields_makes_no_other_body(simulator_process: SimulatorClient) -> None:
    turned = dict(reversed(body().items()))
    first = pay(simulator_process, "key")

    answer = post(simulator_process, json.dumps(turned, indent=2).encode(), "key")

    assert answer.json() == first


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": {"value": "10.01", "currency": "RUB"}},
        {"payment_method_id": "card-2"},
        {"metadata": None},
        {"amount": {"value": "nonsense", "currency": "RUB"}},
    ],
)
def test_same_key_with_another_body_is_refused(
    simulator_process: SimulatorClient, changes: dict[str, Any]
) -> None:
    first = pay(simulator_process, "key")

    answer = post(simulator_process, body(**changes), "key")

    assert error_of(answer) == (400, "invalid_request", "Idempotence-Key")
    assert pay(simulator_process, "key") == first


@pytest.mark.parametrize(
    ("passed", "payments"),
    [
        (timedelta(hours=23, minutes=59), 1),
        (timedelta(hours=24, seconds=1), 2),
        (timedelta(days=400), 2),
    ],
)
def test_key_is_new_after_a_day(
    clocked_simulator: SimulatorClient, stub_clock: StubClock, passed: timedelta, payments: int
) -> None:
    pay(clocked_simulator, "key")
    stub_clock.now += passed
    second = pay(clocked_simulator, "key")

    assert books(clocked_simulator)["count"] == payments
    assert pay(clocked_simulator, "key")["id"] == second["id"]


# The lists


def fill(simulator: SimulatorClient, count: int, **fields: Any) -> list[str]:
    """Put one payment a minute into the books, from 2026-01-01 on; return their ids."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    orders = [
        {
            "amount": "10.00",
            "status": ("succeeded", "canceled", "pending")[number % 3],
            "created_at": (start + timedelta(minutes=number)).isoformat(),
            **fields,
        }
        for number in range(count)
    ]
    ids: list[str] = simulator.control("POST", "/yookassa/payments", orders)["ids"]
    return ids


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({}, range(25)),
        ({"created_at_gte": "2026-01-01T00:10:00Z"}, range(10, 25)),
        ({"created_at_gt": "2026-01-01T00:10:00.000Z"}, range(11, 25)),
        ({"created_at_lte": "2026-01-01T03:10:00+03:00"}, range(11)),
        ({"created_at_lt": "2026-01-01T00:10:00Z"}, range(10)),
        (
            {"created_at_gte": "2026-01-01T00:05:00Z", "created_at_lt": "2026-01-01T00:08:00Z"},
            range(5, 8),
        ),
        (
            {"created_at_gte": "2026-01-01T00:05:00Z", "created_at_gt": "2026-01-01T00:05:00Z"},
            range(6, 25),
        ),
        ({"created_at_gt": "2026-01-02T00:00:00Z"}, []),
        ({"created_at_gte": "2026-01-01T00:08:00Z", "created_at_lt": "2026-01-01T00:05:00Z"}, []),
        ({"status": "canceled"}, range(1, 25, 3)),
        ({"status": "waiting_for_capture"}, []),
        ({"status": "pending", "created_at_lt": "2026-01-01T00:10:00Z"}, [2, 5, 8]),
        ({"captured_at_gte": "2026-01-01T00:20:00Z"}, [21, 24]),
        ({"captured_at_lt": "2026-01-01T00:04:00Z"}, [0, 3]),
        ({"captured_at_gt": "2026-01-01T00:18:00Z", "status": "canceled"}, []),
    ],
)
@pytest.mark.parametrize("limit", [1, 4, 5, 25, 100])
def test_list_is_filtered_newest_first_over_all_pages(
    simulator_process: SimulatorClient, query: dict[str, str], numbers: Any, limit: int
) -> None:
    ids = fill(simulator_process, 25)

    found = pages(simulator_process, limit=limit, **query)

    expected = [ids[number] for number in reversed(numbers)]
    assert [payment["id"] for page in found for payment in page] == expected
    assert all(len(page) == limit for page in found[:-1])
    assert found[-1] or not expected, "the last page that is promised is not empty"


def test_ten_are_listed_unless_said_otherwise(simulator_process: SimulatorClient) -> None:
    fill(simulator_process, 11)

    answer = ask(simulator_process).json()

    assert len(answer["items"]) == 10
    assert answer["next_cursor"]


def test_payments_of_the_same_moment_are_all_listed_once(
    simulator_process: SimulatorClient,
) -> None:
    ids = fill(simulator_process, 25, created_at="2026-01-01T00:00:00Z")

    found = pages(simulator_process, limit=4)

    assert [payment["id"] for page in found for payment in page] == ids[::-1]


def test_cursor_holds_while_payments_come_change_and_go(
    simulator_process: SimulatorClient,
) -> None:
    ids = fill(simulator_process, 20, status="pending")
    first = ask(simulator_process, status="pending", limit=5).json()
    path = "/yookassa/payments"
    add(simulator_process, status="pending")
    simulator_process.control("POST", f"{path}/{ids[15]}/settle", {"status": "succeeded"})
    simulator_process.control("DELETE", f"{path}/{ids[14]}")

    rest = pages(simulator_process, status="pending", limit=5, cursor=first["next_cursor"])

    assert [payment["id"] for payment in first["items"]] == ids[:14:-1]
    assert [payment["id"] for page in rest for payment in page] == ids[13::-1]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": "ffffffffffff-1"}, "cursor"),
        ({"status": "paid"}, "status"),
        ({"created_at_gte": "yesterday"}, "created_at.gte"),
        ({"captured_at_lt": ""}, "captured_at.lt"),
        ({"created_at_lt": "0001-01-01T00:00:00+14:00"}, "created_at.lt"),
        ({"created_at_eq": "2026-01-01"}, "created_at.eq"),
        ({"created": "2026-01-01"}, "created"),
    ],
)
def test_senseless_list_is_refused_by_its_parameter(
    simulator_process: SimulatorClient, query: dict[str, str], parameter: str
) -> None:
    assert error_of(ask(simulator_process, **query)) == (400, "invalid_request", parameter)


def test_unknown_payment_is_not_found(simulator_process: SimulatorClient) -> None:
    assert error_of(ask(simulator_process, "/nothing")) == (404, "not_found", "payment_id")


def test_page_costs_the_same_in_large_books() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def seconds_for_pages(size: int) -> float:
        timeline = Timeline()
        for number in range(size):
            timeline.add(Payment("1.00", "RUB", order=(start + timedelta(minutes=number), number)))
        low, high = (start, -1), (start + timedelta(minutes=size // 2), -1)
        begin = time.process_time()
        for _ in range(500):
            page = list(itertools.islice(timeline.newest_first(low, high), 10))
            assert page[0].order[1] == size // 2 - 1
        return time.process_time() - begin

    assert seconds_for_pages(50_000) < 10 * seconds_for_pages(500)


def test_ten_thousand_payments_are_listed_to_the_last_page(
    simulator_process: SimulatorClient,
) -> None:
    ids = fill(simulator_process, 5_000) + fill(
        simulator_process, 5_000, created_at="2027-01-01T00:00:00Z"
    )

    found = pages(simulator_process, limit=100)

    assert [payment["id"] for page in found for payment in page] == ids[::-1]


# What the control sees and does


def test_books_show_counts_and_the_last_payments(simulator_process: SimulatorClient) -> None:
    ids = fill(simulator_process, 7)
    script(simulator_process, "card-1", "succeeded")
    last = pay(simulator_process, "the-key")

    shown = simulator_process.control("GET", "/yookassa/payments?limit=2")

    assert shown["count"] == 8
    assert shown["by_status"] == {"succeeded": 4, "canceled": 2, "pending": 2}
    assert shown["items"][0] == {**last, "idempotence_key": "the-key"}
    assert [payment["id"] for payment in shown["items"]] == [last["id"], ids[-1]]


def test_payment_that_nobody_asked_for_is_in_the_books(simulator_process: SimulatorClient) -> None:
    added = add(
        simulator_process,
        amount="12.34",
        currency="USD",
        status="canceled",
        reason="card_expired",
        metadata={"customer": "c-9"},
        payment_method_id="card-9",
        created_at="2026-02-03T04:05:06.789Z",
    )

    payment = get(simulator_process, added["id"])
    assert payment["amount"] == {"value": "12.34", "currency": "USD"}
    assert payment["cancellation_details"]["reason"] == "card_expired"
    assert payment["metadata"] == {"customer": "c-9"}
    assert payment["payment_method"]["id"] == "card-9"
    assert payment["created_at"] == "2026-02-03T04:05:06.789Z"
    assert added["idempotence_key"] is None


def test_tampering_changes_what_is_answered(simulator_process: SimulatorClient) -> None:
    settings(simulator_process, default="canceled")
    payment_id = pay(simulator_process)["id"]
    path = f"/yookassa/payments/{payment_id}"

    simulator_process.control("PATCH", path, {"amount": "99.00", "currency": "EUR"})
    assert get(simulator_process, payment_id)["amount"] == {"value": "99.00", "currency": "EUR"}
    assert get(simulator_process, payment_id)["status"] == "canceled"

    simulator_process.control("PATCH", path, {"status": "succeeded", "metadata": {"a": "b"}})
    assert get(simulator_process, payment_id)["captured_at"]
    assert get(simulator_process, payment_id)["metadata"] == {"a": "b"}

    simulator_process.control("PATCH", path, {"status": "frozen"})
    assert get(simulator_process, payment_id)["status"] == "frozen"
    assert books(simulator_process)["by_status"] == {"frozen": 1}

    simulator_process.control("PATCH", path, {"reason": "permission_revoked"})
    assert get(simulator_process, payment_id)["cancellation_details"]["party"] == "yoo_money"


def test_forgotten_payment_frees_its_key(simulator_process: SimulatorClient) -> None:
    first = pay(simulator_process, "key")
    simulator_process.control("DELETE", f"/yookassa/payments/{first['id']}")

    assert ask(simulator_process, f"/{first['id']}").status == 404
    assert pages(simulator_process) == [[]]
    assert pay(simulator_process, "key")["id"] != first["id"]


def test_summary_tells_who_paid_what_how_often(simulator_process: SimulatorClient) -> None:
    script(simulator_process, "card-1", "succeeded", "succeeded", "canceled", "succeeded")
    for number, key in enumerate(["a", "b", "c", "a", "d"]):
        metadata = {"payment_id": "p-1" if number < 2 else "p-2", "customer": "c-1"}
        if key == "a":
            metadata = {"payment_id": "p-1", "customer": "c-1"}
        pay(simulator_process, key, metadata=metadata)
    add(simulator_process, amount="0.05", currency="USD", metadata={"customer": "c-2"})
    add(simulator_process, amount="5.00", metadata={"customer": "c-1"})

    assert simulator_process.control("GET", "/yookassa/summary") == {
        "succeeded_by_payment_id": {"p-1": 2, "p-2": 1},
        "succeeded_by_idempotence_key": {"a": 1, "b": 1, "c": 0, "d": 1},
        "paid_more_than_once": ["p-1"],
        "paid_by_customer": {"c-1": {"RUB": "35.00"}, "c-2": {"USD": "0.05"}},
    }


def test_reset_forgets_everything(simulator_process: SimulatorClient) -> None:
    before = simulator_process.control("GET", "/yookassa/settings")
    settings(
        simulator_process,
        seed=1,
        default="succeeded",
        settle_after_seconds=5,
        webhook_url=f"{simulator_process.base_url}/inbox/notices",
        webhook_times=2,
        webhook_shuffle=True,
    )
    script(simulator_process, "card-1", "canceled", then="canceled")
    payment = pay(simulator_process, "key")

    simulator_process.reset()

    assert simulator_process.control("GET", "/yookassa/settings") == before
    assert simulator_process.control("GET", "/yookassa/methods/card-1") == {
        "outcomes": [],
        "then": None,
    }
    assert books(simulator_process) == {"count": 0, "by_status": {}, "items": []}
    assert pay(simulator_process, "key")["id"] != payment["id"]


def test_oldest_payments_are_forgotten_when_the_books_are_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("simulator.yookassa.payment_store.KEPT_PAYMENTS", 10)
    monkeypatch.setattr("simulator.yookassa.payment_store.FORGOTTEN_AT_ONCE", 4)
    store = PaymentStore(clock=None, on_final=lambda _: None)  # type: ignore[arg-type]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    payments = [Payment("1.00", "RUB", idempotence_key=f"key-{number}") for number in range(11)]

    for number, payment in enumerate(payments):
        store.add(payment, start + timedelta(minutes=-number if number == 10 else number))

    assert list(store.all.newest_first()) == [*payments[9:3:-1], payments[10]]
    assert store.get(payments[3].id) is None
    assert store.made_with("key-3", start) is None
    assert store.made_with("key-4", start) is payments[4]


@pytest.mark.parametrize(
    ("method", "path", "data", "status"),
    [
        ("PUT", "/settings", {"seed": "one"}, 400),
        ("PUT", "/settings", {"seed": True}, 400),
        ("PUT", "/settings", {"default": "paid"}, 400),
        ("PUT", "/settings", {"default": None}, 400),
        ("PUT", "/settings", {"settle_after_seconds": -1}, 400),
        ("PUT", "/settings", {"webhook_url": "ftp://x"}, 400),
        ("PUT", "/settings", {"webhook_url": "http://x y"}, 400),
        ("PUT", "/settings", {"webhook_times": 0}, 400),
        ("PUT", "/settings", {"webhook_shuffle": 1}, 400),
        ("PUT", "/settings", {"sed": 1}, 400),
        ("PUT", "/settings", [], 400),
        ("PUT", "/methods/card-1", {"outcomes": "succeeded"}, 400),
        ("PUT", "/methods/card-1", {"outcomes": [1]}, 400),
        ("PUT", "/methods/card-1", {"outcomes": ["paid"]}, 400),
        ("PUT", "/methods/card-1", {"then": "paid"}, 400),
        ("PUT", "/methods/card-1", {"next": "succeeded"}, 400),
        ("POST", "/payments", {}, 400),
        ("POST", "/payments", b"{", 400),
        ("POST", "/payments", {"amount": "1.00"}, 400),
        ("POST", "/payments", {"amount": "1", "status": "succeeded"}, 400),
        ("POST", "/payments", {"amount": "1.00", "currency": "R", "status": "succeeded"}, 400),
        ("POST", "/payments", {"amount": "1.00", "status": "Paid!"}, 400),
        ("POST", "/payments", {"amount": "1.00", "status": "succeeded", "reason": "x"}, 400),
        ("POST", "/payments", {"amount": "1.00", "status": "succeeded", "id": "x"}, 400),
        ("POST", "/payments", {"amount": "1.00", "status": "succeeded", "created_at": 1}, 400),
        ("POST", "/payments", [{"amount": "1.00", "status": "succeeded"}, 7], 400),
        ("GET", "/payments?limit=x", None, 400),
        ("PATCH", "/payments/nothing", {"amount": "1.00"}, 404),
        ("PATCH", "/payments/nothing", {"value": "1.00"}, 400),
        ("DELETE", "/payments/nothing", None, 404),
        ("POST", "/payments/nothing/settle", {"status": "succeeded"}, 404),
        ("POST", "/payments/nothing/settle", {"status": "pending"}, 400),
        ("POST", "/payments/nothing/settle", {}, 400),
    ],
)
def test_senseless_control_is_refused(
    simulator_process: SimulatorClient, method: str, path: str, data: Any, status: int
) -> None:
    before = simulator_process.control("GET", "/yookassa/settings")

    answer = simulator_process.call(method, f"/control/yookassa{path}", data)

    assert answer.status == status
    assert answer.json()["error"]
    assert simulator_process.control("GET", "/yookassa/settings") == before
    assert books(simulator_process)["count"] == 0
