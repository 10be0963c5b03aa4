"""The command `doctor` on machines where packages are missing, broken or too old."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = """
import importlib.metadata, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise {error}
sys.meta_path.insert(0, Finder())
"""
MAIN = "from cytolora.cli.app import main; main(['doctor', '--offline', '--json'])"


def doctor(preamble: str, folder: Path) -> tuple[int, dict[str, object], str]:
    done = subprocess.run(
        [sys.executable, "-c", preamble + MAIN], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert "Traceback" not in done.stderr, done.stderr
    facts = json.loads(done.stdout)
    return done.returncode, facts, "\n".join(facts["problems"])


@pytest.mark.parametrize("name", ["torch", "numpy", "huggingface_hub"])
def test_a_missing_package_is_a_finding_and_the_rest_is_still_checked(name: str, tmp_path: Path):
    error = f"ModuleNotFoundError('No module named {name}', name='{name}')"
    code, facts, problems = doctor(BLOCK.format(name=name, error=error), tmp_path)
    assert code == 1
    assert f"{name} is not installed" in problems
    assert "Install all that cytolora needs: `pip install '.'` in a clone" in problems
    assert {"python", "cpus", "packages", "disk_free_gb", "hub"} <= facts.keys()


def test_a_broken_package_is_a_finding_with_its_error(tmp_path: Path):
    error = "OSError('libtorch_cpu.so: cannot open\\nshared object file')"
    code, _, problems = doctor(BLOCK.format(name="torch", error=error), tmp_path)
    assert code == 1
    assert "torch cannot be imported: OSError: libtorch_cpu.so: cannot open shared object file." in problems


@pytest.mark.parametrize(("installed", "problem"), [("1.2.3", ""), ("0.9.1", "peft 0.9.1 is older than 0.21. Install")])
@pytest.mark.slow
def test_a_package_older_than_required_is_a_finding(installed: str, problem: str, tmp_path: Path):
    preamble = f"""
import importlib.metadata
original = importlib.metadata.version
importlib.metadata.version = lambda name: {installed!r} if name == "peft" else original(name)
"""
    code, _, problems = doctor(preamble, tmp_path)
    assert (code, problems[: len(problem)]) == (1 if problem else 0, problem)
    assert bool(problems) == bool(problem)
