"""Services of the command line: the port, opened before the service starts, and the signals that stop it."""

import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from cytolora.errors import ConfigError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from cytolora.classifier.serve.limits import Limits


def run_service(app: "FastAPI", limits: "Limits", listener: socket.socket) -> None:
    """Answers until SIGTERM or Ctrl-C, the normal way to stop it."""
    from cytolora.classifier.serve.server import make_server

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again when all is answered
    with suppress(KeyboardInterrupt):
        make_server(app, limits).run(sockets=[listener])


def listening(host: str, port: int) -> socket.socket:
    """Opens the port before the server starts, so that a port in use is a one-line error."""
    from cytolora.classifier.serve.server import BACKLOG

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once (TCP_NODELAY) only where the protocol is named: else each waits 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)  # a client that connects at once waits and is not refused
    except OSError as error:
        listener.close()
        raise ConfigError(f"Cannot listen on {host} port {port}: {error.strerror}. Choose another --port.") from error
    return listener
