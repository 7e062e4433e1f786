"""A name server on this machine: it knows some names, denies others, and leaves some hanging."""

import contextlib
import ipaddress
import socket
import struct
import threading
from collections.abc import Mapping

A, AAAA = 1, 28
NO_ERROR, SERVER_FAILURE, NO_SUCH_NAME = 0, 2, 3


class NameServer:
    """Answers over UDP. It denies a name of which it holds no address, but for two suffixes."""

    def __init__(
        self,
        addresses: Mapping[str, str] | None = None,
        *,
        silent: str = ".silent.test",
        failing: str = ".failing.test",
    ) -> None:
        self.addresses = dict(addresses or {})
        self.silent, self.failing = silent, failing
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                question, peer = self._socket.recvfrom(4096)
                if not question:
                    return
                answer = self._answer(question)
                if answer:
                    self._socket.sendto(answer, peer)

    def _answer(self, question: bytes) -> bytes | None:
        name, end = _name(question)
        self.asked.append(name)
        if name.endswith(self.silent):
            return None
        if name.endswith(self.failing):
            return _reply(question, end, SERVER_FAILURE)
        if name not in self.addresses:
            return _reply(question, end, NO_SUCH_NAME)
        address = ipaddress.ip_address(self.addresses[name])
        kind = A if address.version == 4 else AAAA
        (wanted,) = struct.unpack("!H", question[end : end + 2])
        return _reply(question, end, NO_ERROR, *([address.packed] if kind == wanted else []))


def _name(question: bytes) -> tuple[str, int]:
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode())
        at += 1 + question[at]
    return ".".join(labels).lower(), at + 1


def _reply(question: bytes, end: int, code: int, *addresses: bytes) -> bytes:
    header = question[:2] + struct.pack("!5H", 0x8180 | code, 1, len(addresses), 0, 0)
    # 0xC00C points at the name in the question; the answer may be kept for no time at all.
    records = [
        b"\xc0\x0c" + question[end : end + 4] + struct.pack("!IH", 0, len(packed)) + packed
        for packed in addresses
    ]
    return header + question[12 : end + 4] + b"".join(records)
