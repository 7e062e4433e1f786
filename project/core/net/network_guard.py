"""Which addresses a URL that a user gave may lead to."""

import ipaddress
import re
import socket
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from project.addresses import Address
from project.config.environment import get_settings
from project.config.kernel import Network, NetworkSettings
from project.core.errors import BadRequest
from project.core.net.name_lookup import NameLookup

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
        # Of IPv6 only 2000::/3 is given out; all around it, then what is special within it.
        "::/3",
        "4000::/2",
        "8000::/1",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "2620:4f:8000::/48",
        "3ffe::/16",
        "3fff::/20",
        "168.63.129.16/32",
    )
)
MAX_URL_LENGTH = 2048
MAX_NAME_LENGTH = 253
LABEL = re.compile(r"[a-z0-9_-]{1,63}", re.IGNORECASE)
BRACKETS = re.compile(r"[^/?#]*//[^/?#]*\[")
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)


class ForbiddenAddress(OSError):
    """The name or address leads into a network that users' URLs may not reach."""


def is_allowed(address: Address) -> bool:
    """Tell whether a user's URL may connect to this address."""
    if any(
        _contains(network, address)
        for network in get_settings(NetworkSettings).callback_allowed_networks
    ):
        return True
    return not any(_contains(network, address) for network in FORBIDDEN_NETWORKS)


def _contains(network: Network, address: Address) -> bool:
    return network.version == address.version and address in network


def require_allowed(host: str) -> None:
    """Raise ForbiddenAddress if the host is an address into a forbidden network."""
    address = _address(host)
    if address is None:
        # A number that resolvers take for an address: 127.1, 2130706433, 0177.0.0.1, 0x7f.1.
        if NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
            raise ForbiddenAddress(f"{host} is not how an address is written")
    elif not is_allowed(address):
        raise ForbiddenAddress(f"{host} is in a network that is not allowed")


class GuardedResolver(AbstractResolver):
    """Resolve a name once and let the connection be made only to addresses that are allowed."""

    def __init__(self, names: NameLookup) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the allowed addresses. Raises ForbiddenAddress if any of them is forbidden."""
        addresses = await self._names.addresses(host, family)
        for address, _ in addresses:
            require_allowed(address)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=found_family,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address, found_family in addresses
        ]

    async def close(self) -> None:
        """Leave the lookup to others who use it."""


def check_url(url: str, addresses: Sequence[str] | None = None, *, field: str = "endpoint") -> None:
    """Raise BadRequest, naming the field, if the URL cannot be one that callbacks go to.

    `addresses` is what the host resolved to, if it was looked up.
    """
    reason = _objection(url, addresses or ())
    if reason:
        raise BadRequest(f"The {field} cannot be used: {reason}", {field: [reason]})


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _is_name(host: str) -> bool:
    name = host.removesuffix(".")
    return len(name) <= MAX_NAME_LENGTH and all(map(LABEL.fullmatch, name.split(".")))


def _objection(url: str, addresses: Sequence[str]) -> str | None:
    if len(url) > MAX_URL_LENGTH:
        return f"It is longer than {MAX_URL_LENGTH} characters."
    if any(character.isspace() or ord(character) < 32 for character in url):
        return "It contains white space or control characters."
    try:
        parsed = URL(url)
        host = parsed.raw_host
    except ValueError:
        return "It is not a URL."
    if parsed.scheme not in ("http", "https") or not host:
        return "It must be an http or https URL with a host."
    if parsed.user or parsed.password:
        return "It must not contain a user name or password."
    if parsed.port == 0:
        return "Nothing can be sent to port 0."
    is_address = _address(host) is not None
    if BRACKETS.match(url) and not is_address:
        return "What stands in brackets is no address."
    if not is_address and not _is_name(host):
        return (
            f"{host[:80]} is no host name: names are labels of 1 to 63 letters, digits and hyphens."
        )
    try:
        for address in (host, *addresses):
            require_allowed(address)
    except ForbiddenAddress:
        return "It leads into a network that is not allowed."
    return None
