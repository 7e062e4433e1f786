"""A plain web service in Node: single clicks with a commit each, and a route that does nothing.

Fastify and pg with one INSERT and one commit per click, in two processes with a pool of 20 each:
what a good shop writes in an afternoon. Its empty route is what this machine's two cores can do
with HTTP and nothing else, whoever serves it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.load import wait_for
from benchmarks.peers.installed import node_scripts
from benchmarks.rig import Rig
from ops import ports
from project.clicks.settings import ClickSettings
from project.config.environment import get_settings
from tests.support.stack import Program

TABLES = (
    "DROP SCHEMA IF EXISTS peer CASCADE",
    "CREATE SCHEMA peer",
    """CREATE TABLE peer.clicks (
        click_id text PRIMARY KEY, offer_id bigint NOT NULL, source text NOT NULL,
        clicked_at timestamptz NOT NULL, signature text,
        received_at timestamptz NOT NULL DEFAULT now()
    )""",
)


@dataclass(frozen=True)
class Fastify:
    """Where the running service takes clicks, and where it does nothing."""

    clicks_url: str
    empty_url: str


@contextmanager
def fastify(rig: Rig) -> Iterator[Fastify]:
    """Serve the peer over an empty table of its own. Raises Missing where it cannot be had."""
    script = node_scripts() / "fastify.js"
    for statement in TABLES:
        rig.execute(statement)
    url = f"http://{ports.LOOPBACK}:{ports.free_port()}"
    server = Program(
        "fastify",
        ["node", str(script)],
        {
            **rig.stack.environment,
            "PORT": url.rpartition(":")[2],
            "PEER_DATABASE_URL": rig.plain_database_url,
            "PEER_SECRET": get_settings(ClickSettings).click_webhook_secrets[0],
        },
        rig.stack.folder / "log" / "fastify.log",
    )
    server.start()
    try:
        wait_for(url)
        yield Fastify(f"{url}/clicks", f"{url}/empty")
    finally:
        server.discard()
