"""Chunks of PNG files, for tests that write them by hand."""

import struct
import zlib


def chunk(kind: bytes, data: bytes) -> bytes:
    """Writes a chunk with its right checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
