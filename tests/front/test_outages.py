"""The event loop goes on while servers hang or break off, and ends without losing anything."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from tests.faults.world import eventually
from tests.front.conftest import SETTINGS, Answered, Served, Wire, request
from tests.front.test_cut_bodies import signed_click
from tests.processes import frozen
from tests.support.stack import Stack, running_stack

LIVE = request("/health/live", method="GET")
UNKNOWN_DEVICE = request("/api/purchase/check", b'{"client-token": "nobody"}')
PROMPT_SECONDS = 1.0
IDS = "SELECT unnest(click_ids) FROM click_inbox"


def timed(served: Served, raw: bytes) -> tuple[int, float]:
    """Return the status of an answer, and how many seconds it took."""
    began = time.monotonic()
    answer = served.ask(raw)
    assert isinstance(answer, Answered)
    return answer.status, time.monotonic() - began


def test_a_redis_that_hangs_delays_no_click_and_no_check(served: Served) -> None:
    late: list[bool] = []
    with frozen([served.stack.valkey.pid]):
        ends_at = time.monotonic() + 4
        number = 1_000
        while time.monotonic() < ends_at:
            number += 1
            for raw, status in ((signed_click(number), 202), (UNKNOWN_DEVICE, 401), (LIVE, 200)):
                answered, seconds = timed(served, raw)
                assert answered == status
                late.append(seconds >= PROMPT_SECONDS)
    # Now and then it is the machine that is late.
    assert sum(late) <= len(late) // 20


def test_a_database_that_hangs_leaves_the_loop_alive(served: Served) -> None:
    with served.wire() as clicking, served.wire() as checking:
        with frozen([_backend_of_clicks(served)]):
            clicking.send(signed_click(2_001))
            checking.send(UNKNOWN_DEVICE)
            assert min(timed(served, LIVE)[1] for _ in range(3)) < PROMPT_SECONDS
        answers = clicking.answer(), checking.answer()

    assert [answer and answer.status for answer in answers] == [202, 401]


def _backend_of_clicks(served: Served) -> int:
    """Return the process of Postgres that writes this process's clicks."""
    assert timed(served, signed_click(2_000))[0] == 202
    query = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'INSERT INTO click_inbox%'"
    (row, *_) = served.stack.fetch(query)
    return int(row[0])


def test_connections_that_postgres_ends_are_not_noticed(served: Served) -> None:
    for raw, status in ((signed_click(3_000), 202), (UNKNOWN_DEVICE, 401)):
        assert timed(served, raw)[0] == status
    served.stack.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    for number in range(3_001, 3_004):
        assert timed(served, signed_click(number))[0] == 202
        assert timed(served, UNKNOWN_DEVICE)[0] == 401


def test_clicks_that_arrive_together_are_all_there(served: Served) -> None:
    numbers = iter(range(4_000, 8_000))
    with ExitStack() as held:
        wires = [held.enter_context(served.wire()) for _ in range(40)]
        for wire in wires:
            wire.send(b"".join(signed_click(next(numbers)) for _ in range(10)))
        for wire in wires:
            for _ in range(10):
                answer = wire.answer()
                assert isinstance(answer, Answered)
                assert answer.status == 202

    stored = {row[0] for row in served.stack.fetch(IDS)}
    assert {f"cut-{number}" for number in range(4_000, 4_400)} <= stored


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A copy whose API may be stopped."""
    with running_stack(workers=0, schedulers=0, api_workers=2, environment=SETTINGS) as stack:
        yield stack


def test_a_process_that_is_killed_is_replaced_while_the_other_serves(stack: Stack) -> None:
    served = Served(stack)
    children = _children(stack.api.pid)
    assert len(children) == 2

    os.kill(children[0], signal.SIGKILL)
    eventually(
        lambda: len(_children(stack.api.pid)) == 2 and children[0] not in _children(stack.api.pid),
        within=20,
        what="it is replaced",
    )

    for number in range(20):
        assert timed(served, signed_click(number))[0] == 202


def test_a_stop_loses_nothing_that_was_answered_and_answers_what_is_under_way(
    stack: Stack,
) -> None:
    served = Served(stack)
    accepted: list[str] = []

    def send(sender: int) -> None:
        """Send clicks on one connection until it is ended."""
        with suppress(ConnectionError), served.wire() as wire:
            for number in range(sender * 100_000, (sender + 1) * 100_000):
                answer = wire.send(signed_click(number)).answer()
                if answer is None:
                    return
                assert answer.status == 202
                accepted.append(json.loads(answer.body)["click_id"])

    with ThreadPoolExecutor(8) as pool, served.wire() as slow:
        whole = signed_click(900_000)
        slow.send(whole[:-5])
        senders = [pool.submit(send, number) for number in range(8)]
        eventually(lambda: len(accepted) > 100, within=30, what="clicks are taken")
        stack.api.send(signal.SIGTERM)
        eventually(lambda: not _listens(served), within=10, what="nobody is let in")
        last = slow.send(whole[-5:]).answer()
        for sender in senders:
            sender.result()

    assert last is not None
    assert (last.status, last.headers["connection"]) == (202, "close")
    eventually(lambda: not stack.api.is_running, within=10, what="the API ends")
    assert stack.api.exit_status == 0
    stored = {row[0] for row in stack.fetch(IDS)}
    assert set(accepted) <= stored
    assert "cut-900000" in stored
    stack.api.start()
    stack.await_ready()


def _listens(served: Served) -> bool:
    try:
        wire: Wire = served.wire()
    except ConnectionRefusedError:
        return False
    wire.socket.close()
    return True


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        return [int(child) for child in children.read().split()]
