"""Limits of the service: sizes, counts and deadlines of requests and connections."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request, one client, and all of them together, may ask for."""

    max_body_bytes: int = 2 * 1024 * 1024
    max_pixels: int = 25_000_000
    """Width times height of one image."""
    max_images: int = 64
    """In one request."""
    max_queue: int = 256
    """Images waiting for an answer, of all requests."""
    max_batch: int = 32
    max_wait_seconds: float = 0.005
    """How long the first image of a batch waits for others."""
    num_decoders: int = 4
    """Images decoded at once; each may take 3 bytes a pixel, several times."""
    max_connections: int = 1000
    """Open at once, of all clients."""
    max_connections_per_client: int = 250
    """Open at once, of one address; all clients behind a proxy have the proxy's."""
    header_seconds: float = 10
    """From the start of a connection, or the end of the last answer, to the end of a request's header."""
    body_seconds: float = 20
    """From the end of the header to the end of the body, beside what ``min_body_rate`` adds; and for an answer that the
    client does not read."""
    min_body_rate: int = 16 * 1024
    """Bytes a second: what has come of a body lengthens its time by its size over this rate."""
