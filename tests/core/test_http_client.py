"""Calls to the outside: whatever is done to us there, we get an answer, in time."""

import gzip
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from project.core.errors import BadRequest
from project.core.net.http_client import Answer, Request, check_endpoint, send, send_and_wait, start
from tests.conftest import ChangeSettings
from tests.core.raw_server import Connection, RawServer, Script
from tests.processes import free_port

Serve = Callable[[Script], RawServer]

pytestmark = pytest.mark.usefixtures("app")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that does what the script says."""
    started: list[RawServer] = []

    def start_server(script: Script) -> RawServer:
        started.append(RawServer(script))
        return started[-1]

    yield start_server
    for server in started:
        server.stop()


@pytest.fixture
def nothing_allowed(change_settings: ChangeSettings) -> None:
    """Production's rule: no private network may be reached."""
    change_settings(callback_allowed_networks=())


def post(url: str, *, deadline: float = 2, cap: int = 1000, guarded: bool = False) -> Answer:
    return send_and_wait(
        Request(
            "POST",
            url,
            b'{"a": 1}',
            {"Content-Type": "application/json"},
            deadline_seconds=deadline,
            max_answer_bytes=cap,
            guarded=guarded,
        )
    )


def answer_forever(connection: Connection) -> None:
    while connection.read_request():
        connection.answer(b"ok")


def answer_once(connection: Connection) -> None:
    connection.read_request()
    connection.answer(b"ok")


class TestAnswers:
    def test_an_answer_has_status_body_and_headers(self, serve: Serve) -> None:
        def script(connection: Connection) -> None:
            connection.read_request()
            connection.answer(b"made", "X-Told: yes", status="201 Created")

        server = serve(script)
        answer = post(server.url)

        assert (answer.status, answer.body, answer.error) == (201, b"made", None)
        assert answer.headers["x-told"] == "yes"
        assert not answer.timed_out
        assert answer.seconds > 0

    def test_the_request_arrives_as_it_was_given(self, serve: Serve) -> None:
        server = serve(answer_once)

        post(server.url)

        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST / HTTP/1.1\r\n")
        assert b"Content-Type: application/json" in head
        assert f"Host: 127.0.0.1:{server.port}".encode() in head
        assert body == b'{"a": 1}'

    def test_a_file_is_sent_from_its_start_with_its_length(
        self, serve: Serve, tmp_path: Path
    ) -> None:
        content = os.urandom(1_000_000)
        server = serve(answer_once)
        with (tmp_path / "body").open("w+b") as file:
            file.write(content)
            answer = send_and_wait(Request("POST", server.url, file))
            assert not file.closed

        assert answer.status == 200
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert b"Content-Length: 1000000" in head
        assert b"chunked" not in head.lower()
        assert body == content

    def test_a_file_is_never_sent_twice(self, serve: Serve, tmp_path: Path) -> None:
        """A kept connection may be closed as it is used again; a file does not go over one."""

        def script(connection: Connection) -> None:
            if not server.requests:
                connection.read_request()
                connection.answer(b"ok")
            connection.read_request()

        server = serve(script)
        assert post(server.url).status == 200
        with (tmp_path / "body").open("w+b") as file:
            file.write(b"large")
            answer = send_and_wait(Request("POST", server.url, file))

        assert answer.error == "the connection was closed without an answer"
        sent = [request for request in server.requests if request.endswith(b"large")]
        assert (len(sent), server.connections) == (1, 2)

    def test_an_answer_that_does_not_wait_for_the_file_is_an_answer(
        self, serve: Serve, tmp_path: Path
    ) -> None:
        def script(connection: Connection) -> None:
            connection.answer(b"no", status="413 Content Too Large")
            connection.wait(1)

        server = serve(script)
        with (tmp_path / "body").open("w+b") as file:
            file.write(b"x" * 5_000_000)
            answer = send_and_wait(Request("POST", server.url, file))

        assert answer.status == 413 or answer.error is not None

    @pytest.mark.parametrize(
        ("written", "seconds"),
        [
            ("30", 30),
            ("0", 1),
            ("99999999999999999999", 86_400),
            ("Fri, 01 Jan 1990 00:00:00 GMT", 1),
            ("Fri, 01 Jan 2100 00:00:00 GMT", 86_400),
            ("soon", None),
            ("-5", None),
            ("", None),
            ("Tue, 05 Jan 2100 00:00:00 +90000000000000000000", None),
            ("Tue, 05 Jan 90000000000000000000 00:00:00 GMT", None),
        ],
    )
    def test_retry_after_is_seconds_or_a_date(
        self, serve: Serve, written: str, seconds: int | None
    ) -> None:
        def script(connection: Connection) -> None:
            connection.read_request()
            connection.answer(b"", f"Retry-After: {written}", status="429 Too Many Requests")

        assert post(serve(script).url).retry_after_seconds == seconds

    def test_a_long_header_does_not_cost_the_status(self, serve: Serve) -> None:
        def script(connection: Connection) -> None:
            connection.read_request()
            connection.answer(b"ok", f"Content-Security-Policy: {'img-src a.example; ' * 2000}")

        assert post(serve(script).url).status == 200

    @pytest.mark.parametrize(
        "head",
        [
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 2000 Fine\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        ],
    )
    def test_a_head_that_is_not_http_is_told_without_a_status_that_nobody_sent(
        self, serve: Serve, head: bytes
    ) -> None:
        def script(connection: Connection) -> None:
            connection.read_request()
            connection.send(head)

        answer = post(serve(script).url)

        assert answer.status is None
        assert (answer.error or "").startswith("the head of the answer cannot be read: ")
        assert "400" not in (answer.error or "")
        assert "\n" not in (answer.error or "")

    def test_a_connection_is_kept_and_used_again(self, serve: Serve) -> None:
        server = serve(answer_forever)

        assert [post(server.url).status for _ in range(5)] == [200] * 5

        assert server.connections == 1

    def test_cookies_are_not_kept(self, serve: Serve) -> None:
        def script(connection: Connection) -> None:
            while connection.read_request():
                connection.answer(b"", "Set-Cookie: tracked=1")

        server = serve(script)
        post(server.url)
        post(server.url)

        assert b"tracked" not in server.requests[1]

    def test_a_compressed_answer_is_not_unpacked(self, serve: Serve) -> None:
        bomb = gzip.compress(b"0" * 900_000)

        def script(connection: Connection) -> None:
            connection.read_request()
            connection.answer(bomb, "Content-Encoding: gzip")

        server = serve(script)
        answer = post(server.url, cap=len(bomb))

        assert answer.body == bomb
        assert b"Accept-Encoding: identity" in server.requests[0]

    @pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
    def test_a_redirect_is_an_answer_and_not_followed(self, serve: Serve, status: str) -> None:
        elsewhere = serve(answer_once)

        def script(connection: Connection) -> None:
            connection.read_request()
            connection.answer(b"", f"Location: {elsewhere.url}", status=status)

        answer = post(serve(script).url)

        assert answer.status == int(status[:3])
        assert elsewhere.connections == 0

    def test_many_calls_go_out_at_once(self, serve: Serve) -> None:
        def script(connection: Connection) -> None:
            connection.read_request()
            connection.wait(0.3)
            connection.answer()

        server = serve(script)
        started = time.monotonic()

        calls = [start(send(Request("POST", server.url))) for _ in range(40)]

        assert {call.result().status for call in calls} == {200}
        assert time.monotonic() - started < 6


class TestDeadline:
    def test_no_answer_in_time_is_a_timeout(self, serve: Serve) -> None:
        def script(connection: Connection) -> None:
            connection.read_request()
            connection.wait(5)

        answer = post(serve(script).url, deadline=0.2)

        assert (answer.status, answer.timed_out) == (None, True)
        assert answer.error == "no answer within 0.2 s"
        assert 0.15 < answer.seconds < 4

    def test_an_answer_that_trickles_does_not_outlast_the_deadline(self, serve: Serve) -> None:
        def script(connection: Connection) -> None:
            connection.read_request()
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            for _ in range(100):
                connection.send(b"x")
                connection.wait(0.05)

        answer = post(serve(script).url, deadline=0.3)

        assert answer.timed_out
        assert answer.seconds < 4

    def test_headers_that_trickle_do_not_outlast_it_either(self, serve: Serve) -> None:
        def script(connection: Connection) -> None:
            connection.read_request()
            connection.send(b"HTTP/1.1 200 OK\r\n")
            for number in range(100):
                connection.send(f"X-{number}: x\r\n".encode())
                connection.wait(0.05)

        assert post(serve(script).url, deadline=0.3).timed_out

    def test_a_server_that_accepts_nothing_is_a_timeout(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
            port = listener.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)):
                assert post(f"http://127.0.0.1:{port}/", deadline=0.3).timed_out


class TestCap:
    def test_a_body_of_exactly_the_cap_is_taken(self, serve: Serve) -> None:
        def script(connection: Connection) -> None:
            connection.read_request()
            connection.answer(b"x" * 1000)

        assert post(serve(script).url, cap=1000).body == b"x" * 1000

    @pytest.mark.parametrize("announced", [True, False])
    def test_a_larger_body_is_not_read_to_its_end(self, serve: Serve, announced: bool) -> None:
        sent = 0

        def script(connection: Connection) -> None:
            nonlocal sent
            connection.read_request()
            length = b"Content-Length: 1000000000\r\n" if announced else b"Connection: close\r\n"
            connection.send(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
            for _ in range(1000):
                connection.send(b"x" * 100_000)
                sent += 100_000

        answer = post(serve(script).url, cap=1000)

        assert answer.status is None
        assert answer.error == "answer larger than 1000 bytes"
        assert sent < 20_000_000

    def test_an_endless_header_is_refused(self, serve: Serve) -> None:
        def script(connection: Connection) -> None:
            connection.read_request()
            connection.send(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1_000_000 + b"\r\n\r\n")

        answer = post(serve(script).url)

        assert answer.status is None
        assert answer.error
        assert len(answer.error) <= 500


class TestBrokenConnections:
    def test_a_fresh_connection_that_drops_is_one_request(self, serve: Serve) -> None:
        server = serve(lambda connection: connection.read_request())

        answer = post(server.url)

        assert answer.status is None
        assert answer.error == "the connection was closed without an answer"
        assert len(server.requests) == 1

    def test_a_kept_connection_that_the_peer_closed_is_tried_once_more(self, serve: Serve) -> None:
        def script(connection: Connection) -> None:
            connection.read_request()
            connection.answer()
            connection.read_request()

        server = serve(script)
        assert post(server.url).status == 200

        assert post(server.url).status == 200

        assert server.connections == 2
        assert len(server.requests) == 3

    def test_that_second_try_is_the_last(self, serve: Serve) -> None:
        def script(connection: Connection) -> None:
            connection.read_request()
            if server.connections == 1:
                connection.answer()
                connection.read_request()

        server = serve(script)
        post(server.url)

        answer = post(server.url)

        assert answer.status is None
        assert server.connections == 2
        assert len(server.requests) == 3

    def test_half_a_body_is_no_answer(self, serve: Serve) -> None:
        def script(connection: Connection) -> None:
            connection.read_request()
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

        server = serve(script)

        answer = post(server.url)

        assert answer.status is None
        assert answer.error
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "said", [b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x16\x03\x01\x00\xff" * 10]
    )
    def test_what_is_not_http_is_no_answer(self, serve: Serve, said: bytes) -> None:
        def script(connection: Connection) -> None:
            connection.read_request()
            connection.send(said)

        answer = post(serve(script).url)

        assert answer.status is None
        assert answer.error

    def test_nobody_there(self) -> None:
        answer = post(f"http://127.0.0.1:{free_port()}/")

        assert answer.status is None
        assert not answer.timed_out
        assert (answer.error or "").startswith("cannot connect")

    def test_a_name_that_does_not_resolve(self) -> None:
        answer = post("http://no-such-host.invalid/", deadline=5)

        assert answer.error == "the host name does not resolve"

    @pytest.mark.parametrize("url", ["", "not a url", "http://", "ftp://127.0.0.1/", "http://[::1"])
    def test_what_is_not_a_url_is_an_answer_too(self, url: str) -> None:
        answer = post(url)

        assert answer.status is None
        assert answer.error

    def test_tls_towards_a_plain_server_is_an_answer_too(self, serve: Serve) -> None:
        server = serve(lambda connection: connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"))

        answer = post(server.url.replace("http:", "https:"))

        assert answer.status is None
        assert answer.error


def test_a_proxy_of_the_environment_is_not_used(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, server = serve(answer_once), serve(answer_once)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    assert os.environ["http_proxy"] == proxy.url

    assert post(server.url).status == 200
    assert post(server.url, guarded=True).status == 200

    assert proxy.connections == 0


class TestGuard:
    def test_an_allowed_network_is_reached(self, serve: Serve) -> None:
        assert post(serve(answer_once).url, guarded=True).status == 200

    @pytest.mark.usefixtures("nothing_allowed")
    def test_our_own_settings_may_name_any_address(self, serve: Serve) -> None:
        assert post(serve(answer_once).url).status == 200

    @pytest.mark.usefixtures("nothing_allowed")
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "localhost",
            "LOCALHOST",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "0177.0.0.1",
            "017700000001",
            "127.0.0.1.",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "①②⑦.⓪.⓪.①",
            "127。0。0。1",
            "0",
            "0.0.0.0",
            "[::]",
        ],
    )
    def test_loopback_is_not_reached_however_it_is_spelled(self, serve: Serve, host: str) -> None:
        server = serve(answer_once)

        answer = post(f"http://{host}:{server.port}/", guarded=True)

        assert answer.status is None
        assert server.connections == 0

    @pytest.mark.usefixtures("nothing_allowed")
    def test_a_connection_that_was_kept_is_of_no_use_once_its_network_is_forbidden(
        self, serve: Serve, change_settings: ChangeSettings
    ) -> None:
        server = serve(answer_forever)
        assert post(server.url).status == 200

        answer = post(server.url, guarded=True)

        assert (answer.error or "").startswith("refused: ")
        assert len(server.requests) == 1

    @pytest.mark.usefixtures("nothing_allowed")
    def test_a_refusal_says_so(self) -> None:
        assert post("http://127.0.0.1/", guarded=True).error == (
            "refused: 127.0.0.1 is in a network that is not allowed"
        )
        assert (post("http://localhost/", guarded=True).error or "").startswith("refused: ")

    @pytest.mark.usefixtures("nothing_allowed")
    @pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "[::1]", "0x7f.0.0.1"])
    def test_such_an_endpoint_cannot_be_registered(self, host: str) -> None:
        with pytest.raises(BadRequest) as raised:
            check_endpoint(f"http://{host}/callback")

        assert raised.value.errors == {"endpoint": ["It leads into a network that is not allowed."]}

    @pytest.mark.usefixtures("nothing_allowed")
    def test_an_endpoint_whose_name_does_not_resolve_may_be_registered(self) -> None:
        check_endpoint("https://not-there-yet.invalid/callback")
