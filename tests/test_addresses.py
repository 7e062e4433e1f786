"""Who a sender is, behind proxies or not, and what it is counted under."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from project.addresses import UNKNOWN, counted_as, sender

PROXY = "10.0.0.1"


@pytest.mark.parametrize(
    ("lines", "hops", "found"),
    [
        ([], 1, PROXY),
        (["192.0.2.1"], 0, PROXY),
        (["192.0.2.1"], 1, "192.0.2.1"),
        (["192.0.2.1"], 2, PROXY),
        (["192.0.2.1, 192.0.2.2"], 1, "192.0.2.2"),
        (["192.0.2.1, 192.0.2.2"], 2, "192.0.2.1"),
        (["192.0.2.1", "192.0.2.2"], 1, "192.0.2.2"),
        (["192.0.2.1, 192.0.2.2", "192.0.2.3"], 2, "192.0.2.2"),
        (["192.0.2.1:4711"], 1, "192.0.2.1"),
        (["[2001:db8::1]:4711"], 1, "2001:db8::1"),
        (["[2001:db8::1]"], 1, "2001:db8::1"),
        (["2001:DB8:0::1"], 1, "2001:db8::1"),
        (["::ffff:192.0.2.1"], 1, "192.0.2.1"),
        (["[::ffff:192.0.2.1]:80"], 1, "192.0.2.1"),
        (["192.0.2.1, unknown"], 1, UNKNOWN),
        (["192.0.2.1, "], 1, UNKNOWN),
        (["192.0.2.1, 192.0.2.2:99999999"], 1, UNKNOWN),
        (["192.0.2.1, 192.0.2.300"], 1, UNKNOWN),
        (["192.0.2.1, [192.0.2.2"], 1, UNKNOWN),
        (["192.0.2.1;192.0.2.2"], 1, UNKNOWN),
    ],
)
def test_the_sender_is_whom_the_outermost_trusted_proxy_saw(
    lines: list[str], hops: int, found: str
) -> None:
    assert sender(PROXY, lines, hops) == found


@given(st.lists(st.text(), max_size=3), st.lists(st.ip_addresses(), min_size=1, max_size=4))
def test_what_was_written_before_the_trusted_proxies_decides_nothing(
    forged: list[str], seen: list[object]
) -> None:
    trusted = [str(address) for address in seen]

    assert sender(PROXY, [*forged, *trusted], len(seen)) == sender(PROXY, trusted, len(seen))


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_the_addresses_of_one_64_count_together(address: object, host: int) -> None:
    network = int(address) >> 64 << 64  # type: ignore[call-overload]
    if network:
        neighbour = type(address)(network | host)  # type: ignore[call-arg]
        assert counted_as(str(neighbour)) == counted_as(str(address))


def test_each_ipv4_address_counts_by_itself_however_it_is_written() -> None:
    assert counted_as("192.0.2.1") != counted_as("192.0.2.2")
    assert counted_as("::ffff:192.0.2.1") == counted_as("192.0.2.1")
    assert counted_as("::ffff:192.0.2.1") != counted_as("::ffff:192.0.2.2")
    assert counted_as("2001:db8::1") != counted_as("2001:db8:0:1::1")
