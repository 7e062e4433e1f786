"""Who is calling: the sender behind trusted proxies, and what its requests are counted under."""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

UNKNOWN = "unknown"
"""The address of a sender whom a trusted proxy did not name: it is nobody's, and never trusted."""
SUBSCRIBER_PREFIX = 64
"""One customer of a network has so many leading bits of IPv6 to itself, and all the rest."""
KEPT_ADDRESSES = 10_000
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::[0-9]{1,5})?")
_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_address(written: str) -> Address | None:
    """Read an address, also with a port or in brackets; None if it is none.

    An IPv4 address that is mapped into IPv6 is the IPv4 address.
    """
    found = _BRACKETED.fullmatch(written) or _WITH_PORT.fullmatch(written)
    try:
        address = ipaddress.ip_address(found.group(1) if found else written)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=KEPT_ADDRESSES)
def counted_as(address: str) -> str:
    """Return what the limits count an address under: itself, or its /64 if it is IPv6."""
    parsed = parse_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        network = ipaddress.ip_network((int(parsed), SUBSCRIBER_PREFIX), strict=False)
        return str(network)
    return address if parsed is None else str(parsed)


def hop(values: Sequence[str], hops: int) -> str | None:
    """Return what the outermost of so many proxies wrote; None if not all of them did.

    `values` are the lines of a header that each proxy adds to, in their order.
    """
    written = [part.strip() for value in values for part in value.split(",")]
    return written[-hops] if 0 < hops <= len(written) else None


def sender(peer: str, forwarded_for: Sequence[str], hops: int) -> str:
    """Return the address of whoever sent a request.

    With `hops` trusted proxies in front it is what the outermost of them saw, or UNKNOWN if that
    is no address. Without that many values, the request did not come through them: it is the peer.
    """
    named = hop(forwarded_for, hops) if forwarded_for else None
    if named is None:
        return _written(peer) or peer
    return _written(named) or UNKNOWN


@lru_cache(maxsize=KEPT_ADDRESSES)
def _written(address: str) -> str | None:
    parsed = parse_address(address)
    return None if parsed is None else str(parsed)
