"""Request guard of the service: host name and token are checked before a body is read; headers of every answer."""

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable, MutableMapping
from hmac import compare_digest
from pathlib import Path
from typing import Any

from cytolora.errors import ConfigError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_MIN_TOKEN = 16
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; connect-src 'self'; img-src blob:; style-src 'unsafe-inline'; "
        b"script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
)
_PART = re.compile(r"[A-Za-z0-9._~-]+")
PROTECTED = "/v1/"
"""Paths below it need the token."""


def is_loopback(host: str) -> bool:
    """Whether an interface is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_token(path: Path | None, host: str) -> str | None:
    """Reads the token; None where none is needed.

    Raises:
        ConfigError: If there is none for an interface that others reach, or it is too short to be safe.
    """
    if path is None:
        if not is_loopback(host):
            raise ConfigError(
                f"--host {host} can be reached from other machines, and no token is asked for. Write a secret of at "
                f"least {_MIN_TOKEN} characters into a file and name it: --token-file FILE; or stay on 127.0.0.1."
            )
        return None
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: a token is plain ASCII, such as `openssl rand -hex 32` prints.") from error
    if len(token) < _MIN_TOKEN or any(character.isspace() for character in token):
        raise ConfigError(
            f"{path}: a token has at least {_MIN_TOKEN} characters and no blanks, as `openssl rand -hex 32` prints."
        )
    return token


def clean_root_path(prefix: str) -> str:
    """Returns a prefix with one leading slash and none at its end; empty for none.

    Raises:
        ConfigError: If it is no path.
    """
    parts = [part for part in prefix.strip().split("/") if part]
    if any(part in (".", "..") or not _PART.fullmatch(part) for part in parts):
        raise ConfigError(f"--root-path is the prefix that a proxy adds, such as /cyto, got {prefix!r}.")
    if parts[:1] == [PROTECTED.strip("/")]:
        raise ConfigError(f"--root-path {prefix} is how the service's own addresses begin; choose another prefix.")
    return "".join(f"/{part}" for part in parts)


class Guard:
    """Refuses what has a wrong token (401), is meant for another host (421) or comes from a page of another (403).

    All before the body is read. The host name is looked at only on loopback: a page on the web may lead its own name
    there, and would then speak for the reader of the page. Where no token is asked for, any page could send a form:
    browsers say where it comes from (Origin, RFC 6454), programs need not.
    """

    def __init__(
        self, app: App, *, token: str | None, loopback_only: bool, body_seconds: float, root_path: str = ""
    ) -> None:
        """Takes the seconds that the next piece of a body may take to come; a sender that falls silent is let go."""
        self._root_path = root_path
        self._app = app
        self._body_seconds = body_seconds
        self._expected = None if token is None else f"Bearer {token}".encode()
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        headers = dict(scope["headers"])
        if self._loopback_only and not is_loopback(_host(headers.get(b"host", b""))):
            await _refuse(send_with_headers, 421, "This service answers to localhost only.")
        elif self._expected is None and not _is_own(headers):
            await _refuse(send_with_headers, 403, "This service answers to programs and to its own page only.")
        elif self._needs_token(scope) and not self._is_right(headers.get(b"authorization", b"")):
            await _refuse(send_with_headers, 401, "Send the token: Authorization: Bearer TOKEN.")
        else:
            await self._app(self._rooted(scope), self._in_time(receive), send_with_headers)

    def _in_time(self, receive: Receive) -> Receive:
        has_more = True

        async def receive_in_time() -> Any:
            nonlocal has_more
            if not has_more:
                return await receive()  # what comes now is the end of the connection, whenever that is
            try:
                message = await asyncio.wait_for(receive(), self._body_seconds)
            except TimeoutError:
                has_more = False
                return {"type": "http.disconnect"}
            has_more = bool(message.get("more_body", False))
            return message

        return receive_in_time

    def _needs_token(self, scope: Scope) -> bool:
        return self._expected is not None and self._inner(scope).startswith(PROTECTED)

    def _inner(self, scope: Scope) -> str:
        """The path without the prefix, which a proxy passes on or strips."""
        path = scope["path"]
        is_below = path == self._root_path or path.startswith(f"{self._root_path}/")
        return path[len(self._root_path) :] if is_below else path

    def _rooted(self, scope: Scope) -> Scope:
        """Writes the prefix into the scope, as ASGI has it; nothing is changed where there is none."""
        if not self._root_path:
            return scope
        return {**scope, "root_path": self._root_path, "path": self._root_path + self._inner(scope)}

    def _is_right(self, given: bytes) -> bool:
        return self._expected is not None and compare_digest(given, self._expected)


def _host(header: bytes) -> str:
    """The name in a Host header, without the port."""
    text = header.decode("latin-1")
    return text.partition("]")[0] + "]" if text.startswith("[") else text.partition(":")[0]


def _is_own(headers: dict[bytes, bytes]) -> bool:
    """Whether no page asks, or one of this very service: same host, same port."""
    origin = headers.get(b"origin")
    return origin is None or origin.partition(b"://")[2].lower() == headers.get(b"host", b"").lower()


async def _refuse(send: Send, status: int, why: str) -> None:
    content = f'{{"detail": "{why}"}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": content})
