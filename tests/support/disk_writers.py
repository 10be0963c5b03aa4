"""Every way in which the package writes to disk: an older and a newer content of one place, and how it is read back."""

import io
import shutil
import zipfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contention import contents, leftovers
from fake_store import FakeData, fake_run
from faulty_files import Crash, Fault, FaultyFiles

from cytolora.classifier.bundle.files import CARD, read_bundle, write_bundle
from cytolora.core import unfinished
from cytolora.core.cache_folder import CachedFiles
from cytolora.core.files import staged_file, write_bytes, write_json
from cytolora.core.folders import current_folder, finish_together, staged_folder, staged_together
from cytolora.core.shards import ShardStore
from cytolora.data.archive import unpack
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.unpacked import unpack_once
from cytolora.data.splitting.split_files import write_split
from cytolora.errors import CytoloraError
from cytolora.experiments.divisions import keep_division, kept_division
from cytolora.experiments.names import read_names, write_names
from cytolora.experiments.store import Store
from cytolora.models.backbones.registry import NANO
from cytolora.models.checkpoints.offline_folder import keep, read_manifest
from cytolora.reporting.leakage.kept import KeptLeakage, Subject, read_kept
from cytolora.reporting.leakage.kept import keep as keep_leakage
from cytolora.reporting.results.cache import read_cached, write_cached

_TEXT = b"some text, longer than a header\n" * 8


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Something that writes below a folder."""

    name: str
    old: Callable[[Path], object]
    new: Callable[[Path], object]
    read: Callable[[Path], Any]
    """What stands there; None where nothing does."""
    is_cache: bool = False
    """May be absent after a fault, and be made again."""
    is_command: bool = False
    """Told to the user: whatever goes wrong is one line and exit code 2."""


def library_writers(bundle: Path, folder: Path) -> list[Writer]:
    """Writers that take milliseconds.

    Args:
        bundle: A small one, to be written again.
        folder: For what the writers read.
    """
    runs = [fake_run(FakeData(), "uni", "linear", 4, 1e-3, 1, skill=1, tested=tested) for tested in (False, True)]
    contents_of, files = read_bundle(bundle)
    cells = _cells(folder / "cells")
    zips = [_zipped(folder / f"{size}.zip", size) for size in (3, 5)]
    return [
        _pair("write_bytes", lambda to, text: write_bytes(to / "a.txt", text), _TEXT, _TEXT * 2),
        _pair("write_json", lambda to, value: write_json(to / "a.json", value), {"a": 1}, {"a": [1, 2, 3]}),
        _pair("staged_file", _stage_file, _TEXT, _TEXT * 2),
        _pair("staged_folder", _stage_folder, _TEXT, _TEXT * 2, read=lambda to: _files_of(to / "folder")),
        _pair("staged_together", _stage_together, _TEXT, _TEXT * 2, read=_finished),
        Writer(name="store a run", old=lambda to: None, new=lambda to: Store(to).add(runs[0]), read=_runs),
        _pair("replace a run", lambda to, run: Store(to).write(run), *runs, read=_runs),
        _pair("names of settings", lambda to, name: write_names(Store(to), {"a": name}), "one", "two", read=read_names),
        Writer(
            name="split file of a store",
            old=lambda to: None,
            new=lambda to: keep_division(to, cells),
            read=lambda to: [kept_division(to, path.stem) is not None for path in to.glob(".splits/[!.]*")] or None,
        ),
        _pair("leakage of a store", lambda to, why: keep_leakage(to, _leakage(why)), "few", "none", read=_kept_leakage),
        _pair(
            "bundle", lambda to, kind: write_bundle(to / "model", contents_of, files, kind), "old", "new", read=_card
        ),
        _pair(
            "bundle, zip",
            lambda to, kind: write_bundle(to / "model.zip", contents_of, files, kind),
            *("old", "new"),
            read=lambda to: contents(to / "model.zip") if (to / "model.zip").exists() else None,
        ),
        _pair(
            "split file", lambda to, rule: write_split(replace(cells, split_rule=rule), to / "s.csv"), "by a", "by b"
        ),
        Writer(
            name="shard",
            old=lambda to: ShardStore(to, key="k").add({"a": _TEXT}),
            new=lambda to: ShardStore(to, key="k").add({"b": _TEXT * 2}),
            read=lambda to: ShardStore(to, key="k").read(["a", "b"]),
        ),
        Writer(
            name="decoded image",
            old=lambda to: None,
            new=lambda to: PixelCache(to, cells.root).native(cells.samples[0]),
            read=lambda to: (
                PixelCache(to, cells.root)._read(next(iter(to.rglob("native/*/[!.]*")), to / "none")) is not None
                or None
            ),
            is_cache=True,
        ),
        _pair(
            "evaluation",
            lambda to, value: write_cached(to / "e.json", value),
            *([1], [1, 2]),
            read=lambda to: read_cached(to / "e.json", list),
            is_cache=True,
        ),
        _pair(
            "cached adapter",
            lambda to, text: CachedFiles(to).keep("a", text),
            *(_TEXT, _TEXT * 2),
            read=lambda to: CachedFiles(to).read("a", bytes),
            is_cache=True,
        ),
        Writer(
            name="offline weights",
            old=lambda to: write_json(to / "weights.json", {"checkpoints": []}),
            new=lambda to: keep(NANO, NANO.weights or Path(), to),
            read=lambda to: [one.name for one in read_manifest(to)],
        ),
        _pair("unpacked zip", lambda to, path: unpack(path, cache=to), *zips, read=_unpacked),
        _pair("unpacked images", _unpack_once, "one", "two", read=lambda to: _files_of(to / "images")),
    ]


def _pair(
    name: str,
    write: Callable[[Path, Any], object],
    old: Any,
    new: Any,
    *,
    read: Callable[[Path], Any] | None = None,
    is_cache: bool = False,
) -> Writer:
    return Writer(
        name=name,
        old=lambda to: write(to, old),
        new=lambda to: write(to, new),
        read=read or (lambda to: contents(to) or None),
        is_cache=is_cache,
    )


def _stage_file(to: Path, text: bytes) -> None:
    with staged_file(to / "a.txt") as path, path.open("wb") as file:
        for _ in range(3):
            file.write(text)


def _stage_folder(to: Path, text: bytes) -> None:
    with staged_folder(to / "folder") as staging:
        (staging / "inner").mkdir()
        for name in ("a", "b", "inner/c"):
            (staging / name).write_bytes(text)


def _stage_together(to: Path, text: bytes) -> None:
    with staged_together(to) as staging:
        for name in ("a", "b", "c"):
            write_bytes(staging / name, text)


def _finished(to: Path) -> Any:
    finish_together(to)
    return contents(to)


def _runs(to: Path) -> Any:
    found = [(run.run_id, run.metrics, run.predictions().to_pylist(), run.weights()) for run in Store(to).runs()]
    return found or None


def _leakage(why: str) -> KeptLeakage:
    return KeptLeakage(subject=_SUBJECT, skipped=why)


_SUBJECT = Subject(dataset="a", label_map_sha256=None, backbone="nano", data_fingerprint="1", weights_sha256="2")


def _kept_leakage(to: Path) -> str | None:
    kept = read_kept(to, _SUBJECT)
    return None if kept is None else kept.skipped


def _card(to: Path) -> str | None:
    path = to / "model"
    if not current_folder(path).exists():
        return None
    read_bundle(path)  # every byte but the card's
    return (current_folder(path) / CARD).read_text()


def _files_of(folder: Path) -> dict[str, bytes] | None:
    return contents(current_folder(folder)) or None


def _unpacked(to: Path) -> Any:
    """Both archives are kept, each under a name of its own."""
    whole = {path.name: contents(path) for path in to.glob("*/[!.]*") if path.is_dir()}
    return whole or None


def _unpack_once(to: Path, key: str) -> None:
    def write(folder: Path) -> None:
        for number in range(3):
            (folder / f"{number}.png").write_bytes(key.encode())

    unpack_once(to / "images", key, write)


def _cells(root: Path) -> Manifest:
    from PIL import Image

    root.mkdir(parents=True)
    samples = []
    for number in range(6):
        Image.new("RGB", (8, 8), (number * 40, 80, 120)).save(root / f"{number}.png")
        samples.append(
            Sample(path=f"{number}.png", label="ab"[number % 2], subset=("train", "val", "test")[number // 2])
        )
    return Manifest(
        name="cells", root=root, classes=("a", "b"), samples=tuple(samples), split_rule="by hand"
    ).with_hashes()


def _zipped(path: Path, size: int) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for number in range(size):
            packed.writestr(f"class/{number}.png", bytes([number]) * 100)
    return path


@dataclass(frozen=True, kw_only=True)
class Injected:
    """One fault, and what became of it."""

    writer: str
    step: str
    fault: Fault
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.writer}, {self.fault} at {self.step}: {'; '.join(self.problems) or 'kept'}"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A writer with its old state on disk, its steps counted."""

    writer: Writer
    folder: Path
    steps: Sequence[str]
    before: Any
    after: Any

    @staticmethod
    def of(writer: Writer, folder: Path) -> "Bench":
        """Writes the old state, and the new one in a copy, where its steps are counted."""
        (folder / "old").mkdir(parents=True)
        _ended(writer.old, folder / "old")
        before, work = writer.read(folder / "old"), _fresh(folder)
        layer = FaultyFiles(work)
        with layer.installed():
            code, said = _ended(writer.new, work)
        assert code == 0, f"{writer.name}: {said}"
        assert layer.steps, writer.name
        after = writer.read(work)
        assert after != before, writer.name
        return Bench(writer=writer, folder=folder, steps=[*map(str, layer.steps)], before=before, after=after)

    def inject(self, at: int, fault: Fault) -> Injected:
        """Fails at one step, looks, and writes again without a fault."""
        work = _fresh(self.folder)
        code: int | None = None
        said = ""
        with suppress(Crash), FaultyFiles(work, at=at, fault=fault).installed():
            code, said = _ended(self.writer.new, work)
        problems = [*self._wrong_end(code, said), *self._wrong_state(work, code)]
        sweep_anew()
        again, said = _ended(self.writer.new, work)
        if again:
            problems.append(f"a second try fails: {said}")
        elif self.writer.read(work) != self.after:
            problems.append("a second try writes something else")
        if left := leftovers(work):
            problems.append(f"left over: {left}")
        return Injected(writer=self.writer.name, step=self.steps[at], fault=fault, problems=tuple(problems))

    def _wrong_end(self, code: int | None, said: str) -> list[str]:
        if code not in (0, 2, None):
            return [f"exit {code}: {said}"]
        lines = [line for line in said.splitlines() if line.startswith("cytolora: ")]
        if code == 2 and self.writer.is_command and len(lines) != 1:
            return [f"not one line: {said}"]
        return []

    def _wrong_state(self, work: Path, code: int | None) -> list[str]:
        try:
            state = self.writer.read(work)
        except (CytoloraError, OSError, ValueError) as error:
            return [f"cannot be read: {error}"]
        allowed = [self.after] if code == 0 else [self.before, self.after]
        if state not in [*allowed, *([None] if self.writer.is_cache else [])]:
            return [f"neither the old nor the new content, after exit {code}: {state!r:.200}"]
        return []


def _fresh(folder: Path) -> Path:
    """A copy of the old state, in which this process has swept nothing."""
    shutil.rmtree(folder / "work", ignore_errors=True)
    shutil.copytree(folder / "old", folder / "work")
    sweep_anew()
    return folder / "work"


def sweep_anew() -> None:
    """Forgets which folders this process has swept, as a new process does."""
    unfinished._swept.clear()


def _ended(work: Callable[[Path], object], folder: Path) -> tuple[int, str]:
    """Exit code and output of a command, or of what raises the errors of one."""
    with redirect_stdout(io.StringIO()) as said, redirect_stderr(said):
        try:
            work(folder)
        except SystemExit as stop:
            return (stop.code if isinstance(stop.code, int) else 0), said.getvalue()
        except (CytoloraError, OSError) as error:
            return 2, str(error)
    return 0, said.getvalue()
