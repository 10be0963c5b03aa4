"""Owner of a claim: user, machine and process; and whether that process of this machine has ended."""

import getpass
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process that works on a store."""

    user: str
    host: str
    pid: int
    since: str
    """When it claimed, by its own clock: for people, never compared."""
    machine: str
    """Tells the machine since its last start, and the container; empty where the system does not tell."""
    started: str
    """When the process started, as its system counts: a number that is used again is another process."""

    def __str__(self) -> str:
        return f"{self.user} on {self.host}, process {self.pid}"

    @classmethod
    def this_process(cls) -> "Owner":
        """Returns the one that this process is."""
        return cls(
            user=_user(),
            host=platform.node(),
            pid=os.getpid(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=_machine(),
            started=_started(os.getpid()) or "",
        )

    @classmethod
    def of(cls, found: Any) -> "Owner | None":
        """Reads one from plain data; None where it is not all there."""
        if not isinstance(found, Mapping) or type(found.get("pid")) is not int:
            return None
        texts = {name: found.get(name) for name in cls.__dataclass_fields__ if name != "pid"}
        if not all(isinstance(text, str) for text in texts.values()):
            return None
        return cls(pid=found["pid"], **texts)  # pyright: ignore[reportArgumentType]

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return asdict(self)

    def is_gone(self) -> bool:
        """Whether it was a process of this machine and has ended; False where nobody here can tell."""
        if not self.machine or self.machine != _machine() or self.pid < 1:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):  # another user's: it is there
            pass
        started = _started(self.pid)
        return started is not None and started != self.started


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in containers
        return str(getattr(os, "getuid", lambda: "unknown")())


def _machine() -> str:
    if sys.platform == "win32":  # where signal 0 is no question
        return ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{platform.node()} {sys.platform}"


def _started(pid: int) -> str | None:
    """Returns when a process started, "ended" for one that only its parent remembers; None where it is not told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "ended" if fields[0] in "ZX" else fields[19]
