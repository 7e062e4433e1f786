"""Looking up the names in users' URLs: apart from all other names, without a thread, in a set time.

The system's own lookup blocks a thread for as long as it likes, so a few names that hang would take
every thread that others need.
"""

import asyncio
import socket
from collections.abc import Sequence

import pycares
from aiodns import DNSResolver
from aiodns.error import DNSError

LOOKUP_SECONDS = 4.0
TRY_SECONDS = 1.0
TRIES = 2
NO_SUCH_NAME = frozenset(
    (pycares.errno.ARES_ENOTFOUND, pycares.errno.ARES_ENODATA, pycares.errno.ARES_EBADNAME)
)


class LookupUnanswered(OSError):
    """No name server said whether the name exists."""


class NameLookup:
    """Asks the name servers given, or those of /etc/resolv.conf, and reads /etc/hosts."""

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self._resolver = DNSResolver(servers or None, timeout=TRY_SECONDS, tries=TRIES)

    async def addresses(
        self, host: str, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[str, socket.AddressFamily]]:
        """Return the addresses of a name. Raises OSError if it has none, LookupUnanswered."""
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = await self._resolver.getaddrinfo(
                    host, family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
                )
        except TimeoutError as error:
            raise LookupUnanswered(f"nothing within {LOOKUP_SECONDS:g} s") from error
        except DNSError as error:
            number, words = error.args
            kind = OSError if number in NO_SUCH_NAME else LookupUnanswered
            raise kind(words) from error
        return [(node.addr[0].decode(), socket.AddressFamily(node.family)) for node in found.nodes]

    async def close(self) -> None:
        """Ask nothing more."""
        await self._resolver.close()
