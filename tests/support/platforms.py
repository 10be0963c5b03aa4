"""Imitations of other platforms: a fresh interpreter without what Windows or macOS lack, and with what they refuse."""

import os
import subprocess
import sys
from pathlib import Path

_MACOS = """
import os, sys
for name in ("sched_getaffinity", "sched_setaffinity", "process_cpu_count"):
    if hasattr(os, name):
        delattr(os, name)
"""

_WINDOWS = (
    _MACOS
    + """
import errno, fcntl, shutil, subprocess, tempfile, types
flock, busy = fcntl.flock, (fcntl.LOCK_EX | fcntl.LOCK_NB)
sys.modules["fcntl"] = None
for name in ("O_DIRECTORY", "O_NOFOLLOW", "fork"):
    delattr(os, name)
shutil._use_fd_functions = False

def locking(descriptor, mode, num_bytes):
    try:
        flock(descriptor, busy)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied") from None

sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)

def refuse(path):
    raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))

def is_open(path):
    whole = os.path.realpath(path)
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    used = [os.readlink(link) for link in links if os.path.lexists(link)]
    with open("/proc/self/maps") as maps:
        used += [line.split(maxsplit=5)[5].strip() for line in maps if len(line.split(maxsplit=5)) == 6]
    return any(name == whole or name.startswith(whole + "/") for name in used)

def guarded(function, num_paths):
    def call(*paths, **options):
        for path in paths[:num_paths]:
            if isinstance(path, (str, os.PathLike)) and is_open(path):
                refuse(path)
        return function(*paths, **options)
    return call

def open_file(path, flags, mode=0o777, *, dir_fd=None, original=os.open):
    if dir_fd is not None:
        raise NotImplementedError("dir_fd unavailable on this platform")
    return refuse(path) if os.path.isdir(path) else original(path, flags, mode)

def rename(source, target, original=os.rename):
    if os.path.exists(target):
        raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", str(target))
    return original(source, target)

def fsync(descriptor, original=os.fsync):
    with open(f"/proc/self/fdinfo/{descriptor}") as info:
        flags = int(next(line.split()[1] for line in info if line.startswith("flags")), 8)
    if not flags & (os.O_WRONLY | os.O_RDWR):
        raise OSError(errno.EBADF, "Bad file descriptor")
    return original(descriptor)

os.open, os.fsync = open_file, fsync
os.rename, os.replace = guarded(rename, 2), guarded(os.replace, 2)
os.unlink = os.remove = guarded(os.unlink, 1)
"""
)
PLATFORMS = {"macos": _MACOS, "windows": _WINDOWS}


def run_on(platform: str, program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program in a fresh interpreter that lacks what the platform lacks."""
    return subprocess.run(
        [sys.executable, "-c", PLATFORMS[platform] + program, *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
