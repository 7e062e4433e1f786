import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from redis import AuthenticationError, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.engine import make_url

from ops import postgres, privileges
from ops.environment import PROJECT
from ops.errors import OpsError
from tests.support.servers import Server, embedded_postgres, embedded_valkey

NO_RETRY = Retry(NoBackoff(), 0)
LONG_NAME = "a-folder-with-a-name-so-long-that-no-socket-below-it-can-have-a-path-of-107-bytes"


@pytest.fixture(scope="module")
def database(short_folder: Path) -> Iterator[Server]:
    with embedded_postgres(short_folder / "p", durable=True) as server:
        yield server


@pytest.fixture(scope="module")
def queue(short_folder: Path) -> Iterator[Server]:
    with embedded_valkey(short_folder / "v", durable=True) as server:
        yield server


@pytest.fixture(scope="module")
def far_folder(short_folder: Path) -> Path:
    return short_folder / LONG_NAME / "x"


def libpq(url: str) -> str:
    return url.replace("+psycopg", "", 1)


def connect(server: Server) -> psycopg.Connection:
    return psycopg.connect(libpq(server.url), autocommit=True)


def ask(server: Server, query: str) -> object:
    with connect(server) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


def modes_above(folder: Path) -> dict[Path, int]:
    return {parent: parent.stat().st_mode for parent in folder.parents}


class TestPostgres:
    def test_the_application_is_not_a_superuser_but_owns_its_database(self, database: Server):
        assert ask(database, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
        owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
        assert ask(database, owner) == "perennial"

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("timezone", "UTC"),
            ("data_checksums", "on"),
            ("server_encoding", "UTF8"),
            ("fsync", "on"),
            ("listen_addresses", ""),
            ("password_encryption", "scram-sha-256"),
        ],
    )
    def test_setting(self, database: Server, setting: str, value: str):
        assert ask(database, f"SELECT current_setting('{setting}')") == value

    def test_the_extension_that_only_a_superuser_may_create_is_there(self, database: Server):
        with connect(database) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS earthdistance")

    @pytest.mark.parametrize("role", ["perennial", "postgres"])
    def test_a_wrong_password_is_refused(self, database: Server, role: str):
        url = make_url(database.url).set(drivername="postgresql", username=role, password="wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(url.render_as_string(hide_password=False))

    def test_nobody_is_trusted(self, database: Server, short_folder: Path):
        rules = (short_folder / "p" / "postgres" / "pg_hba.conf").read_text().splitlines()
        assert rules == ["local all all scram-sha-256"]

    def test_data_and_url_stay_when_it_is_stopped_and_started(self, database: Server):
        url, pid = database.url, database.pid
        with connect(database) as connection:
            connection.execute("CREATE TABLE stopped AS SELECT 1 AS value")
        database.stop()
        assert not database.is_running
        database.start()
        assert (database.url, ask(database, "SELECT value FROM stopped")) == (url, 1)
        assert database.pid != pid

    def test_a_commit_survives_a_kill_although_a_session_outlives_the_server(
        self, database: Server
    ):
        with connect(database) as connection:
            connection.execute("CREATE TABLE killed AS SELECT 1 AS value")
        busy = threading.Thread(target=self.keep_a_session_busy, args=(database,))
        busy.start()
        while not ask(database, "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^INSERT'"):
            time.sleep(0.01)
        database.stop(kill=True)
        database.start()
        busy.join()
        assert ask(database, "SELECT value FROM killed") == 1

    def test_it_starts_although_another_process_has_the_pid_of_a_killed_one(
        self, database: Server, short_folder: Path
    ):
        database.stop(kill=True)
        pid_file = short_folder / "p" / "postgres" / "data" / "postmaster.pid"
        lines = pid_file.read_text().splitlines(keepends=True)
        owner = pid_file.stat()
        other = subprocess.Popen(["sleep", "60"], user=owner.st_uid, group=owner.st_gid)
        try:
            pid_file.write_text("".join([f"{other.pid}\n", *lines[1:]]))
            database.start()
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()

    def test_data_of_another_version_are_refused(self, short_folder: Path):
        with embedded_postgres(short_folder / "old"):
            pass
        (short_folder / "old" / "postgres" / "data" / "PG_VERSION").write_text("9\n")
        with (
            pytest.raises(OpsError, match="made by Postgres 9"),
            embedded_postgres(short_folder / "old"),
        ):
            pass

    @staticmethod
    def keep_a_session_busy(database: Server) -> None:
        with connect(database) as connection, suppress(psycopg.OperationalError):
            connection.execute("CREATE TEMPORARY TABLE many (value integer)")
            connection.execute("INSERT INTO many SELECT generate_series(1, 200000000)")


# What a row of ours may hold, and what no log may.
MARKERS = {
    "receipt": "receipt-of-margarethe-7731",
    "email": "margarethe@looms.example",
    "password": "$argon2id$v=19$m=65536$bWFyZ2FyZXRoZQ",
    "msisdn": "+491700007731",
    "card": "card-7731-2931",
    "token": "ct_bWFyZ2FyZXRoZS03NzMx",
}
INSERT = "INSERT INTO buyers VALUES (%(receipt)s, %(email)s, %(password)s, %(msisdn)s, %(card)s)"


class TestTheLogOfPostgres:
    @pytest.fixture
    def buyers(self, database: Server) -> Iterator[psycopg.Connection]:
        with connect(database) as connection:
            connection.execute(
                "CREATE TEMP TABLE buyers (receipt text UNIQUE, email text UNIQUE, password text,"
                " msisdn text CHECK (msisdn <> ''), card text NOT NULL, amount integer)"
            )
            connection.execute(INSERT, MARKERS)
            yield connection

    @pytest.fixture(autouse=True)
    def _nothing_of_it_is_logged(self, buyers: psycopg.Connection, database: Server):
        yield
        log = database.log.read_text()
        assert [name for name, value in MARKERS.items() if value in log] == []

    def test_a_slow_statement_is_there_without_its_values(
        self, buyers: psycopg.Connection, database: Server
    ):
        slow = (
            "SELECT receipt FROM buyers, pg_sleep(2.1) WHERE email = %(email)s AND card = %(card)s"
        )
        assert buyers.execute(slow, MARKERS).fetchone() == (MARKERS["receipt"],)
        assert "SELECT receipt FROM buyers, pg_sleep(2.1) WHERE email = $1" in wait_for_line(
            database, "duration: "
        )

    @pytest.mark.parametrize(
        ("statement", "changes"),
        [
            (INSERT, {}),
            (INSERT, {"receipt": "another", "email": "other", "card": None}),
            (INSERT, {"receipt": "another", "email": "other", "msisdn": ""}),
            ("SELECT %(token)s::integer", {}),
            ("SELECT %(token)s::uuid", {}),
            ("SELECT %(receipt)s::jsonb", {}),
            ("SELECT ARRAY[1] || %(email)s::integer[]", {}),
            ("SELECT %(msisdn)s::timestamptz", {}),
            ("SELECT 1 FROM buyers WHERE receipt ~ (%(card)s || '[')", {}),
            ("UPDATE buyers SET amount = %(msisdn)s::bigint", {}),
        ],
    )
    def test_a_refused_statement(
        self, buyers: psycopg.Connection, statement: LiteralString, changes: dict[str, str | None]
    ):
        with pytest.raises(psycopg.Error):
            buyers.execute(statement, MARKERS | changes)

    @pytest.mark.parametrize("amount", ["receipt-of-margarethe-7731", "1\tone too many"])
    def test_a_file_that_cannot_be_copied(self, buyers: psycopg.Connection, amount: str):
        line = "\t".join(["r", MARKERS["email"], "p", MARKERS["msisdn"], "c", amount])
        with (
            pytest.raises(psycopg.Error),
            buyers.cursor() as cursor,
            cursor.copy("COPY buyers FROM STDIN") as copy,
        ):
            copy.write(line)

    def test_a_deadlock(self, buyers: psycopg.Connection, database: Server):
        buyers.execute("CREATE TABLE pair AS SELECT generate_series(1, 2) AS id, ''::text AS email")
        change: LiteralString = "UPDATE pair SET email = %(email)s WHERE id = %(id)s"
        met = threading.Barrier(2)

        def cross(first: int, second: int) -> str | None:
            with connect(database) as connection, suppress(psycopg.errors.DeadlockDetected):
                with connection.transaction():
                    connection.execute(change, MARKERS | {"id": first})
                    met.wait(timeout=30)
                    connection.execute(change, MARKERS | {"id": second})
                return None
            return "deadlock"

        with ThreadPoolExecutor(2) as threads:
            ends = threads.map(cross, (1, 2), (2, 1))
        assert set(ends) == {"deadlock", None}

    def test_what_the_server_itself_has_to_tell_is_told(self, database: Server):
        wrong = make_url(database.url).set(drivername="postgresql", password="wrong")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(wrong.render_as_string(hide_password=False))
        assert "FATAL" in wait_for_line(database, "password authentication failed")


def wait_for_line(server: Server, words: str) -> str:
    """Return the newest line of the server's log with these words in it."""
    deadline = time.monotonic() + 10
    while True:
        found = [line for line in server.log.read_text().splitlines() if words in line]
        if found:
            return found[-1]
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.05)


class TestValkey:
    def test_a_wrong_password_is_refused(self, queue: Server):
        password = queue.url.split(":")[2].split("@")[0]
        with (
            Redis.from_url(queue.url.replace(password, "wrong"), retry=NO_RETRY) as client,
            pytest.raises(AuthenticationError),
        ):
            client.ping()

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("appendonly", "yes"),
            ("maxmemory-policy", "noeviction"),
            ("save", ""),
            ("port", "0"),
            ("unixsocketperm", "700"),
        ],
    )
    def test_setting(self, queue: Server, setting: str, value: str):
        with Redis.from_url(queue.url, decode_responses=True) as client:
            assert client.config_get(setting) == {setting: value}

    @pytest.mark.parametrize("kill", [False, True])
    def test_data_and_url_stay_when_it_is_stopped_and_started(self, queue: Server, kill: bool):
        url = queue.url
        with Redis.from_url(url, decode_responses=True) as client:
            client.set("kept", str(kill))
        queue.stop(kill=kill)
        queue.start()
        with Redis.from_url(url, decode_responses=True) as client:
            assert client.get("kept") == str(kill)
        assert queue.url == url


class TestLongPaths:
    """A socket there would have a path that the kernel refuses."""

    def test_postgres_falls_back_on_a_port_with_a_password(self, far_folder: Path):
        far_folder.parent.mkdir(mode=0o711, exist_ok=True)
        with embedded_postgres(far_folder) as server:
            url = make_url(server.url)
            assert (url.host, ask(server, "SELECT 1")) == ("127.0.0.1", 1)
            wrong = url.set(drivername="postgresql", password="wrong")
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(wrong.render_as_string(hide_password=False))
            first = server.url
        with embedded_postgres(far_folder) as server:
            assert server.url == first

    def test_valkey_falls_back_on_a_port_with_a_password(self, far_folder: Path):
        far_folder.parent.mkdir(mode=0o711, exist_ok=True)
        with embedded_valkey(far_folder) as server:
            url = make_url(server.url)
            assert url.host == "127.0.0.1"
            with Redis.from_url(server.url) as client:
                assert client.ping()
            stranger = Redis(host=url.host, port=url.port or 0, retry=NO_RETRY)
            with stranger as client, pytest.raises(AuthenticationError):
                client.ping()


class TestFiles:
    def test_secrets_and_data_are_private(self, database: Server, short_folder: Path):
        home = short_folder / "p"
        assert (home / "secrets").stat().st_mode & 0o777 == 0o700
        assert (home / "secrets" / "postgres").stat().st_mode & 0o777 == 0o600
        assert (home / "postgres" / "data").stat().st_mode & 0o777 == 0o700

    def test_nothing_above_the_directory_is_changed(self, tmp_path: Path):
        directory = tmp_path / "closed" / "copy"
        directory.parent.mkdir(mode=0o700)
        before = modes_above(directory)
        with embedded_valkey(directory) as server:
            assert server.is_running
        assert modes_above(directory) == before

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the servers over")
    def test_root_hands_them_over_wherever_the_directory_is(self, tmp_path: Path):
        directory = tmp_path / "closed" / "copy"
        directory.parent.mkdir(mode=0o700)
        with embedded_postgres(directory) as server:
            owner = Path(f"/proc/{server.pid}").stat().st_uid
            data = Path(str(make_url(server.url).query["host"]))
            assert (owner, data.stat().st_uid) == (privileges.server_account(data).uid,) * 2
            assert owner != 0
        assert not data.exists() or directory in data.parents

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the servers over")
    def test_data_of_an_ordinary_user_stay_that_users(self, short_folder: Path):
        nobody = pwd.getpwnam("nobody")
        data = short_folder / "owned" / "postgres" / "data"
        data.mkdir(parents=True)
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        data.chmod(0o700)
        (data / "mark").touch()
        assert postgres.find_home(short_folder / "owned", "postgres").account.uid == nobody.pw_uid

    def test_a_second_one_in_the_same_directory_is_refused(self, queue: Server, short_folder: Path):
        with pytest.raises(OpsError, match="runs in"), embedded_valkey(short_folder / "v"):
            pass


KILLED_PROGRAM = """
import sys, time
from pathlib import Path
from tests.support.servers import embedded_postgres, embedded_valkey
folder = Path(sys.argv[1])
with embedded_postgres(folder) as postgres, embedded_valkey(folder) as valkey:
    print(postgres.pid, valkey.pid, flush=True)
    time.sleep(60)
"""


def test_they_end_with_a_process_that_is_killed(short_folder: Path):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_PROGRAM, str(short_folder / "k")],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        process.send_signal(signal.SIGKILL)
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids):
        assert time.monotonic() < deadline, "the servers outlived their process"
        time.sleep(0.02)
