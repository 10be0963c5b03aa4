"""Request guard of the service: host, origin and token are checked before a body is read; headers of every answer."""

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
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
"""A Host header whole (RFC 9110, 7.2), as far as this service needs it: a name, or an address, and a port."""
_ORIGIN = re.compile(r"https?://(?P<host>.+)", re.IGNORECASE)
PROTECTED = "/v1/"
"""Paths below it need the token."""
METRICS = "/metrics"
"""Needs the token too: it says how much the service is used, and what for."""


def is_loopback(host: str) -> bool:
    """Whether an interface is reached from this machine alone."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return ipaddress.ip_address(bare).is_loopback
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
        self, app: App, *, token: str | None, loopback_only: bool, root_path: str = "", is_private: bool = False
    ) -> None:
        """Takes what ``make_app`` was given.

        Args:
            is_private: The page asks for the token too, in its address (``/?token=TOKEN``), and no page of another site
                may ask, whatever it knows.
        """
        self._root_path, self._is_private = root_path, is_private
        self._app = app
        self._token = None if token is None else token.encode("ascii")
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            await send(_with_headers(message))

        if self._loopback_only and not is_loopback(_host_name(_single(scope, b"host"))):
            await _refuse(send_with_headers, 421, "This service answers to localhost only.")
        elif (self._token is None or self._is_private) and not _is_own(scope):
            await _refuse(send_with_headers, 403, "This service answers to programs and to its own page only.")
        elif self._is_private and self._inner(scope) == "/" and not self._is_right(_token_of_address(scope)):
            await _refuse(send_with_headers, 401, "Open the address with its token, as it was printed at the start.")
        elif self._needs_token(scope) and not self._is_right(_single(scope, b"authorization")):
            await _refuse(send_with_headers, 401, "Send the token: Authorization: Bearer TOKEN.")
        else:
            await self._app(self._rooted(scope), receive, send_with_headers)

    def _needs_token(self, scope: Scope) -> bool:
        path = self._inner(scope)
        return self._token is not None and (path.startswith(PROTECTED) or path == METRICS)

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
        """Whether a header gives the token; the scheme's name is written in any case (RFC 9110, 11.1)."""
        scheme, _, token = given.partition(b" ")
        return (
            self._token is not None and scheme.lower() == b"bearer" and compare_digest(token.strip(b" "), self._token)
        )


class JsonProblems:
    """Writes refusals in plain text as JSON: the limit of bodies has no other form."""

    def __init__(self, app: App) -> None:
        """Takes what is inside."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection, as ASGI has it."""
        is_refused = False

        async def send_json(message: Any) -> None:
            nonlocal is_refused
            if message["type"] == "http.response.start" and message["status"] == 413:
                kind = dict(message["headers"]).get(b"content-type", b"")
                is_refused = kind.startswith(b"text/plain")
                if is_refused:
                    await _refuse(send, 413, "The request is too large.")
            if not is_refused:
                await send(message)

        await self._app(scope, receive, send_json)


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _single(scope: Scope, name: bytes) -> bytes:
    """Returns a header's value; empty where there is none, or several that may contradict each other."""
    values = _values(scope, name)
    return values[0] if len(values) == 1 else b""


def _token_of_address(scope: Scope) -> bytes:
    """Returns the token of ``/?token=TOKEN`` as the header that other requests send; empty where there is none."""
    name, _, token = scope["query_string"].partition(b"=")
    return b"Bearer " + token if name == b"token" else b""


def _host_name(header: bytes) -> str:
    """Returns the name in a Host header, without the port; empty where the header as a whole is none."""
    found = _HOST.fullmatch(header.decode("latin-1"))
    return "" if found is None else found["name"]


def _is_own(scope: Scope) -> bool:
    """Whether no page asks, or one of this very service: same host, same port."""
    if not _values(scope, b"origin"):
        return True
    origin = _ORIGIN.fullmatch(_single(scope, b"origin").decode("latin-1"))
    return origin is not None and origin["host"].lower() == _single(scope, b"host").decode("latin-1").lower()


def _with_headers(message: Any) -> Any:
    if message["type"] != "http.response.start":
        return message
    return {**message, "headers": [*message.get("headers", ()), *_HEADERS]}


async def answer_fault(send: Send) -> None:
    """Answers for a fault of the program, in the form of every other refusal."""

    async def send_with_headers(message: Any) -> None:
        await send(_with_headers(message))

    await _refuse(send_with_headers, 500, "A fault of the service; its own log has the reason.")


async def _refuse(send: Send, status: int, why: str) -> None:
    content = f'{{"detail": "{why}"}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": content})
