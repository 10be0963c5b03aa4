"""Claims: which process computes what in a store that several commands share, so that nothing is computed twice.

A claim is of one adapter run, of the frozen features of a dataset, division and backbone with all heads on them, or of
a setting's test set: the smallest work whose parts cannot be divided. Claims of runs rather than of whole backbones
let many workers share one backbone; frozen heads are claimed together, because they are trained in one pass and their
features are computed once.

A claim is a file in ``RUNS/.claims``, made under a temporary name and brought there by a hard link, which fails where
the name is taken: on NFS too, and without ``flock``. Its owner touches it every few seconds; who asks compares that
time with the time of a file of its own that it has just touched in the same folder. Both are times of the file system:
no clock of a machine is trusted. A process of this machine that has ended is known by its number at once.

Takeover. The name of a file ends with a generation. Whoever finds all generations of a claim dead links the next one:
of two takers one wins, for the name can be made once; nobody removes what another one may have made in its place,
because the winner's name is a new one. Only then the winner removes the dead generations that are still there. A slow
taker may make a generation that was made and removed long ago; it lists the folder again after its link, sees a higher
one, or a lower one that is not a file it found dead, and withdraws: nobody but itself removes its file while it lives.
If these are gone as well, their owner has finished: every owner looks whether the result is stored after it has its
claim. A taker that is killed before it withdraws leaves a dead generation above a living one; so the highest one alone
never tells that a claim is dead.

No lease excludes an owner that was suspended for longer than a claim lives, and then goes on. It computes what another
one computes too, finds the run stored, and drops its own (``Store.add``): claims save time, they are no part of what
keeps results right.
"""

import errno
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from cytolora.config.run import RunSpec, SplitSpec, to_plain
from cytolora.core import locks, unfinished
from cytolora.core.files import canonical_json, json_bytes, sha256_text
from cytolora.core.progress import Progress
from cytolora.core.stopping import stop_if_asked
from cytolora.core.strict_json import read_json
from cytolora.errors import StoreError
from cytolora.experiments.claim_owner import Owner
from cytolora.experiments.store import unwritable

FOLDER = ".claims"
_VERSION = 1
_BEAT_SECONDS = 10.0
"""Between two touches of a claim by its owner."""
_LIFE_SECONDS = 120.0
"""Time without a touch after which a claim is dead: longer than network file systems keep old times (60 s)."""
_LOOK_SECONDS = 1.0
"""Between two looks at a claim that is waited for."""
_MAX_TRIES = 100
_MAX_NAME_BYTES = 100
_NO_FILE_NAME = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
"""What no name of a file has, on Windows or elsewhere."""
_FILE = re.compile(r"(.+)\.(\d+)\.json")
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""Of file systems without hard links, such as exFAT and some network disks."""


class ClaimedError(StoreError):
    """Another process is at work at it: no fault, to be tried again later."""

    def __init__(self, text: str, name: str = "") -> None:
        super().__init__(text)
        self.name = name
        """Of the claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim as its file says it."""

    name: str
    runs: tuple[str, ...]
    """Ids of the runs that it is about."""
    owner: Owner | None
    """None where the file is empty or damaged: it is dead when it is old."""
    path: Path
    touched_ns: int
    """When its owner last touched it, by the file system's time."""

    def __str__(self) -> str:
        return f"{self.name}, claimed by {self.owner or 'a process that left no name'}"


def of_features(dataset: str, backbone: str, split: SplitSpec) -> str:
    """Names the claim of frozen features, with all heads on them."""
    return f"features_{dataset}_{backbone}_{sha256_text(canonical_json(to_plain(split)))[:8]}"


TEST = "test_"
"""What the name of the claim of a test set begins with."""


def of_test(setting: Sequence[RunSpec]) -> str:
    """Names the claim of the test set of a setting."""
    return f"{TEST}{setting[0].setting_id}"


@contextmanager
def claimed(root: Path, name: str, runs: Iterable[str] = ()) -> Iterator[None]:
    """Claims something in the store ``root`` as long as the block lasts; what is stored is to be looked at within.

    Raises:
        ClaimedError: If a living process has it.
        StoreError: If nothing can be written there, or a newer version wrote a claim.
    """
    held = _take(root / FOLDER, _stem(name), name, tuple(runs))
    stopped = Event()
    beat = Thread(target=held.beat, args=(stopped,), name="cytolora-claim", daemon=True)
    try:
        beat.start()
        yield
    finally:
        stopped.set()
        if beat.ident is not None:
            beat.join()
        held.release()


@contextmanager
def noted(elsewhere: list[ClaimedError]) -> Iterator[None]:
    """Skips the block if another process has the claim; notes then by whom what is computed."""
    try:
        yield
    except ClaimedError as error:
        elsewhere.append(error)


def living(root: Path) -> list[tuple[Claim, float]]:
    """Lists the claims of living processes in a store, each with the seconds since it was touched; sorted by name.

    Raises:
        StoreError: If they cannot be read, or a newer version wrote one.
    """
    folder = root / FOLDER
    try:
        found = [_claims(folder, names, _versions(folder, names)) for names in _listed(folder).values()]
    except OSError as error:
        raise StoreError(f"Cannot read {folder}: {error.strerror or error}. Make it readable.") from error
    if not any(found):
        return []
    now, _ = _now_ns(folder)
    alive = []
    for claims in found:
        ages = [(claim, max(0.0, (now - claim.touched_ns) / 1e9)) for claim in claims]
        alive += [(claim, age) for claim, age in ages if not _is_dead(claim, age)][:1]
    return sorted(alive, key=lambda one: one[0].name)


def sweep(root: Path) -> None:
    """Removes the claims of dead processes; nothing where nothing may be written."""
    folder = root / FOLDER
    with suppress(OSError, StoreError):
        alive = {claim.path.name for claim, _ in living(root)}
        for stem, generations in _listed(folder).items():
            if alive.isdisjoint(generations.values()):
                with suppress(ClaimedError):
                    _take(folder, stem, stem, ()).release()


def wait_for_any(root: Path, progress: Progress, elsewhere: Sequence[ClaimedError]) -> None:
    """Waits until one of some claims is gone or dead; says by whom what is awaited is computed."""
    more = f", and {len(elsewhere) - 1} more" if len(elsewhere) > 1 else ""
    progress.say(f"waiting for what other commands compute: {elsewhere[0]}{more}")
    awaited = {error.name for error in elsewhere}
    while awaited <= {claim.name for claim, _ in living(root)}:
        stop_if_asked()
        time.sleep(_LOOK_SECONDS)


@dataclass(kw_only=True)
class _Held:
    """A claim of this process. Its file is open, so that its owner never touches that of another one by its name."""

    path: Path
    descriptor: int | None
    """None on Windows, which renames and removes only what is closed."""
    made: os.stat_result

    def beat(self, stopped: Event) -> None:
        """Touches it until the event is set."""
        while not stopped.wait(_BEAT_SECONDS):
            with suppress(OSError):  # taken over and removed, or the file system is away for a while
                os.utime(self.path if self.descriptor is None else self.descriptor)

    def release(self) -> None:
        """Removes it, unless another process has taken it over."""
        try:
            if os.path.samestat(self.made, self.path.stat()):
                self.path.unlink()
        except OSError:
            pass  # gone, or the file system is away: it dies by itself
        finally:
            if self.descriptor is not None:
                os.close(self.descriptor)


def _take(folder: Path, stem: str, name: str, runs: tuple[str, ...]) -> _Held:
    """Makes the claim of a name; see the module on two that do so at once."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for _ in range(_MAX_TRIES):
            before = _listed(folder).get(stem, {})
            seen = _versions(folder, before)
            for claim in _claims(folder, before, seen):
                if not _is_dead(claim, None):
                    raise ClaimedError(str(claim), claim.name)
            generation = max(before, default=-1) + 1
            held = _make(folder / f"{stem}.{generation}.json", name, runs)
            if held is None:
                continue
            others = _listed(folder).get(stem, {})
            others.pop(generation, None)
            there = _versions(folder, others)
            if max(others, default=-1) > generation or not there.items() <= seen.items():
                held.release()
                continue
            for dead in there:  # any other name may now be that of a taker who is about to withdraw
                with suppress(OSError):
                    (folder / others[dead]).unlink()
            return held
    except OSError as error:
        raise unwritable(folder, error) from error
    raise ClaimedError(f"{name}, which many processes claim at once", name)


def _make(path: Path, name: str, runs: tuple[str, ...]) -> _Held | None:
    """Makes the file of a claim with its content in it; None if there is one."""
    owner = Owner.this_process().plain()
    drawn = secrets.token_hex(8)
    content = json_bytes({"version": _VERSION, "name": name, "runs": list(runs), "drawn": drawn, **owner})
    descriptor, temporary = unfinished.begin_file(path)
    keeps_open = locks.can_lock_unfinished()
    is_kept = False
    try:
        os.write(descriptor, content)
        if not keeps_open:
            os.close(descriptor)
        try:
            os.link(temporary, path)
        except FileExistsError:
            # the answer to a link that was made can be lost on NFS: then the file has two names
            if not keeps_open or os.fstat(descriptor).st_nlink != 2:
                return None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _make_exclusively(path, content)
        is_kept = True
        return _Held(path=path, descriptor=descriptor if keeps_open else None, made=temporary.stat())
    finally:
        temporary.unlink(missing_ok=True)
        if keeps_open and not is_kept:
            os.close(descriptor)


def _make_exclusively(path: Path, content: bytes) -> _Held | None:
    """Makes the file of a claim where there are no hard links; for a moment it is empty, which reads as no owner."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except FileExistsError:
        return None
    os.write(descriptor, content)
    made = os.fstat(descriptor)
    if locks.can_lock_unfinished():
        return _Held(path=path, descriptor=descriptor, made=made)
    os.close(descriptor)
    return _Held(path=path, descriptor=None, made=made)


def file_name(name: str) -> str:
    """Returns what a file about a claim is called, in another folder than that of the claims."""
    return f"{_stem(name)}.json"


def now_seconds(root: Path) -> tuple[float, bool]:
    """Returns the time of the file system of a store, and whether it is: where nothing may be written it is ours."""
    now_ns, is_of_files = _now_ns(root / FOLDER)
    return now_ns / 1e9, is_of_files


def _stem(name: str) -> str:
    """Cuts a name to what a file may be called, and tells it from all others by its hash."""
    plain = _NO_FILE_NAME.sub("-", name).encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    return f"{plain}-{sha256_text(name)[:12]}"


def _versions(folder: Path, generations: dict[int, str]) -> dict[int, tuple[int, bytes]]:
    """Reads the generations of a claim that are still there: when each was touched, in ns, and its content.

    Another file of the same name differs in what is drawn for its content: inodes are used again at once, and times
    have steps of milliseconds.
    """
    found = {}
    for generation, name in generations.items():
        with suppress(FileNotFoundError):
            try:
                with (folder / name).open("rb") as file:  # opened, a network file system asks for the time anew
                    found[generation] = os.fstat(file.fileno()).st_mtime_ns, file.read()
            except PermissionError:  # another user's
                found[generation] = (folder / name).stat().st_mtime_ns, b""
    return found


def _listed(folder: Path) -> dict[str, dict[int, str]]:
    """Returns the file names of all claims, by what they are called without their generation."""
    found: dict[str, dict[int, str]] = {}
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in folder.iterdir():
            if match := _FILE.fullmatch(path.name):
                found.setdefault(match[1], {})[int(match[2])] = path.name
    return found


def _claims(folder: Path, generations: dict[int, str], versions: dict[int, tuple[int, bytes]]) -> list[Claim]:
    """Parses what was read of the generations of a claim, the highest first.

    Raises:
        StoreError: If a newer version wrote one.
    """
    return [_parsed(folder / generations[number], *versions[number]) for number in sorted(versions, reverse=True)]


def _parsed(path: Path, touched_ns: int, content: bytes) -> Claim:
    nameless = Claim(name=path.name.rsplit("-", 1)[0], runs=(), owner=None, path=path, touched_ns=touched_ns)
    try:
        found = read_json(content)
    except ValueError:
        return nameless
    version = found.get("version") if isinstance(found, dict) else None
    if isinstance(version, int) and version > _VERSION:
        raise StoreError(
            f"{path} is the claim of a command of a newer cytolora (claims of version {version}, this one reads "
            f"{_VERSION}). Use that one here, or remove the file when no such command is at work."
        )
    owner = Owner.of(found)
    runs = found.get("runs") if isinstance(found, dict) else None
    if owner is None or not isinstance(runs, list) or not isinstance(found.get("name"), str):
        return nameless
    return Claim(name=found["name"], runs=tuple(map(str, runs)), owner=owner, path=path, touched_ns=touched_ns)


def _is_dead(claim: Claim, age: float | None) -> bool:
    """Whether its owner is gone, or has not touched it for long; ``age`` in seconds, measured here if None."""
    if claim.owner is not None and claim.owner.is_gone():
        return True
    if age is None:
        age = (_now_ns(claim.path.parent)[0] - claim.touched_ns) / 1e9
    return age > _LIFE_SECONDS


def _now_ns(folder: Path) -> tuple[int, bool]:
    """Returns the file system's time, that of a file which is touched there now, and True.

    Where nothing may be written it is ours and False, but no earlier than what was last touched there.
    """
    try:
        descriptor, path = unfinished.begin_file(folder / "now")
    except OSError:
        return max(time.time_ns(), _last_touched_ns(folder)), False
    try:
        if os.utime in os.supports_fd:
            os.utime(descriptor)
        return os.fstat(descriptor).st_mtime_ns, True
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


def _last_touched_ns(folder: Path) -> int:
    newest = 0
    with suppress(OSError):
        for path in (folder, *folder.iterdir()):
            with suppress(FileNotFoundError):  # removed since
                newest = max(newest, path.stat().st_mtime_ns)
    return newest
