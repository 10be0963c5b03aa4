"""Open connections by client: bounded for each client and in all; the one that kept the service waiting longest yields.

Knows neither sockets nor HTTP.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from itertools import count
from typing import Generic, TypeVar

Connection = TypeVar("Connection", bound=Hashable)

_IPV6_PREFIX = 64
"""Bits of an IPv6 address that name a network; whoever has one address of it may take any other (RFC 4291, 2.5.1)."""


class FullError(Exception):
    """Every connection that could yield is being answered."""


@dataclass(slots=True)
class _Client(Generic[Connection]):
    waiting: dict[Connection, int] = field(default_factory=dict)
    """Connections that wait for their client, by when that began; the longest first."""
    answering: set[Connection] = field(default_factory=set)
    """Connections that wait for the service; they are never closed for others."""

    def __len__(self) -> int:
        return len(self.waiting) + len(self.answering)

    def longest(self) -> Connection | None:
        return next(iter(self.waiting), None)


class Connections(Generic[Connection]):
    """The open connections.

    A new one is never kept out by those that have sent nothing whole: the oldest of these is closed for it. A client at
    its own limit loses one of its own; at the limit in all, the client with most connections loses one.
    """

    def __init__(self, *, in_all: int, per_client: int) -> None:
        """Takes the numbers that may be open at once."""
        self._in_all, self._per_client = in_all, per_client
        self._clients: dict[str, _Client[Connection]] = {}
        self._client_of: dict[Connection, str] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._client_of)

    def enter(self, connection: Connection, client: str) -> Connection | None:
        """Takes in a connection that waits for its client; returns the one to close for it, None where there is room.

        Raises:
            FullError: If there is neither room nor one that could yield.
        """
        leaving = self._to_close(client)
        if leaving is not None:
            self.leave(leaving)
        self._client_of[connection] = client
        self._clients.setdefault(client, _Client()).waiting[connection] = next(self._numbers)
        return leaving

    def waits(self, connection: Connection) -> None:
        """Notes that a connection waits for its client, from now."""
        if (own := self._of(connection)) is not None:
            own.answering.discard(connection)
            own.waiting.pop(connection, None)
            own.waiting[connection] = next(self._numbers)

    def is_answered(self, connection: Connection) -> None:
        """Notes that a connection waits for the service."""
        if (own := self._of(connection)) is not None:
            own.waiting.pop(connection, None)
            own.answering.add(connection)

    def leave(self, connection: Connection) -> None:
        """Forgets a connection; one that has left already is ignored."""
        if (own := self._of(connection)) is None:
            return
        own.waiting.pop(connection, None)
        own.answering.discard(connection)
        client = self._client_of.pop(connection)
        if not own:
            del self._clients[client]

    def _of(self, connection: Connection) -> "_Client[Connection] | None":
        client = self._client_of.get(connection)
        return None if client is None else self._clients[client]

    def _to_close(self, client: str) -> Connection | None:
        own = self._clients.get(client)
        if own is not None and len(own) >= self._per_client:
            leaving = own.longest()
        elif len(self) >= self._in_all:
            able = [other for other in self._clients.values() if other.waiting]
            busiest = max(able, key=lambda other: (len(other), -min(other.waiting.values())), default=None)
            leaving = None if busiest is None else busiest.longest()
        else:
            return None
        if leaving is None:
            raise FullError
        return leaving


def client_of(host: str) -> str:
    """Returns what counts as one client: this machine, an IPv4 address, or a network of IPv6."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped if address.version == 6 else None
    address = mapped or address
    if address.is_loopback:
        return "loopback"
    return str(address if address.version == 4 else ip_network((address, _IPV6_PREFIX), strict=False))
