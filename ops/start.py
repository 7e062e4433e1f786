"""What `make run` does: start one copy, say when it is ready, and stop all of it in the end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from ops import environment, launch, ports, postgres, probe, processes, supervision, valkey
from ops.environment import PROJECT, Settings
from ops.errors import OpsError, exit_status
from ops.exclusive import only_copy
from ops.files import tail
from ops.places import Home
from ops.stepdown import step_down
from ops.supervision import Control

# A slow or busy machine may take a minute; what cannot start is told much sooner.
READY_SECONDS = 120
MOST_STARTS = 4
# The workers may take 30 s to finish their jobs; then come the API and the servers.
STOP_SECONDS = 120
ORPHAN_SECONDS = 40
POLL_SECONDS = 0.2
# supervisord would take these characters of a path for patterns.
UNUSABLE = "%*?["


class StopAskedFor(Exception):
    """Somebody pressed Ctrl-C, or asked this process to end."""


class Signals:
    """Turns the signals that end a program into an exception at a place of our choice."""

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def check(self) -> None:
        """Raise StopAskedFor if a signal came."""
        if self._asked:
            raise StopAskedFor

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = True


class Supervisord:
    """The supervisord of this copy, as our child process."""

    def __init__(self, settings: Settings, where: Control, given: Mapping[str, str]) -> None:
        self.where = where
        self.log = settings.var_dir / "log" / "supervisord.log"
        self._messages = settings.var_dir / "log" / "supervisord.start.log"
        command = [*(sys.executable, "-m", "ops.launch"), *supervision.COMMAND]
        # In a session of its own: Ctrl-C in the terminal is for us, who stop it in order.
        with self._messages.open("wb") as messages:
            self._process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=supervision.environment(settings, given, where),
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                start_new_session=True,
            )

    @property
    def exit_status(self) -> int | None:
        """Return how it ended, or None while it runs."""
        _reap_orphans(but=self._process.pid)
        return self._process.poll()

    def last_words(self) -> str:
        """Return the end of what it said."""
        return f"{tail(self._messages)}\n{tail(self.log)}".strip()

    def stop(self) -> None:
        """Stop every program in order, then supervisord; whatever is left then is killed."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _end_orphans()


def main() -> int:
    """Run a copy until somebody asks for its end; return the exit status."""
    settings, given = _settings()
    still_root = step_down(settings, given)
    if still_root:
        _say(still_root)
    with only_copy(settings):
        _check_ports(settings)
        try:
            return _run(settings, given, Signals())
        except StopAskedFor:
            _say("Stopped. The data are kept.")
            return 0


def _settings() -> tuple[Settings, dict[str, str]]:
    """Read the settings; the first start of a copy writes its `.env`."""
    if any(character in str(PROJECT) for character in UNUSABLE):
        raise OpsError(f"The path {PROJECT} has one of {UNUSABLE} in it. Move the project.")
    path = environment.env_file(PROJECT, os.environ)
    if environment.write_env_file(PROJECT, path):
        _say(f"Wrote {_short(path)} with new secrets.")
    settings = environment.load()
    if settings.with_simulator and settings.port == settings.simulator_port:
        raise OpsError("PORT and SIMULATOR_PORT are the same. Choose another one for either.")
    return settings, environment.merged(PROJECT, os.environ)


def _check_ports(settings: Settings) -> None:
    asked = [("PORT", settings.host, settings.port)]
    if settings.with_simulator:
        asked.append(("SIMULATOR_PORT", ports.LOOPBACK, settings.simulator_port))
    for name, host, port in asked:
        reason = ports.why_not_listen(host, port)
        if reason == ports.NO_SUCH_ADDRESS:
            raise OpsError(f"HOST={host} cannot be used: {reason}.")
        if reason:
            raise OpsError(
                f"Cannot listen on port {port} of {host}: {reason}. "
                f"Choose another {name}, as in: make run {name}={ports.free_port_above(port)}"
            )


def _run(settings: Settings, given: Mapping[str, str], signals: Signals) -> int:
    started = time.monotonic()
    variables = _worked_out(settings, given)
    where = supervision.control(settings, check_port=True)
    environment.write_runtime_file(settings.runtime_file, variables)
    launch.adopt_orphans()
    _say(f"Starting {_parts(settings)} ...")
    supervisord = Supervisord(settings, where, {**given, **variables})
    try:
        _await_ready(settings, supervisord, signals, started + READY_SECONDS)
        _welcome(settings, time.monotonic() - started)
        return _watch(supervisord, signals)
    finally:
        _say("Stopping ...")
        supervisord.stop()
        settings.runtime_file.unlink(missing_ok=True)


def _worked_out(settings: Settings, given: Mapping[str, str]) -> dict[str, str]:
    """Return what every program of this copy, and commands beside it, need to know."""
    variables = {
        **_databases(settings),
        "HOST": settings.host,
        "PORT": str(settings.port),
        "WORKERS": str(settings.workers),
        "API_URL": settings.api_url,
    }
    if settings.with_simulator:
        variables["SIMULATOR_PORT"] = str(settings.simulator_port)
        variables["SIMULATOR_URL"] = settings.simulator_url
        if given.get("TEST_CLOCK", "").lower() not in ("", *environment.NO):
            variables["CLOCK_URL"] = f"{settings.api_url}/api/clock"
    return variables


def _databases(settings: Settings) -> dict[str, str]:
    """Return the URLs of Postgres and Redis: the given ones, or those of the embedded servers."""
    urls = {"DATABASE_URL": settings.database_url or "", "REDIS_URL": settings.redis_url or ""}
    homes: list[Home] = []
    if settings.database_url is None:
        server = postgres.locate(settings.var_dir, binaries=settings.postgres_bin_dir)
        urls["DATABASE_URL"] = server.url
        homes.append(server.home)
    if settings.redis_url is None:
        queue_server = valkey.locate(settings.var_dir)
        urls["REDIS_URL"] = queue_server.url
        homes.append(queue_server.home)
    for home in homes[:1]:
        if home.account is not None and settings.var_dir not in home.folder.parents:
            _say(
                f"The account '{home.account.name}', which runs the servers, cannot reach "
                f"{_short(settings.var_dir)}, so their data are in {home.folder.parent}."
            )
    return urls


def _await_ready(
    settings: Settings, supervisord: Supervisord, signals: Signals, deadline: float
) -> None:
    """Wait until all programs run and the API is ready. Raises OpsError with the reason."""
    pids: defaultdict[str, set[int]] = defaultdict(set)
    while True:
        signals.check()
        if supervisord.exit_status is not None:
            raise OpsError(f"supervisord does not start:\n{supervisord.last_words()}")
        programs = supervisord.where.programs()
        for program in programs:
            pids[program.name] |= {program.pid} - {0}
        failed = [one for one in programs if _has_failed(one, pids[one.name])]
        if failed:
            raise OpsError(_failure(failed))
        waiting = [one for one in programs if one.state != supervision.RUNNING]
        problem = _health(settings) if programs and not waiting else "Not everything runs."
        if problem is None:
            return
        if time.monotonic() > deadline:
            late = waiting or [one for one in programs if one.name == "api"]
            raise OpsError(f"Not ready after {READY_SECONDS} s. {problem}\n{_failure(late)}")
        time.sleep(POLL_SECONDS)


def _has_failed(program: supervision.Program, pids: set[int]) -> bool:
    # On a slow machine a program may end so late that supervisord never counts it as failed.
    return program.state == supervision.FATAL or len(pids) > MOST_STARTS


def _failure(programs: list[supervision.Program]) -> str:
    """Say which programs to look at, and show the end of the first one's log."""
    if not programs:
        return "supervisord does not answer."
    names = ", ".join(f"{one.name} ({one.state})" for one in programs)
    log = programs[0].log
    return f"Look at {names}. The end of {_short(log)}:\n{tail(log)}"


def _health(settings: Settings) -> str | None:
    address = urlsplit(settings.api_url)
    assert address.hostname is not None
    return probe.problem(address.hostname, settings.port)


def _watch(supervisord: Supervisord, signals: Signals) -> int:
    while (status := supervisord.exit_status) is None:
        signals.check()
        time.sleep(POLL_SECONDS)
    if status == 0:
        _say("supervisord was told to shut down.")
        return 0
    raise OpsError(f"supervisord ended unexpectedly (exit status {status}). See {supervisord.log}.")


def _reap_orphans(*, but: int) -> None:
    """Collect ended descendants that the kernel gave to us."""
    if sys.platform != "linux":
        return
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, options)) is not None and ended.si_pid != but:
            os.waitpid(ended.si_pid, 0)


def _end_orphans() -> None:
    """Wait for the programs of a supervisord that died; kill those that take too long."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid:
                continue
            if time.monotonic() > deadline:
                for child in processes.children():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
            time.sleep(POLL_SECONDS)


def _parts(settings: Settings) -> str:
    parts = [
        *(["Postgres"] if settings.database_url is None else []),
        *(["Valkey"] if settings.redis_url is None else []),
        *(["the simulator"] if settings.with_simulator else []),
        "the API",
        "1 worker" if settings.workers == 1 else f"{settings.workers} workers",
    ]
    return f"{', '.join(parts)} and the scheduler"


def _welcome(settings: Settings, seconds: float) -> None:
    production = settings.app_env == "production"
    key = settings.api_key or "none set; make one with: flask api-key create NAME"
    shown_key = "see API_KEY" if production and settings.api_key else key
    _say(
        f"""
Perennial is running (ready after {seconds:.1f} s).

  API    {settings.api_url}
  Docs   {settings.api_url}/docs
  Key    {shown_key}
  Logs   {_short(settings.var_dir / "log")}

Try next, in another terminal:

  make demo
  make ctl ARGS=status
  curl -H "Authorization: Bearer {"$API_KEY" if production else key}" {settings.api_url}/api/apps

Ctrl-C stops everything; the data are kept in {_short(settings.var_dir)}.
"""
    )


def _short(path: Path) -> str:
    return str(path.relative_to(PROJECT) if PROJECT in path.parents else path)


def _say(text: str) -> None:
    # The terminal may be gone by the time we stop.
    with contextlib.suppress(OSError):
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(exit_status(main))
