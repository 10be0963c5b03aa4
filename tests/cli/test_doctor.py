"""The command `doctor` on machines where packages are missing, broken or too old."""

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from cytolora.cli import doctor as command
from cytolora.cli.app import main

INSTALL = "Install all that cytolora needs: `pip install '.'` in a clone"
CHECKED = {"python", "cpus", "packages", "disk_free_gb", "hub"}


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """What the packages import of each other is there before one of them is taken away."""
    command._packages()


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object], str]:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--offline", "--json"])
    facts = json.loads(capsys.readouterr().out)
    return int(ended.value.code or 0), facts, "\n".join(facts["problems"])


def test_no_required_package_that_is_installed_is_a_finding():
    names = [command._MODULES.get(name, name.replace("-", "_")) for name, _ in command._requirements()]
    assert len(names) > 20
    assert [name for name in names if find_spec(name) is None] == []


@pytest.mark.parametrize("name", ["torch", "numpy", "huggingface_hub"])
def test_a_missing_package_is_a_finding_and_the_rest_is_still_checked(name: str, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    code, facts, problems = doctor(capsys)
    assert code == 1
    assert f"{name} is not installed" in problems
    assert INSTALL in problems
    assert facts.keys() >= CHECKED


@pytest.mark.slow
def test_doctor_starts_where_the_large_packages_are_missing(tmp_path: Path):
    missing = ["torch", "numpy", "huggingface_hub", "matplotlib", "timm", "sklearn", "scipy"]
    program = f"""
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if (first := name.partition(".")[0]) in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{first}}", name=first)
sys.meta_path.insert(0, Finder())
from cytolora.cli.app import main
main(["doctor", "--offline", "--json"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert "Traceback" not in done.stderr, done.stderr
    facts = json.loads(done.stdout)
    problems = "\n".join(facts["problems"])
    assert done.returncode == 1
    assert [name for name in missing if f"{name} is not installed" not in problems] == []
    assert INSTALL in problems
    assert facts.keys() >= CHECKED


def test_a_broken_package_is_a_finding_with_its_error(monkeypatch, capsys):
    class Finder:
        def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
            if name.partition(".")[0] == "torch":
                raise OSError("libtorch_cpu.so: cannot open\nshared object file")

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    code, _, problems = doctor(capsys)
    assert code == 1
    assert "torch cannot be imported: OSError: libtorch_cpu.so: cannot open shared object file." in problems


@pytest.mark.parametrize(("installed", "problem"), [("1.2.3", ""), ("0.9.1", "peft 0.9.1 is older than 0.21. Install")])
def test_a_package_older_than_required_is_a_finding(installed: str, problem: str, monkeypatch, capsys):
    original = importlib.metadata.version
    monkeypatch.setattr(command, "version", lambda name: installed if name == "peft" else original(name))
    code, _, problems = doctor(capsys)
    assert (code, problems[: len(problem)]) == (1 if problem else 0, problem)
    assert bool(problems) == bool(problem)


def _opened(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What the command looked up or connected to."""
    asked: list[tuple[object, ...]] = []

    def refuse(*address: object, **_: object):
        asked.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(SystemExit):
        main(["doctor", *arguments])
    return asked


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--offline"], ["--offline", "--json"]])
def test_doctor_asks_no_network_unless_told(arguments: list[str], monkeypatch, capsys):
    assert _opened(arguments, monkeypatch) == []
    assert "not asked (--online asks it)" in capsys.readouterr().out


def test_doctor_asks_the_hub_with_online(monkeypatch, capsys):
    assert _opened(["--online", "--json"], monkeypatch)
    assert json.loads(capsys.readouterr().out)["hub"].startswith("not reachable")
