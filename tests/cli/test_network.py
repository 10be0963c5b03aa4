"""Network use of the commands: none, but of those whose purpose it is, and of the service on loopback."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from small_bundle import write_small_bundle

from cytolora.cli.app import app, main

_EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")
_Attempt = tuple[str, str]
_audited: list[list[_Attempt]] = []
"""Where attempts are written; the hook of an interpreter cannot be taken away, so that it looks here."""


class RefusedError(OSError):
    """What the hook answers to a connection."""


def _is_loopback(host: Any) -> bool:
    try:
        return host in (None, "", "localhost", b"localhost") or ip_address(str(host)).is_loopback
    except ValueError:
        return False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _audited or event not in _EVENTS:
        return
    address = arguments[0] if event in ("socket.getaddrinfo", "socket.gethostbyname") else arguments[1]
    if isinstance(address, str | bytes) and event.startswith("socket.connect"):
        return  # a socket of the file system
    host = address[0] if isinstance(address, tuple) else address
    if not _is_loopback(host):
        _audited[-1].append((event, str(host)))
        raise RefusedError(f"{event} {host} is refused by the test")


@contextmanager
def audited() -> Iterator[list[_Attempt]]:
    """Refuses and records every connection, and every look-up of a name, of this process beyond loopback."""
    if not getattr(sys, "_cytolora_hook", False):
        sys.addaudithook(_hook)
        sys._cytolora_hook = True  # type: ignore[attr-defined]
    attempts: list[_Attempt] = []
    _audited.append(attempts)
    try:
        yield attempts
    finally:
        _audited.remove(attempts)


Folder = Path
_ONE_RUN = ("--shots", "1", "--seeds", "1", "--learning-rates", "0.01", "--steps", "2", "--threads", "1", "--quiet")


def _run(folder: Folder) -> list[list[str]]:
    data = ("--data", f"synthetic={folder / 'cells'}")
    methods = ("--method", "linear", "lora")
    return [["run", "smoke", *methods, *_ONE_RUN, *data, "--out", str(folder / "runs")]]


OFFLINE: dict[str, Callable[[Folder], list[list[str]]]] = {
    "run": _run,
    "plan": lambda folder: [["plan", "smoke"], ["plan", "exp2", "--dataset", "synthetic", "--model", "nano"]],
    "status": lambda folder: [["status", str(folder / "runs"), "--watch"], ["status", str(folder / "runs"), "--json"]],
    "report": lambda folder: [["report", str(folder / "runs"), "--out", str(folder / "report")]],
    "compare": lambda folder: [["compare", str(folder / "runs"), "--by", "method"]],
    "ensemble": lambda folder: [["ensemble", str(folder / "runs"), "--over", "method"]],
    "merge": lambda folder: [["merge", str(folder / "runs"), "--out", str(folder / "merged")]],
    "share": lambda folder: [["share", str(folder / "runs"), "--out", str(folder / "runs.zip")]],
    "track": lambda folder: [
        ["track", str(folder / "runs"), "--to", target, "--quiet"]
        for target in (f"tensorboard:{folder / 'events'}", f"mlflow:{folder / 'mlflow'}")
    ],
    "check": lambda folder: [["check", str(folder / "cells")]],
    "leakage": lambda folder: [
        ["leakage", str(folder / "cells"), "--model", "nano", "--repeats", "1", "--head", "nearest-mean", "--quiet"]
    ],
    "split": lambda folder: [["split", str(folder / "cells"), "--out", str(folder / "split.csv")]],
    "convert": lambda folder: [
        ["convert", str(folder / "cells"), "--to", "coco", "--out", str(folder / "coco.json"), "--quiet"]
    ],
    "fit": lambda folder: [
        ["fit", str(folder / "cells"), "--model", "nano", "--steps", "2", "--quiet", "--threads", "1",
         "--out", str(folder / "fitted"), "--cache", str(folder / "cache")]
    ],
    "evaluate": lambda folder: [
        ["evaluate", str(folder / "fitted"), str(folder / "cells"), "--seen", "mark",
         "--page", str(folder / "page.html"), "--quiet"]
    ],
    "cache ls": lambda folder: [["cache", "ls", str(folder / "cache")]],
    "cache limit": lambda folder: [["cache", "limit", "1GB", str(folder / "cache")]],
    "cache clear": lambda folder: [["cache", "clear", str(folder / "cache"), "--older-than", "1d"]],
    "predict": lambda folder: [
        ["predict", str(folder / model), str(folder / "cells"), "--out", str(folder / f"{model}.csv"), "--quiet"]
        for model in ("bundle", "onnx")
    ],
    "embed": lambda folder: [
        ["embed", str(folder / "cells"), "--model", "nano", "--out", str(folder / "features.parquet"), "--quiet"]
    ],
    "learning-curve": lambda folder: [
        ["learning-curve", str(folder / "cells"), "--model", "nano", "--shots", "1", "2", "3", "4", "--seeds", "1",
         "--quiet"]
    ],
    "export": lambda folder: [
        ["export", str(folder / "bundle"), "--to", "onnx", "--out", str(folder / "onnx"), "--quiet"]
    ],
    "publish": lambda folder: [["publish", str(folder / "fitted"), "--to", str(folder / "repository")]],
    "weights list": lambda folder: [["weights", "list"]],
    "weights verify": lambda folder: [["weights", "verify", str(folder / "cells")]],
    "weights try": lambda folder: [["weights", "try", "vit-b16"]],
    "doctor": lambda folder: [["doctor", "--json"]],
    "ls": lambda folder: [["ls", kind] for kind in
                          ("models", "datasets", "grids", "presets", "methods", "engines", "formats", "trackers")],
}  # fmt: skip
"""What is tried of each command; some of them end with an error, which is as good: weights that are not there are named
and not fetched."""
ELSEWHERE = {
    "demo": "It is run, plan and report on drawn cells: test_the_demo_asks_for_no_connection.",
    "label": "It listens: test_the_labelling_page_asks_for_no_connection.",
    "serve": "It listens: test_the_service_asks_for_no_connection.",
    "data download": "Its purpose: test_what_downloads_is_seen_to_ask.",
    "weights fetch": "Its purpose: test_what_downloads_is_seen_to_ask.",
}


def commands(parent: Any = app, prefix: str = "") -> Iterator[str]:
    """Names of all commands, those of groups as `weights list`."""
    for name in parent:
        if name.startswith("-"):
            continue
        inner = [one for one in parent[name] if not one.startswith("-")]
        if inner:
            yield from commands(parent[name], f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


def code_of(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def folder(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Cells and a bundle, and what the commands before left."""
    folder = tmp_path_factory.mktemp("offline")
    shutil.copytree(drawn_cells, folder / "cells")
    write_small_bundle(folder / "bundle")
    return folder


def test_every_command_is_covered():
    assert sorted(commands()) == sorted([*OFFLINE, *ELSEWHERE])


def test_the_audit_sees_connections_look_ups_and_lets_loopback_pass():
    import socket

    with audited() as attempts, socket.create_server(("127.0.0.1", 0)) as listening:
        socket.create_connection(listening.getsockname(), timeout=5).close()
        assert attempts == []
        for ask in (
            lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
            lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("192.0.2.1", 53)),
            lambda: socket.getaddrinfo("host.invalid", 80),
            lambda: socket.gethostbyname("host.invalid"),
            lambda: socket.socket(socket.AF_INET6).connect_ex(("2001:db8::1", 80)),
        ):
            with pytest.raises(RefusedError):
                ask()
    assert [host for _, host in attempts] == ["192.0.2.1"] * 2 + ["host.invalid"] * 2 + ["2001:db8::1"]


@pytest.mark.slow
def test_no_command_asks_for_a_connection(folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    codes = {}
    with audited() as attempts:
        for name in ("export", *(name for name in OFFLINE if name != "export")):  # predict takes the export
            for arguments in OFFLINE[name](folder):
                codes[" ".join(arguments[:3])] = code_of(arguments)
                assert attempts == [], arguments
    printed = capsys.readouterr()
    works = [name for name, code in codes.items() if code in (0, 1)]
    fails = [name for name, code in codes.items() if code == 2]
    assert fails == [name for name in codes if name.startswith(("weights verify", "weights try vit-b16"))], printed.err
    assert len(works) >= len(OFFLINE) - 1


@pytest.mark.slow
def test_the_demo_asks_for_no_connection(drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On few cells, and of its runs one of each method, cut to two steps: that is all that they do again and again."""
    from cytolora.cli import experiments
    from cytolora.cli.options import AxisOptions

    shutil.copytree(drawn_cells, tmp_path / "demo" / "cells")
    one_run = AxisOptions(shots=["1"], seeds=[1], learning_rates=[0.01], steps=2)
    monkeypatch.setattr(experiments, "run", partial(experiments.run, axes=one_run))
    with audited() as attempts:
        assert code_of(["demo", "--out", str(tmp_path / "demo"), "--quiet"]) == 0
    assert attempts == []


@pytest.mark.slow
def test_the_service_asks_for_no_connection(folder: Folder):
    from service import LOCAL, form, httpx, png, running

    from cytolora.classifier.inference.classifier import Classifier
    from cytolora.classifier.serve.app import make_app

    with audited() as attempts, running(make_app(Classifier.load(folder / "bundle"))) as url:
        assert url.startswith(LOCAL)
        for _ in range(3):
            assert httpx.post(f"{url}/v1/predict", files=form(png((1, 2, 3))), timeout=60).status_code == 200
        named = [("images", ("https://192.0.2.1/cell.png", b"https://192.0.2.1/cell.png", "image/png"))]
        assert httpx.post(f"{url}/v1/predict", files=named, timeout=60).status_code == 422
    assert attempts == []


def test_the_labelling_page_asks_for_no_connection(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    from service import ask

    def answer(app: Any, *_: Any) -> None:
        assert ask(app, "GET", "/").status_code == 401  # without the token

    monkeypatch.setattr("cytolora.cli.label.run_service", answer)
    classes = ["--classes", "normal", "hsil"]
    with audited() as attempts:
        assert (
            code_of(["label", str(folder / "cells"), "--out", str(folder / "project"), *classes, "--no-browser"]) == 0
        )
    assert attempts == []


@pytest.mark.parametrize(
    "arguments",
    [["weights", "fetch", "clip-vit-b16"], ["data", "download", "bloodmnist"], ["data", "download", "hicervix"]],
)
def test_what_downloads_is_seen_to_ask(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between two tries
    with audited() as attempts:
        assert code_of([*arguments, "--to", str(tmp_path / "to")]) == 2
    assert attempts
    assert capsys.readouterr().err.count("\n") >= 1
