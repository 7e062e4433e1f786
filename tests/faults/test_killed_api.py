"""kill -9 of the API between the writing down of a receipt and the store's answer."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.world import (
    Api,
    assert_books_agree,
    assert_each_callback_was_delivered,
    eventually,
    leases,
    make_apps,
    seed_devices,
    undelivered,
    unverified,
)
from tests.support.stack import Stack, running_stack

STORE_SECONDS = 4
SETTINGS = {
    "STORE_TIMEOUT_SECONDS": "6",
    "STORE_INTERACTIVE_TIMEOUT_SECONDS": "6",
    "LEASE_SLACK_SECONDS": "1",
}
CUSTOMERS = 5


def test_receipt_of_a_killed_api_is_verified_in_the_background() -> None:
    with running_stack(workers=1, schedulers=0, environment=SETTINGS) as stack:
        apps = make_apps(stack, 1)
        seed_devices(stack, apps, CUSTOMERS)
        slow = stack.simulator.add_fault("/*/verify", delay_seconds=STORE_SECONDS)
        with ThreadPoolExecutor(CUSTOMERS) as at_once:
            answers = [
                at_once.submit(Api(stack).buy, device, f"cut-off-{device}-x1")
                for device in range(1, CUSTOMERS + 1)
            ]
            eventually(lambda: leases(stack) == CUSTOMERS, within=30, what="receipts written")
            stack.api.kill()
            for answer in answers:
                with pytest.raises(ConnectionError):
                    answer.result()
        assert _states(stack) == [("pending", CUSTOMERS)]
        stack.simulator.control("DELETE", f"/faults/{slow}")

        stack.api.start()
        stack.await_ready()
        eventually(lambda: leases(stack) == 0, within=30, what="the leases end")
        stack.flask("purchase-run")

        eventually(lambda: not unverified(stack) and not undelivered(stack), within=30, what="done")
        assert _states(stack) == [("active", CUSTOMERS)]
        assert Api(stack).check(1).json()["active"] is True
        assert stack.fetch("SELECT type, count(*) FROM events GROUP BY 1") == [
            ("started", CUSTOMERS)
        ]
        assert_books_agree(stack)
        assert_each_callback_was_delivered(stack, apps)


def _states(stack: Stack) -> list[tuple[str, int]]:
    return stack.fetch("SELECT state, count(*) FROM purchases GROUP BY 1")
