"""The shape of a fault as it is asked for."""

from dataclasses import dataclass, field, fields
from http import HTTPStatus
from typing import Literal

from simulator.json_http import (
    bad_request,
    number,
    reject_unknown,
    text,
    whole_number,
)
from simulator.settings import LONGEST_DELAY_SECONDS

BIGGEST_BODY_BYTES = 256 * 1024 * 1024

Drop = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class FaultOrder:
    """Which requests get a fault, and what it does to them."""

    match: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    body_bytes: int | None = None
    delay_seconds: float = 0.0
    drop: Drop | None = None
    times: int | None = None
    rate: float = 1.0
    seed: int | None = None

    @property
    def replaces_work(self) -> bool:
        """Whether the fault answers in place of the simulated system."""
        return self.status is not None or self.body is not None or self.body_bytes is not None


KNOWN_FIELDS = frozenset(known.name for known in fields(FaultOrder))


def parse_fault_order(data: dict[str, object]) -> FaultOrder:
    """Return the fault that `data` asks for, or answer 400; null means not given."""
    reject_unknown(data, KNOWN_FIELDS)
    given = {name: value for name, value in data.items() if value is not None}
    body = given.get("body")
    return FaultOrder(
        match=text("match", given.get("match")),
        status=_whole("status", given, 200, 599),
        headers=_headers(given.get("headers", {})),
        body=None if body is None else text("body", body),
        body_bytes=_whole("body_bytes", given, 0, BIGGEST_BODY_BYTES),
        delay_seconds=number(
            "delay_seconds", given.get("delay_seconds", 0.0), 0, LONGEST_DELAY_SECONDS
        ),
        drop=_drop(given.get("drop")),
        times=_whole("times", given, 1, 10**9),
        rate=number("rate", given.get("rate", 1.0), 0, 1),
        seed=_whole("seed", given, -(2**63), 2**63),
    )


def fault_body(order: FaultOrder) -> tuple[bytes, str]:
    """Return the body of the answer that a fault gives, and its content type."""
    if order.body is not None:
        return order.body.encode("utf-8", "replace"), "text/plain; charset=utf-8"
    if order.body_bytes is not None:
        return b"x" * order.body_bytes, "application/octet-stream"
    if order.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        return b"", "application/json"
    return b'{"error": "fault"}', "application/json"


def _whole(name: str, given: dict[str, object], minimum: int, maximum: int) -> int | None:
    if name not in given:
        return None
    return whole_number(name, given[name], minimum, maximum)


def _drop(value: object) -> Drop | None:
    match value:
        case None | "before" | "after":
            return value
        case _:
            raise bad_request('drop is not "before" or "after"')


def _headers(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise bad_request("headers is not an object")
    for name, content in value.items():
        if set("\r\n\0") & set(name + text(f"header {name}", content)):
            raise bad_request("headers may not have line breaks")
    return value
