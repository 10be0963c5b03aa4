"""Windows and macOS, imitated by a Python without the modules and functions that they lack."""

from pathlib import Path

import pytest
from blank_pdfs import program_without_pdfs
from platforms import PLATFORMS, run_on

from cytolora.core.machine import num_cpus

GRID = ("run", "smoke", "--shots", "2", "--seeds", "1", "--learning-rates", "0.001", "0.01", "--steps", "2", "--quiet")
FILES = """
from pathlib import Path
from cytolora.core import files, folders, locks, unfinished
here = Path.cwd()
"""


def passes(platform: str, program: str, folder: Path) -> None:
    done = run_on(platform, FILES + program, cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_windows_runs_resumes_and_reports_a_grid(drawn_cells: Path, tmp_path: Path):
    data = ("--data", f"synthetic={drawn_cells}")
    commands = [(*GRID, *data), (*GRID, *data), ("report", "runs", "--out", "report", *data)]
    passes("windows", program_without_pdfs(commands), tmp_path)
    assert (tmp_path / "report" / "index.html").is_file()
    assert len([path for path in (tmp_path / "runs").iterdir() if (path / "metrics.json").is_file()]) == 4
    assert not [path for path in tmp_path.rglob(".cytolora-*") if path.name != ".cytolora-cache"]


def test_windows_writes_files_and_folders_and_replaces_them(tmp_path: Path):
    passes(
        "windows",
        """
for text in ("old", "new"):
    files.write_text(here / "a.txt", text)
    with files.staged_file(here / "b.txt") as file:
        file.write_text(text)
    with folders.staged_folder(here / "folder") as folder:
        (folder / text).write_text(text)
        (folder / text).chmod(0o444)
assert sorted(path.name for path in here.rglob("*") if path.name != ".lock") == ["a.txt", "b.txt", "folder", "new"]
assert (here / "a.txt").read_text() == (here / "b.txt").read_text() == "new"
""",
        tmp_path,
    )


def test_windows_reads_files_of_one_version_of_a_folder_that_is_replaced_between_them(tmp_path: Path):
    passes(
        "windows",
        """
def write(text):
    with folders.staged_folder(here / "run") as folder:
        for name in "ab":
            (folder / name).write_text(text)

write("old")
read, calls = Path.read_bytes, []
def interrupted(path):
    if path.name == "b" and not calls:
        calls.append(path)
        write("new")
    return read(path)
Path.read_bytes = interrupted
found, version = folders.read_together(here / "run", ["a", "b"])
assert calls and found == {"a": b"new", "b": b"new"}, found
assert version == folders.folder_version(here / "run")
for path, name in (("run", "c"), ("absent", str(here / "absent"))):
    try:
        folders.read_together(here / path, ["c"])
    except FileNotFoundError as error:
        assert error.filename == name, error.filename
    else:
        raise AssertionError(path)
""",
        tmp_path,
    )


def test_windows_waits_for_the_lock_that_another_holds(tmp_path: Path):
    passes(
        "windows",
        """
import threading, time
order = []
def second():
    with locks.locked(here / "lock"):
        order.append("second")
with locks.locked(here / "lock"):
    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(0.2)
    order.append("first")
thread.join()
assert order == ["first", "second"], order
""",
        tmp_path,
    )


def test_windows_keeps_unfinished_work_of_today_and_removes_that_of_killed_processes(tmp_path: Path):
    passes(
        "windows",
        """
for name in ("abcdef01", "abcdef02"):
    (here / f".cytolora-staging-run-{name}").mkdir()
    (here / f".cytolora-staging-run-{name}" / "half").write_text("")
for path in (here / ".cytolora-staging-run-abcdef01", here / ".cytolora-staging-run-abcdef01" / "half"):
    os.utime(path, (0, 0))
os.utime(here / ".cytolora-staging-run-abcdef02", (0, 0))
unfinished.sweep(here)
assert [path.name for path in here.iterdir()] == [".cytolora-staging-run-abcdef02"], list(here.iterdir())
""",
        tmp_path,
    )


def test_windows_replaces_a_file_as_soon_as_another_program_closes_it(tmp_path: Path):
    passes(
        "windows",
        """
import threading
files.write_text(here / "a.txt", "old")
file = (here / "a.txt").open()
threading.Timer(0.3, file.close).start()
files.write_text(here / "a.txt", "new")
assert (here / "a.txt").read_text() == "new"
""",
        tmp_path,
    )


@pytest.mark.slow
def test_a_file_that_stays_open_elsewhere_is_left_as_it_is_and_the_error_says_why(tmp_path: Path):
    passes(
        "windows",
        """
import mmap
files.write_text(here / "a.txt", "old")
with (here / "a.txt").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
    try:
        files.write_text(here / "a.txt", "new")
    except PermissionError as error:
        assert "Another program has it open" in error.strerror and error.filename == str(here / "a.txt")
    else:
        raise AssertionError
assert [path.name for path in here.iterdir()] == ["a.txt"]
assert (here / "a.txt").read_text() == "old"
""",
        tmp_path,
    )


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.slow
def test_the_cpus_of_a_ray_cluster_are_counted_where_the_system_tells_no_affinity(platform: str, tmp_path: Path):
    program = """
from cytolora.core.machine import num_cpus
from cytolora.experiments.engines import ray_driver
assert ray_driver.num_cpus is num_cpus
assert num_cpus() == os.cpu_count()
"""
    passes(platform, program, tmp_path)


def test_cpus_that_a_job_of_a_cluster_may_not_use_are_not_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {3, 5}, raising=False)
    assert num_cpus() == 2
