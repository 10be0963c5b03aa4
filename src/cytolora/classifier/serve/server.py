"""HTTP server of the service: deadlines for headers, bodies and unread answers; connections bounded by client.

The deadlines hold before a token can be looked at: a client that never ends its header is as far as anybody gets.
"""

import json
import logging
from asyncio import TimerHandle, Transport
from contextlib import suppress
from socket import socket
from typing import Any, Literal, cast

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from cytolora.classifier.serve.connections import Connections, FullError, client_of
from cytolora.classifier.serve.limits import Limits

BACKLOG = 2048
"""Clients that connect at once and wait to be accepted; none is refused."""
_ACCEPTED_AT_ONCE = 100
"""Accepted at most before any of them is looked at; bounds the files that are open beyond ``max_connections``."""
_READ_BEFORE_PUSHED_OUT = 10
"""Times that others are accepted before a new connection could be closed for them; it is read at the third."""
_FILES_PER_CONNECTION = 2
"""Its socket, and the temporary file of a large upload."""
_OTHER_FILES = 2 * _ACCEPTED_AT_ONCE
_HELD_UP_SECONDS = 0.25
"""A deadline that is noticed later than this fell into a time in which the service itself stood still: the client,
which may have sent all in time, has the whole time once more."""

_Phase = Literal["header", "body", "answer", "unread"]


def _refusal(status: str, why: str, *headers: str) -> bytes:
    content = json.dumps({"detail": why})
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(content)}", *headers]
    return "\r\n".join([*lines, "connection: close", "", content]).encode("ascii")


_LATE = _refusal("408 Request Timeout", "The request did not come whole in time.")
_INVALID = _refusal("400 Bad Request", "No valid HTTP request.")
_FULL = _refusal("503 Service Unavailable", "Too many connections.", "retry-after: 1")


def make_server(app: FastAPI, limits: Limits) -> "Server":
    """Builds the server of an app; ``run(sockets=[listener])`` serves until it is told to stop."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # as log_level below
    in_all = fit_open_files(limits.max_connections)
    connections: Connections[_Connection] = Connections(in_all=in_all, per_client=limits.max_connections_per_client)

    def protocol(**options: Any) -> _Connection:
        return _Connection(connections, limits, **options)

    config = uvicorn.Config(
        app,
        http=cast(Any, protocol),  # called like a class, once a connection
        ws="none",  # a socket that is upgraded would have no deadline
        log_level="error",  # what clients do wrong is answered, and fills no log
        access_log=False,
        server_header=False,
        backlog=accepted_at_once(limits),
    )
    return Server(config)


def accepted_at_once(limits: Limits) -> int:
    """Returns how many connections are accepted at once: few enough that each is read before it could yield."""
    fewest = min(limits.max_connections, limits.max_connections_per_client)
    return max(1, min(_ACCEPTED_AT_ONCE, fewest // _READ_BEFORE_PUSHED_OUT))


def fit_open_files(num_connections: int) -> int:
    """Raises this process's limit of open files as far as is allowed, and returns the connections that fit into it."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return num_connections
    needed = num_connections * _FILES_PER_CONNECTION + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        with suppress(ValueError, OSError):  # macOS names a hard limit that it does not grant
            raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return num_connections
    return max(1, min(num_connections, (soft - _OTHER_FILES) // _FILES_PER_CONNECTION))


class Server(uvicorn.Server):
    """Uvicorn's server with a longer queue of connections than it accepts at once."""

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Starts, and sets the queue's length again: asyncio takes one number for both."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)


class _Connection(H11Protocol):
    """One connection: it waits for its client for a bounded time only, and yields to others while it does."""

    def __init__(self, connections: "Connections[_Connection]", limits: Limits, **options: Any) -> None:
        super().__init__(**options)
        self._all, self._limits = connections, limits
        self._phase: _Phase = "header"
        self._began = 0.0
        """Of the phase, in the loop's time."""
        self._num_received = 0
        """Bytes of the phase."""
        self._timer: TimerHandle | None = None
        self._is_last_look = False
        self._is_refused = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        peer = transport.get_extra_info("peername") or ("",)  # the socket's own: what a header says is the client's
        try:
            leaving = self._all.enter(self, client_of(str(peer[0])))
        except FullError:
            self._is_refused = True
            transport.write(_FULL)
            transport.close()
            return
        super().connection_made(transport)
        if leaving is not None:
            leaving.dismiss(_FULL)
        self._begin("header")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_refused:
            return
        super().connection_lost(exc)
        self._all.leave(self)
        self._stop_timer()

    def data_received(self, data: bytes) -> None:
        self._num_received += len(data)
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        # also where the connection closes now: it stays open until the client has read everything
        self._begin("unread" if self.transport.get_write_buffer_size() else "header")
        super().on_response_complete()
        self._follow()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP in the form of every other refusal."""
        self.dismiss(_INVALID)

    def timeout_keep_alive_handler(self) -> None:
        """Does nothing: a connection between two requests has the deadline of a header."""

    def pause_writing(self) -> None:
        super().pause_writing()
        self._begin("unread")

    def resume_writing(self) -> None:
        super().resume_writing()
        self._phase = "answer"  # whatever it was: the answer goes on
        self._follow(is_new=True)

    def dismiss(self, answer: bytes) -> None:
        """Closes it now; the answer goes to a client whose request has begun and has no other answer."""
        is_begun = self._phase == "header" and self._num_received > 0
        is_unanswered = self._phase == "body" and not self.cycle.response_started
        if (is_begun or is_unanswered) and not self.transport.is_closing():
            self.transport.write(answer)
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.transport.abort()  # closing would wait for the client to read
        else:
            self.transport.close()

    def _follow(self, *, is_new: bool = False) -> None:
        """Reads off the state of the request, and begins its phase where it is another."""
        is_unread = self._phase == "unread" and self.transport.get_write_buffer_size() > 0
        if self.transport.is_closing() or is_unread:
            return
        states: dict[Any, _Phase] = {h11.IDLE: "header", h11.SEND_BODY: "body"}
        phase = states.get(self.conn.their_state, "answer")
        if is_new or phase != self._phase:
            self._begin(phase)

    def _begin(self, phase: _Phase) -> None:
        self._phase, self._began, self._num_received = phase, self.loop.time(), 0
        self._is_last_look = False
        self._stop_timer()
        if phase == "answer":
            self._all.is_answered(self)
        else:
            self._all.waits(self)
            self._timer = self.loop.call_later(self._allowed(), self._when_late)

    def _allowed(self) -> float:
        """Seconds that the client has for this phase."""
        if self._phase == "header":
            return self._limits.header_seconds
        counted = min(self._num_received, self._limits.max_body_bytes) if self._phase == "body" else 0
        return self._limits.body_seconds + counted / self._limits.min_body_rate

    def _when_late(self) -> None:
        now = self.loop.time()
        left = self._began + self._allowed() - now
        if left <= 0 and not self._is_last_look:
            self._is_last_look = True
            if left < -_HELD_UP_SECONDS:
                self._began, left = now, self._allowed()
            else:
                left = 0.0  # what has come meanwhile is read before a timer of now
        elif left <= 0:
            self.dismiss(_LATE)
            return
        self._timer = self.loop.call_later(left, self._when_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
