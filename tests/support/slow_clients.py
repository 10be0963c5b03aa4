"""Clients that keep a connection open and the service waiting, each in its own way."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

NOTHING = b""
HALF_HEADER = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nX-a: "
HALF_BODY = (
    b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    b"Content-Length: 1000\r\n\r\n--x\r\n"
)
HALF_CHUNKED_BODY = HALF_BODY.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked").replace(
    b"--x\r\n", b"5\r\n--x\r\n\r\n"
)
UNASKED_BODY = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"
"""Answered before its body has come, which it never does."""


def connect(url: str, begin: bytes) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=60)
    opened.sendall(begin)
    return opened


@contextmanager
def slow_clients(url: str, number: int, begins: tuple[bytes, ...]) -> Iterator[list[socket.socket]]:
    """Opens connections that send these beginnings in turn, and nothing more."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(url, begins[index % len(begins)])) for index in range(number)]


def seconds_until_closed(opened: socket.socket, drip: bytes = b"", pause: float = 0.05) -> tuple[float, bytes]:
    """Sends ``drip`` again and again until the other side closes; returns the time and what was received."""
    start, received = time.monotonic(), b""
    opened.settimeout(pause)
    while time.monotonic() - start < 60:
        try:
            if drip:
                opened.sendall(drip)
            piece = opened.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            break
        if not piece:
            break
        received += piece
    return time.monotonic() - start, received
