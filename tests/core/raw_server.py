"""An HTTP server that a test writes byte by byte, for answers that no decent server gives."""

import contextlib
import socket
import threading
from collections.abc import Callable


class Connection:
    """One accepted connection, as the script of a test sees it."""

    def __init__(self, server: "RawServer", peer: socket.socket) -> None:
        self._server = server
        self._peer = peer

    @property
    def stopping(self) -> bool:
        """Tell whether the server is being stopped."""
        return self._server.stopping.is_set()

    def read_request(self) -> bytes:
        """Read one request, head and body; nothing if the other side closed."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = self._peer.recv(65_536)
            if not chunk:
                return b""
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        while len(body) < length:
            body += self._peer.recv(65_536)
        request = head + b"\r\n\r\n" + body
        self._server.requests.append(request)
        return request

    def send(self, data: bytes) -> None:
        self._peer.sendall(data)

    def wait(self, seconds: float) -> None:
        """Do nothing for a while, or until the server is stopped."""
        self._server.stopping.wait(seconds)

    def answer(self, body: bytes = b"ok", *headers: str, status: str = "200 OK") -> None:
        """Send a whole answer."""
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        self.send("\r\n".join(lines).encode() + body)


Script = Callable[[Connection], object]


class RawServer:
    """Runs the script for each connection, then closes it."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.requests: list[bytes] = []
        self.stopping = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._threads: list[threading.Thread] = []
        self._peers: list[socket.socket] = []
        self._start(self._accept)

    def stop(self) -> None:
        self.stopping.set()
        for end in (self._socket, *self._peers):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._peers.append(peer)
            self._start(lambda peer=peer: self._serve(peer))

    def _serve(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            peer.settimeout(10)
            self.script(Connection(self, peer))

    def _start(self, function: Callable[[], None]) -> None:
        thread = threading.Thread(target=function, daemon=True)
        self._threads.append(thread)
        thread.start()
