"""Names in users' URLs: looked up apart from all others, in a set time, at nobody's cost."""

import ipaddress
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from project.core.errors import BadRequest
from project.core.net.http_client import (
    CHECK_SECONDS,
    CHECKED_NAMES,
    Answer,
    Request,
    check_endpoint,
    send,
    send_and_wait,
    start,
)
from project.core.net.name_lookup import LOOKUP_SECONDS
from tests.conftest import ChangeSettings
from tests.core.conftest import InThreads
from tests.core.name_server import NameServer
from tests.core.raw_server import Connection, RawServer
from tests.processes import free_port

pytestmark = pytest.mark.usefixtures("app")


@pytest.fixture
def receiver() -> Iterator[RawServer]:
    """An endpoint that answers at once."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.answer()

    server = RawServer(script)
    yield server
    server.stop()


def guarded(host: str, port: int = 80, *, deadline: float = 10) -> Request:
    return Request("POST", f"http://{host}:{port}/", deadline_seconds=deadline, guarded=True)


def call(host: str, port: int = 80, *, deadline: float = 10) -> Answer:
    return send_and_wait(guarded(host, port, deadline=deadline))


def test_a_name_is_asked_of_the_name_servers_that_were_set(
    names: NameServer, receiver: RawServer
) -> None:
    answer = call("here.test", receiver.port)

    assert answer.status == 200
    assert set(names.asked) == {"here.test"}


def test_a_name_that_is_in_the_hosts_file_needs_no_name_server(
    names: NameServer, receiver: RawServer, change_settings: ChangeSettings
) -> None:
    networks = ("127.0.0.0/8", "::1/128")
    change_settings(callback_allowed_networks=tuple(map(ipaddress.ip_network, networks)))

    assert call("localhost", receiver.port).status == 200
    assert names.asked == []


def test_a_name_that_does_not_exist_is_its_owners_fault(names: NameServer) -> None:
    answer = call("nowhere.test")

    assert answer.error == "the host name does not resolve"
    assert (answer.connected, answer.excused, answer.timed_out) == (False, False, False)


@pytest.mark.parametrize("host", ["a.silent.test", "a.failing.test"])
def test_a_name_that_no_server_tells_of_is_nobodys_fault(names: NameServer, host: str) -> None:
    began = time.monotonic()

    answer = call(host)

    assert (answer.error or "").startswith("no name server answered: ")
    assert (answer.connected, answer.excused) == (False, True)
    assert time.monotonic() - began < 2 * LOOKUP_SECONDS


def test_name_servers_that_are_away_are_nobodys_fault(change_settings: ChangeSettings) -> None:
    change_settings(callback_dns_servers=(f"127.0.0.1:{free_port()}",))

    assert call("somewhere.test").excused


def test_names_that_hang_hold_up_no_other_call_of_any_kind(
    names: NameServer, receiver: RawServer
) -> None:
    hanging = [start(send(guarded(f"h{number}.silent.test"))) for number in range(100)]
    began = time.monotonic()

    assert call("here.test", receiver.port).status == 200
    ours = Request("POST", receiver.url.replace("127.0.0.1", "localhost"))
    assert send_and_wait(ours).status == 200

    assert time.monotonic() - began < LOOKUP_SECONDS - 1
    assert {call.result().status for call in hanging} == {None}
    assert time.monotonic() - began < 3 * LOOKUP_SECONDS


def test_who_registers_waits_a_set_time_for_a_name_that_hangs(names: NameServer) -> None:
    began = time.monotonic()

    check_endpoint("https://a.silent.test/hook")

    assert time.monotonic() - began < 2 * CHECK_SECONDS


def test_names_that_hang_at_registration_are_looked_up_by_a_few_at_a_time(
    names: NameServer, in_threads: InThreads
) -> None:
    def register(number: int) -> Callable[[], float]:
        def check() -> float:
            began = time.monotonic()
            check_endpoint(f"https://r{number}.silent.test/hook")
            return time.monotonic() - began

        return check

    took = sorted(in_threads(*[register(number) for number in range(3 * CHECKED_NAMES)]))

    assert sum(seconds < CHECK_SECONDS / 2 for seconds in took) >= CHECKED_NAMES
    assert took[-1] < 2 * CHECK_SECONDS


def test_a_name_that_leads_inside_is_refused_at_registration_and_at_delivery(
    names: NameServer,
) -> None:
    with pytest.raises(BadRequest):
        check_endpoint("https://inside.test/hook")

    answer = call("inside.test")

    assert (answer.error or "").startswith("refused: ")
    assert not answer.excused


def test_a_connection_that_is_refused_is_the_endpoints_fault() -> None:
    answer = call("127.0.0.1", free_port())

    assert (answer.connected, answer.excused) == (False, False)


def test_a_connection_that_does_not_come_about_in_time_is_nobodys_fault() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            answer = call("127.0.0.1", port, deadline=0.3)

    assert answer.error == "no connection within 0.3 s"
    assert (answer.connected, answer.excused, answer.timed_out) == (False, True, True)
