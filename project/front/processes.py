"""The processes that serve together: forked from one that has loaded the application."""

import contextlib
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()

BACKLOG = 2_048
RESPAWN_SECONDS = 1.0
STOP_SECONDS = 20.0
STOPPING = (signal.SIGTERM, signal.SIGINT)


class Processes:
    """A number of processes that run the same function on one socket; one that dies is replaced."""

    def __init__(self, number: int, run: Callable[[socket.socket], None]) -> None:
        self._number = number
        self._run = run
        self._started: dict[int, float] = {}

    def serve(self, host: str, port: int) -> None:
        """Serve until SIGTERM or SIGINT comes, and until every process has ended."""
        listener = socket.create_server((host, port), family=_family(host), backlog=BACKLOG)
        signal.pthread_sigmask(signal.SIG_BLOCK, (*STOPPING, signal.SIGCHLD))
        # What is loaded now stays: a collection that marked it would copy its pages.
        gc.collect()
        gc.freeze()
        while True:
            self._start_missing(listener)
            came = signal.sigtimedwait((*STOPPING, signal.SIGCHLD), RESPAWN_SECONDS)
            if came is not None and came.si_signo in STOPPING:
                break
            self._bury()
        listener.close()
        self._stop()

    def _start_missing(self, listener: socket.socket) -> None:
        for _ in range(self._number - len(self._started)):
            started = os.fork()
            if not started:
                self._be_one(listener)
            self._started[started] = time.monotonic()

    def _be_one(self, listener: socket.socket) -> None:
        status = 1
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOPPING, signal.SIGCHLD))
            self._run(listener)
            status = 0
        except BaseException:
            log.exception("front.process_failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _bury(self) -> None:
        """Take account of processes that have ended; one that ended at once is not hurried."""
        for pid in list(self._started):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            lived = time.monotonic() - self._started.pop(pid)
            log.error("front.process_ended", pid=pid, status=os.waitstatus_to_exitcode(status))
            time.sleep(max(0.0, RESPAWN_SECONDS - lived))

    def _stop(self) -> None:
        self._signal_all(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self._started and time.monotonic() < deadline:
            signal.sigtimedwait((signal.SIGCHLD,), 0.1)
            for pid in list(self._started):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    del self._started[pid]
        self._signal_all(signal.SIGKILL)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
