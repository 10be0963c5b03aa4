"""A labelling server in a process of its own that is killed and started again on the same port."""

import multiprocessing
import socket
import time
from multiprocessing.process import BaseProcess
from pathlib import Path


def serve(folder: Path, cache: Path, port: int, token: str) -> None:
    """Answers until it is killed."""
    from cytolora.classifier.serve.server import make_server
    from cytolora.labelling.server import LIMITS, make_app
    from cytolora.labelling.session import Labelling

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(100)
        make_server(make_app(Labelling(folder, cache=cache), folder, token), LIMITS).run(sockets=[listener])


class KilledServer:
    """Starts servers from one process that has imported everything."""

    def __init__(self, folder: Path, cache: Path, token: str) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["killed_server", "cytolora.labelling.server"])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._arguments = (folder, cache, self.port, token)
        self._process: BaseProcess | None = None

    def start(self) -> None:
        """Starts one, and waits until it takes connections."""
        process = self._context.Process(target=serve, args=self._arguments, daemon=True)
        process.start()
        self._process = process
        ends = time.monotonic() + 300
        while process.is_alive() and time.monotonic() < ends:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        """Kills it in the middle of whatever it does (SIGKILL)."""
        assert self._process is not None
        self._process.kill()
        self._process.join()
