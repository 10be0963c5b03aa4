"""Request log: whole lines in order, and no request that waits for whoever reads them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from service import Colour, ask, running, written

prometheus = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

from cytolora.classifier.serve import request_log as module  # noqa: E402
from cytolora.classifier.serve.app import make_app  # noqa: E402
from cytolora.classifier.serve.request_log import RequestLog, request_log  # noqa: E402
from cytolora.errors import ConfigError  # noqa: E402

posix = pytest.mark.skipif(os.name == "nt", reason="a FIFO is a thing of POSIX")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FLUSH_SECONDS", 2.0)


def _dropped(app: Any) -> float:
    families = prometheus.text_string_to_metric_families(ask(app, "GET", "/metrics").text)
    (number,) = [
        row.value for one in families for row in one.samples if row.name == "cytolora_request_log_dropped_total"
    ]
    return number


def _until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


def _numbers(text: str) -> list[int]:
    return [json.loads(line)["number"] for line in text.splitlines()]


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe into which nothing more goes; the ends to read and to write."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    try:
        while True:
            os.write(writes, b"\n" * 4096)
    except BlockingIOError:
        os.set_blocking(writes, True)
    yield reads, writes
    os.close(reads)


@posix
def test_requests_are_answered_while_nobody_reads_the_fifo(
    model: Colour, fifo: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(module, "_MAX_WAITING", 10)
    monkeypatch.setattr(module, "_FLUSH_SECONDS", 0.1)
    log = request_log(fifo)
    app = make_app(model, log=log)
    with running(app) as url, httpx.Client(base_url=url) as client:
        for _ in range(30):
            assert client.get("/health", timeout=10).status_code == 200
        assert _dropped(app) >= 30 - 11
    told = [record.getMessage() for record in caplog.records if record.name == module.__name__]
    assert told == [
        "Lines of the request log are dropped: 10 lines wait to be written. /metrics counts them.",
        "11 lines of the request log could not be written within 0.1 s.",
    ]
    assert isinstance(log, RequestLog)
    assert log.num_dropped == 31  # with the question for /metrics: all


@posix
def test_standard_output_that_nobody_reads_holds_up_no_request(
    model: Colour, full_pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    reads, writes = full_pipe
    with os.fdopen(writes, "w") as stalled:
        monkeypatch.setattr(sys, "stdout", stalled)
        log = request_log(Path("-"))
        app = make_app(model, log=log)
        for _ in range(3):
            assert ask(app, "GET", "/health").status_code == 200
        text = b""
        while text.count(b"/health") < 3:  # once somebody reads, all come
            text += os.read(reads, 65536)
        written(log)
    assert _dropped(app) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told_once_and_counted_and_holds_up_no_request(model: Colour, caplog: pytest.LogCaptureFixture):
    log = request_log(Path("/dev/full"))
    app = make_app(model, log=log)
    for _ in range(5):
        assert ask(app, "GET", "/health").status_code == 200
    written(log)
    assert _dropped(app) == 5
    _until(lambda: bool(caplog.records))
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == "Lines of the request log are dropped: No space left on device. /metrics counts them."


@posix
def test_a_reader_that_comes_late_gets_every_line_in_order(fifo: Path):
    log = request_log(fifo)
    for number in range(50):
        log({"number": number})
    with fifo.open() as reader:
        assert [json.loads(reader.readline())["number"] for _ in range(50)] == list(range(50))
    written(log)


@posix
def test_a_reader_that_goes_and_comes_back_gets_whole_lines(fifo: Path):
    log = request_log(fifo)
    log({"number": 0})
    with fifo.open() as reader:
        assert json.loads(reader.readline())["number"] == 0
    for number in (1, 2, 3):
        log({"number": number})
    with fifo.open() as reader:
        numbers = [json.loads(reader.readline())["number"]]
        while numbers[-1] < 3:
            numbers.append(json.loads(reader.readline())["number"])
    assert numbers == sorted(numbers)
    assert isinstance(log, RequestLog)
    assert len(numbers) + log.num_dropped == 3


def test_the_end_of_the_service_waits_for_the_last_lines(model: Colour):
    lines: list[bytes] = []

    def slow(line: bytes) -> None:
        time.sleep(0.02)
        lines.append(line)

    with running(make_app(model, log=RequestLog(slow))) as url, httpx.Client(base_url=url) as client:
        for _ in range(20):
            client.get("/health")
    assert len(lines) == 20


def test_lines_are_whole_however_little_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every second write fails after some bytes, as on a disk that fills up and is cleared."""
    write, calls = os.write, iter(range(1000))

    def little(number: int, content: bytes) -> int:
        if next(calls) % 7 == 6:
            raise OSError(28, "No space left on device")
        return write(number, content[:5])

    log = request_log(tmp_path / "log")
    monkeypatch.setattr(os, "write", little)
    for number in range(40):
        log({"number": number})
    written(log)
    monkeypatch.undo()
    assert isinstance(log, RequestLog)
    whole = [line for line in (tmp_path / "log").read_text().splitlines() if line.endswith("}")]
    assert _numbers("\n".join(whole)) == sorted(_numbers("\n".join(whole)))
    assert len(whole) + log.num_dropped == 40
    assert log.num_dropped > 0
    assert len(whole) > 10


@pytest.mark.parametrize("is_renamed", [True, False])
def test_a_file_that_is_moved_or_removed_is_begun_anew(tmp_path: Path, is_renamed: bool):
    path = tmp_path / "log"
    log = request_log(path)
    log({"number": 1})
    written(log)
    if is_renamed:
        path.rename(tmp_path / "older")
    else:
        path.unlink()
    log({"number": 2})
    written(log)
    assert _numbers(path.read_text()) == [2]
    if is_renamed:
        assert _numbers((tmp_path / "older").read_text()) == [1]


def test_a_file_that_is_there_is_added_to(tmp_path: Path):
    row = {"time": "", "id": "a", "path": "/v1/predict", "status": 200, "seconds": 0.1}
    (tmp_path / "log").write_text(json.dumps({**row, "number": 1}) + "\n")
    log = request_log(tmp_path / "log")
    log({**row, "number": 2})
    written(log)
    assert _numbers((tmp_path / "log").read_text()) == [1, 2]


def test_requests_are_written_into_no_file_of_another_kind(tmp_path: Path):
    (tmp_path / "labels.csv").write_text("path,label\n")
    with pytest.raises(ConfigError, match=r"is no log of requests; .* Choose another --request-log\."):
        request_log(tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text() == "path,label\n"


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"--request-log: cannot write .*no/log: No such file or directory\."):
        request_log(tmp_path / "no" / "log")
    with pytest.raises(ConfigError, match=r"--request-log: cannot write .*: Is a directory\."):
        request_log(tmp_path)


def test_the_log_on_standard_output_is_one_line_a_request(model: Colour, capsys: pytest.CaptureFixture[str]):
    log = request_log(Path("-"))
    ask(make_app(model, log=log), "GET", "/health")
    written(log)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["path"] == "/health"


def test_a_log_that_stalls_does_not_keep_the_process_from_ending(full_pipe: tuple[int, int]):
    program = """
import time
from pathlib import Path
from cytolora.classifier.serve import request_log
request_log._FLUSH_SECONDS = 0.1
log = request_log.request_log(Path("-"))
log({"number": 1})
while not log._is_writing: time.sleep(0.001)
assert not log.flush()
"""
    with os.fdopen(full_pipe[1], "wb") as stalled:
        done = subprocess.run([sys.executable, "-c", program], stdout=stalled, stderr=subprocess.PIPE, timeout=30)
    assert done.returncode == 0, done.stderr
    assert b"1 line of the request log could not be written within 0.1 s." in done.stderr
