"""The command: which interface it opens, and how it stops."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from service import LOCAL, form, png

from cytolora.classifier.inference.classifier import Classifier
from cytolora.cli.app import main

httpx = pytest.importorskip("httpx", reason="httpx is not installed")


def test_other_interfaces_than_loopback_need_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "short").write_text("secret\n")
    for options, words in (
        (["--host", "0.0.0.0"], "--token-file FILE; or stay on 127.0.0.1"),
        (["--host", "192.168.1.5"], "can be reached from other machines"),
        (["--host", "0.0.0.0", "--token-file", str(tmp_path / "short")], "at least 16 characters"),
        (["--token-file", str(tmp_path / "none")], "No such file"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["serve", str(tmp_path / "model"), *options])
        assert stopped.value.code == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1


def test_a_port_that_is_taken_is_said_in_one_line(
    onnx_export: tuple[Classifier, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)  # of this process, which goes on
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(SystemExit) as stopped:
            main(["serve", str(onnx_export[1]), "--port", str(other.getsockname()[1])])
    assert stopped.value.code == 2
    assert "Choose another --port" in capsys.readouterr().err


def test_ctrl_c_stops_the_service_without_an_error(onnx_export: tuple[Classifier, Path]):
    starts = "import sys; from cytolora.cli.app import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", starts, "serve", str(onnx_export[1]), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert process.stderr is not None
        url = process.stderr.readline().partition(" on ")[2].partition(" ")[0]
        assert httpx.get(f"{url}/ready", timeout=30).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()


@pytest.mark.slow
def test_sixty_requests_in_flight_at_sigterm_get_sixty_answers(onnx_export: tuple[Classifier, Path]):
    """The command itself, on a port of its own: the batch waits for more than will come, and is told to stop."""
    starts = "import sys; from cytolora.cli.app import main; main(sys.argv[1:])"
    options = ["--port", "0", "--max-batch", "100", "--max-wait-ms", "2000"]
    command = [sys.executable, "-c", starts, "serve", str(onnx_export[1]), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        url = said.partition(" on ")[2].partition(" ")[0]
        assert url.startswith(LOCAL), said

        def post(number: int) -> int:
            return httpx.post(f"{url}/v1/predict", files=form(png((number, 0, 0))), timeout=60).status_code

        with ThreadPoolExecutor(60) as clients:
            answers = [clients.submit(post, number) for number in range(60)]
            until = time.monotonic() + 30
            while httpx.get(f"{url}/ready", timeout=30).json()["pending"] < 60 and time.monotonic() < until:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert [answer.result() for answer in answers] == [200] * 60
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
