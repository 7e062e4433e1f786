"""Which addresses a URL that a user gave may lead to."""

import ipaddress
import socket
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from project.config import Network, get_settings
from project.core.errors import BadRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# `ipaddress.is_private` and `is_global` judge NAT64, 6to4 and multicast ranges wrongly, so the
# list is explicit: the IANA special-purpose registries, and every prefix that embeds IPv4.
FORBIDDEN_NETWORKS: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "2620:4f:8000::/48",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
        "168.63.129.16/32",
    )
)
MAX_URL_LENGTH = 2048


class ForbiddenAddress(OSError):
    """The name or address leads into a network that users' URLs may not reach."""


def is_allowed(address: Address) -> bool:
    """Tell whether a user's URL may connect to this address."""
    if any(_contains(network, address) for network in get_settings().callback_allowed_networks):
        return True
    return not any(_contains(network, address) for network in FORBIDDEN_NETWORKS)


def _contains(network: Network, address: Address) -> bool:
    return network.version == address.version and address in network


def require_allowed(host: str) -> None:
    """Raise ForbiddenAddress if the host is an address into a forbidden network."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        # A number that resolvers take for an address: 127.1, 2130706433, 0177.0.0.1.
        if host.replace(".", "").isdigit():
            raise ForbiddenAddress(f"{host} is not how an address is written") from None
        return
    if not is_allowed(address):
        raise ForbiddenAddress(f"{host} is in a network that is not allowed")


class GuardedResolver(AbstractResolver):
    """Resolve a name once and let the connection be made only to addresses that are allowed."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the allowed addresses. Raises ForbiddenAddress if any of them is forbidden."""
        results = await self._resolver.resolve(host, port, family)
        for result in results:
            require_allowed(result["host"])
        return results

    async def close(self) -> None:
        """Close the resolver beneath."""
        await self._resolver.close()


def check_url(url: str, addresses: Sequence[str] | None = None, *, field: str = "endpoint") -> None:
    """Raise BadRequest, naming the field, if the URL cannot be one that callbacks go to.

    `addresses` is what the host resolved to, if it was looked up.
    """
    reason = _objection(url, addresses or ())
    if reason:
        raise BadRequest(f"The {field} cannot be used: {reason}", {field: [reason]})


def _objection(url: str, addresses: Sequence[str]) -> str | None:
    if len(url) > MAX_URL_LENGTH:
        return f"It is longer than {MAX_URL_LENGTH} characters."
    if any(character.isspace() or ord(character) < 32 for character in url):
        return "It contains white space or control characters."
    try:
        parsed = URL(url)
        host = parsed.host
    except ValueError:
        return "It is not a URL."
    if parsed.scheme not in ("http", "https") or not host:
        return "It must be an http or https URL with a host."
    if parsed.user or parsed.password:
        return "It must not contain a user name or password."
    try:
        for address in (host, *addresses):
            require_allowed(address)
    except ForbiddenAddress:
        return "It leads into a network that is not allowed."
    return None
