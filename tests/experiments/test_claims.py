"""Claims of work in a store: one owner at a time, whoever dies, whatever clocks say."""

import json
import os
import random
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cytolora.core.progress import SILENT, Progress
from cytolora.errors import StoreError
from cytolora.experiments import claims
from cytolora.experiments.claim_owner import Owner
from cytolora.experiments.claims import ClaimedError, claimed, living, sweep, wait_for_any

posix = pytest.mark.skipif(os.name == "nt", reason="forks")


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".claims").iterdir())


def written(root: Path, name: str, *, age: float = 0.0, generation: int = 0, **owner: Any) -> Path:
    """A claim of a process of another machine, touched ``age`` seconds ago."""
    (root / ".claims").mkdir(exist_ok=True)
    path = root / ".claims" / f"{claims._stem(name)}.{generation}.json"
    another = replace(Owner.this_process(), machine="elsewhere", host="node7", user="ann", pid=12, **owner)
    path.write_text(json.dumps({"version": 1, "name": name, "runs": ["r1", "r2"], **another.plain()}))
    os.utime(path, (then := time.time() - age, then))
    return path


def forked(work: Callable[[], object]) -> int:
    """Starts a process that does ``work`` and ends with 0, or 1 for any error."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_owner(root: Path, name: str) -> None:
    """Leaves the claim of a process that was killed, whose parent has not asked for it yet."""
    reading, writing = os.pipe()

    def hold() -> None:
        with claimed(root, name):
            os.write(writing, b"x")
            time.sleep(60)

    pid = forked(hold)
    os.read(reading, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_second_one_is_told_by_whom_it_is_claimed_and_the_end_leaves_nothing(tmp_path: Path):
    with claimed(tmp_path, "run 1", ["run 1"]):
        with pytest.raises(ClaimedError, match=rf"run 1, claimed by .* on .*, process {os.getpid()}$"):
            claimed(tmp_path, "run 1").__enter__()
        with claimed(tmp_path, "run 2"):
            assert [claim.name for claim, _ in living(tmp_path)] == ["run 1", "run 2"]
    assert files(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_whatever_ends_the_work_removes_its_claim(tmp_path: Path, error: type[BaseException]):
    with pytest.raises(error), claimed(tmp_path, "run"):
        raise error
    assert files(tmp_path) == []


@posix
def test_the_claim_of_a_killed_process_of_this_machine_is_taken_at_once(tmp_path: Path):
    killed_owner(tmp_path, "run")
    assert len(files(tmp_path)) == 1
    with claimed(tmp_path, "run"):
        assert len(files(tmp_path)) == 1
    assert files(tmp_path) == []


@posix
def test_a_number_that_another_process_has_now_is_no_owner(tmp_path: Path):
    path = written(tmp_path, "run")
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, **replace(Owner.this_process(), started="1").plain()}))
    with claimed(tmp_path, "run"):
        pass


@pytest.mark.parametrize(("age", "is_free"), [(0, False), (60, False), (-3600, False), (130, True), (1e6, True)])
def test_the_claim_of_another_machine_dies_by_the_file_systems_time(
    tmp_path: Path, age: float, is_free: bool, monkeypatch: pytest.MonkeyPatch
):
    written(tmp_path, "run", age=age)
    monkeypatch.setattr(time, "time", lambda: 12.0)  # the clock of this machine is wrong, and asked by nobody
    monkeypatch.setattr(time, "time_ns", lambda: 12)
    if is_free:
        with claimed(tmp_path, "run"):
            pass
    else:
        with pytest.raises(ClaimedError, match="ann on node7, process 12"):
            claimed(tmp_path, "run").__enter__()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}', b'{"version": 1, "pid": true}', b"\xff"])
def test_a_claim_without_an_owner_is_held_until_it_is_old(tmp_path: Path, content: bytes):
    path = written(tmp_path, "run")
    path.write_bytes(content)
    with pytest.raises(ClaimedError, match="a process that left no name"):
        claimed(tmp_path, "run").__enter__()
    sweep(tmp_path)
    assert path.exists()
    os.utime(path, (then := time.time() - 200, then))
    sweep(tmp_path)
    assert files(tmp_path) == []


def test_the_claim_of_a_newer_version_is_refused_in_one_line(tmp_path: Path):
    path = written(tmp_path, "run", age=1000)
    path.write_text('{"version": 2, "what": "nobody knows"}')
    with pytest.raises(StoreError, match=r"newer cytolora \(claims of version 2, this one reads 1\).*remove the file"):
        claimed(tmp_path, "run").__enter__()
    assert path.exists()


@pytest.mark.parametrize("number", ["EPERM", "EOPNOTSUPP", "ENOSYS", "EINVAL"])
def test_a_file_system_without_hard_links_takes_claims_too(
    tmp_path: Path, number: str, monkeypatch: pytest.MonkeyPatch
):
    import errno

    def refuse(*paths: Any) -> None:
        raise OSError(getattr(errno, number), "no hard links")

    monkeypatch.setattr(os, "link", refuse)
    with claimed(tmp_path, "run"):
        with pytest.raises(ClaimedError, match=f"process {os.getpid()}"):
            claimed(tmp_path, "run").__enter__()
        assert len(files(tmp_path)) == 1
    assert files(tmp_path) == []


@posix
def test_a_link_whose_answer_was_lost_is_a_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    link = os.link

    def lost(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError

    monkeypatch.setattr(os, "link", lost)
    with claimed(tmp_path, "run"):
        monkeypatch.undo()
        with pytest.raises(ClaimedError):
            claimed(tmp_path, "run").__enter__()
    assert files(tmp_path) == []


def test_a_store_that_may_not_be_written_is_one_line(tmp_path: Path):
    (tmp_path / ".claims").write_text("a file in the way")
    with pytest.raises(StoreError, match=r"a file is in the way\. Choose another --out"):
        claimed(tmp_path, "run").__enter__()


def test_an_owner_touches_its_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claims, "_BEAT_SECONDS", 0.01)
    with claimed(tmp_path, "run"):
        (path,) = (tmp_path / ".claims").iterdir()
        os.utime(path, (0, 0))
        until = time.monotonic() + 30
        while path.stat().st_mtime < 1e6 and time.monotonic() < until:
            time.sleep(0.01)
        assert path.stat().st_mtime > 1e6


def test_an_owner_that_was_suspended_neither_touches_nor_removes_what_another_one_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(claims, "_BEAT_SECONDS", 0.01)
    with claimed(tmp_path, "run"):
        for path in (tmp_path / ".claims").iterdir():
            path.unlink()
        other = written(tmp_path, "run", age=50)
        before = other.stat().st_mtime_ns
        time.sleep(0.1)
        assert other.stat().st_mtime_ns == before
    assert other.exists()


def test_a_higher_generation_counts_and_lower_ones_go(tmp_path: Path):
    for generation in range(3):
        written(tmp_path, "run", age=0 if generation == 2 else 500, generation=generation)
    with pytest.raises(ClaimedError):
        claimed(tmp_path, "run").__enter__()
    os.utime(tmp_path / ".claims" / f"{claims._stem('run')}.2.json", (1, 1))
    with claimed(tmp_path, "run"):
        assert files(tmp_path) == [f"{claims._stem('run')}.3.json"]


def test_a_taker_that_was_killed_before_it_withdrew_takes_nothing_from_the_owner_below_it(tmp_path: Path):
    with claimed(tmp_path, "run 1"):
        (claim,) = files(tmp_path)
        dead = tmp_path / ".claims" / claim.replace(".0.json", ".1.json")
        written(tmp_path, "run 1", age=1_000, generation=1)
        assert dead.exists()
        with pytest.raises(ClaimedError, match=f"process {os.getpid()}$"):
            claimed(tmp_path, "run 1").__enter__()
        sweep(tmp_path)
        assert [claim.path.name for claim, _ in living(tmp_path)] == [claim]
    with claimed(tmp_path, "run 1"):
        assert not dead.exists()
    assert files(tmp_path) == []


@pytest.mark.parametrize("at", ["higher", "lower"])
def test_a_slow_taker_withdraws_from_what_others_did_meanwhile(
    tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch
):
    """It found generation 0 dead; until it links generation 1, that was made and removed, and more was claimed."""
    dead = written(tmp_path, "run", age=500)
    make, calls = claims._make, iter(range(10))

    def slow(*arguments: Any) -> Any:
        if next(calls) == 0:
            dead.unlink()
            written(tmp_path, "run", generation=2 if at == "higher" else 0)
        return make(*arguments)

    monkeypatch.setattr(claims, "_make", slow)
    with pytest.raises(ClaimedError, match="ann on node7"):
        claimed(tmp_path, "run").__enter__()
    assert files(tmp_path) == [f"{claims._stem('run')}.{2 if at == 'higher' else 0}.json"]


def test_sweeping_removes_dead_claims_and_no_others(tmp_path: Path):
    written(tmp_path, "old", age=500)
    young = written(tmp_path, "young", age=5)
    with claimed(tmp_path, "mine"):
        sweep(tmp_path)
        assert [claim.name for claim, _ in living(tmp_path)] == ["mine", "young"]
        assert not [name for name in files(tmp_path) if name.startswith("old")]
    assert files(tmp_path) == [young.name]
    sweep(tmp_path / "nowhere")
    assert living(tmp_path / "nowhere") == []


def test_waiting_ends_when_the_claim_does_and_says_for_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claims, "_LOOK_SECONDS", 0.01)
    path, said = written(tmp_path, "run"), list[str]()
    with pytest.raises(ClaimedError) as error:
        claimed(tmp_path, "run").__enter__()
    timer = threading.Timer(0.1, path.unlink)
    timer.start()
    wait_for_any(tmp_path, replace(SILENT, say=said.append), [error.value])
    assert not path.exists()
    assert said == ["waiting for what other commands compute: run, claimed by ann on node7, process 12"]
    wait_for_any(tmp_path, Progress(), [error.value])


def test_names_of_any_length_and_signs_are_files(tmp_path: Path):
    names = ["x" * 400, "x" * 401, "ä" * 200, "a b", "Run", "run", "x.1.json", "x"]
    for index, name in enumerate(names):
        with claimed(tmp_path, name):
            assert len(files(tmp_path)) == 1, index
    assert len({claims._stem(name).casefold() for name in names}) == len(names)


@posix
@pytest.mark.slow
def test_of_eight_takers_of_a_dead_claim_one_wins(tmp_path: Path):
    for turn in range(3):
        written(tmp_path, "run", age=500, generation=turn)
        (start, started), (end, ending) = os.pipe(), os.pipe()

        def take(start: int = start, started: int = started, end: int = end, ending: int = ending) -> None:
            os.close(started)
            os.close(ending)
            os.read(start, 1)  # until all are there
            try:
                with claimed(tmp_path, "run"):
                    select.select([end], [], [], 20)  # until all others have failed
            except ClaimedError:
                os._exit(7)

        pids = {forked(take) for _ in range(8)}
        os.close(started)
        codes = []
        for number in range(8):
            if number == 7:
                os.close(ending)
            pid, status = os.wait()
            pids.remove(pid)
            codes.append(os.waitstatus_to_exitcode(status))
        assert codes == [7] * 7 + [0]
        assert files(tmp_path) == []
        os.close(start)
        os.close(end)


@posix
@pytest.mark.slow
def test_no_two_processes_are_in_one_claim_while_others_are_killed(tmp_path: Path):
    """Eight processes claim three names again and again, until 30 of them were killed at random."""
    end = tmp_path / "end"

    def work(seed: int) -> None:
        chance = random.Random(seed)
        while not end.exists():
            name = f"run {chance.randrange(3)}"
            inside = tmp_path / name
            try:
                with claimed(tmp_path, name):
                    if inside.exists() and (there := inside.read_text()) and _started(int(there)) != "ended":
                        (tmp_path / "two").write_text(f"{there} and {os.getpid()} in {name}")
                    inside.write_text(str(os.getpid()))
                    time.sleep(chance.random() / 100)
                    inside.unlink()
            except ClaimedError:
                time.sleep(chance.random() / 300)

    chance, pids = random.Random(0), [forked(lambda seed=seed: work(seed)) for seed in range(8)]
    for num_killed in range(30):
        time.sleep(0.1)
        victim = pids.pop(chance.randrange(len(pids)))
        os.kill(victim, signal.SIGKILL)
        assert ended(victim) == -signal.SIGKILL
        pids.append(forked(lambda seed=num_killed + 100: work(seed)))
    end.touch()
    assert [ended(pid) for pid in pids] == [0] * 8
    assert not (tmp_path / "two").exists(), (tmp_path / "two").read_text()
    sweep(tmp_path)
    assert [name for name in files(tmp_path) if not name.startswith(".")] == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts processes of Linux")
def test_a_process_that_only_its_parent_remembers_is_gone(tmp_path: Path):
    reading, writing = os.pipe()
    owner: list[Owner] = []
    pid = forked(lambda: os.read(reading, 1))
    owner.append(replace(Owner.this_process(), pid=pid, started=_started(pid)))
    assert not owner[0].is_gone()
    os.write(writing, b"x")
    until = time.monotonic() + 30
    while not owner[0].is_gone() and time.monotonic() < until:
        time.sleep(0.01)
    assert owner[0].is_gone()
    ended(pid)


def _started(pid: int) -> str:
    from cytolora.experiments.claim_owner import _started as started

    return started(pid) or "ended"


@pytest.mark.parametrize("name", ["features_hicervix:level 1/x", "细胞" * 60, 'a"<b>|c?*\\\n'])
def test_a_claim_may_have_any_name_that_a_dataset_has(name: str, tmp_path: Path):
    with claimed(tmp_path, name, ["r1"]):
        assert [claim.name for claim, _ in living(tmp_path)] == [name]
        (file,) = files(tmp_path)
        assert not set(file) & set('<>:"/\\|?*\n')
        assert len(os.fsencode(file)) < 140
    assert files(tmp_path) == []
