"""An imitation of the Hugging Face hub on loopback, with the answers that a user meets: bytes, gates, errors, cuts."""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, Literal

Behaviour = Literal[
    "serves", "gated", "unknown repository", "no such file", "broken", "cuts", "cuts once", "lies", "stalls", "drips"
]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    url: str
    content: bytes = b""
    behaviour: Behaviour = "serves"
    files: dict[str, bytes] = field(default_factory=dict)
    """Contents of configurations by name; those that are not named are not there."""
    requests: list[str] = field(default_factory=list)
    """Method, path and range of every request."""


@contextmanager
def fake_hub(content: bytes) -> Iterator[FakeHub]:
    """Serves one content under every file name but those of configurations (JSON)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = FakeHub(url=f"http://127.0.0.1:{server.server_port}", content=content)
    _Handler.hubs[server.server_port] = hub
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hubs: ClassVar[dict[int, FakeHub]] = {}
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> FakeHub:
        return self.hubs[self.server.server_address[1]]  # pyright: ignore

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        wanted = self.headers.get("Range")
        self.hub.requests.append(f"{self.command} {self.path} {wanted or ''}".strip())
        refusals = {
            "gated": (403, "GatedRepo", "Access to this model is restricted."),
            "unknown repository": (401, "RepoNotFound", "Repository not found"),
            "no such file": (404, "EntryNotFound", "Entry not found"),
            "broken": (500, "", "Internal error"),
        }
        if self.path.startswith("/api/"):
            return self._refuse(404, "", "Not found")
        if self.hub.behaviour in refusals:
            return self._refuse(*refusals[self.hub.behaviour])
        name = self.path.partition("?")[0].rsplit("/", 1)[-1]
        if name.endswith(".json") and name not in self.hub.files:
            return self._refuse(*refusals["no such file"])
        content = self.hub.files.get(name, self.hub.content)
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        body = content[start:]
        digest = hashlib.sha256(content if self.hub.behaviour != "lies" else b"other").hexdigest()
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if not with_body:
            return None
        if self.hub.behaviour in ("cuts", "cuts once"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            if self.hub.behaviour == "cuts once":
                self.hub.behaviour = "serves"
            return None
        if self.hub.behaviour in ("stalls", "drips"):
            return self._keep_waiting(body)
        self.wfile.write(body)
        return None

    def _keep_waiting(self, body: bytes) -> None:
        """Sends nothing, or a byte now and then, until the other side is gone; a minute at most."""
        for number in range(600):
            time.sleep(0.1)
            if self.hub.behaviour == "drips":
                try:
                    self.wfile.write(body[number : number + 1])
                except OSError:
                    break
        self.close_connection = True

    def _refuse(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()
