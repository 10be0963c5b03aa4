"""Names, built-in and of plug-ins, also of plug-ins that cannot be loaded."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cytolora.cli.app import main
from cytolora.core.registry import Registry
from cytolora.errors import ConfigError, unknown_name
from cytolora.models.backbones.registry import BACKBONES


@dataclass(frozen=True)
class Thing:
    name: str


def install(folder: Path, package: str, code: str, entry: str, *, kind: str = "thing") -> None:
    """Puts a package with one plug-in into a folder, as pip would."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[cytolora.{kind}s]\nmine = {entry}\n")
    (folder / f"{package}.py").write_text(code)


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for package in ("good_things", "broken_things", "broken_models"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    return tmp_path / "site"


@pytest.fixture
def things() -> Registry[Thing]:
    registry: Registry[Thing] = Registry("thing")
    registry.add(Thing("lamp"))
    return registry


BROKEN = "import a_package_that_is_absent"
MESSAGE = (
    "The plug-in thing 'mine' of package broken_things cannot be loaded (ModuleNotFoundError: No module named "
    "'a_package_that_is_absent'). Update or uninstall the package."
)


def test_a_plug_in_is_found_by_its_name(plugins: Path, things: Registry[Thing]):
    code = "import types\nentry = types.SimpleNamespace(name='chair')"
    install(plugins, "good_things", code, "good_things:entry")
    assert [entry.name for entry in things] == ["chair", "lamp"]
    assert things.get("chair").name == "chair"
    assert things.problems() == ()


def test_a_broken_plug_in_is_told_with_every_unknown_name_and_hides_no_built_in(plugins: Path, things: Registry[Thing]):
    install(plugins, "broken_things", BROKEN, "broken_things:entry")
    assert things.get("lamp").name == "lamp"
    assert [entry.name for entry in things] == ["lamp"]
    for _ in range(2):
        with pytest.raises(ConfigError) as raised:
            things.get("mine")
        assert str(raised.value) == f"Unknown thing 'mine'. Known: lamp. {MESSAGE}"
        assert things.problems() == (MESSAGE,)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("entry = object()", "AttributeError: 'object' object has no attribute 'name'"),
        ("", "AttributeError: module 'broken_things' has no attribute 'entry'"),
        ("import types\nentry = types.SimpleNamespace(name='lamp')", "A thing named 'lamp' exists already"),
        ("import types\nentry = types.SimpleNamespace(name='a/b')", "A thing cannot be named 'a/b'"),
    ],
)
def test_every_kind_of_broken_plug_in_is_one_line(code: str, why: str, plugins: Path, things: Registry[Thing]):
    install(plugins, "broken_things", code, "broken_things:entry")
    (problem,) = things.problems()
    assert "package broken_things" in problem
    assert why in problem
    assert "\n" not in problem
    assert things.get("lamp").name == "lamp"


def test_a_name_that_is_taken_is_refused_also_in_another_case(things: Registry[Thing]):
    for name in ("lamp", "Lamp"):
        with pytest.raises(ConfigError, match="A thing named 'lamp' exists already"):
            things.add(Thing(name))
    assert [entry.name for entry in things] == ["lamp"]


@pytest.mark.parametrize("name", ["", "a:b", "a/b", "a\\b", "a?", "CON", "nul.txt", "a.", "a ", ".a", "a\nb"])
def test_a_name_that_is_no_file_name_on_every_platform_is_refused(name: str, things: Registry[Thing]):
    with pytest.raises(ConfigError, match=r"cannot be named .* Use letters, digits"):
        things.add(Thing(name))


@pytest.mark.parametrize(
    "command", [["ls", "models"], ["ls", "models", "--json"], ["weights", "list"], ["doctor", "--offline"]]
)
def test_a_broken_plug_in_is_a_problem_of_ls_and_doctor(
    command: list[str], plugins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    install(plugins, "broken_models", BROKEN, "broken_models:entry", kind="model")
    monkeypatch.setattr(BACKBONES, "_plugins_loaded", False)
    monkeypatch.setattr(BACKBONES, "_problems", [])
    for _ in range(2):
        with pytest.raises(SystemExit) as stop:
            main(command)
        printed = capsys.readouterr()
        assert stop.value.code == 1
        assert (printed.out + printed.err).count("! The plug-in model 'mine' of package broken_models cannot") == 1
        assert "Traceback" not in printed.err
        assert "nano" in printed.out
        if "--json" in command:
            assert json.loads(printed.out)


@pytest.mark.parametrize(
    ("typed", "meant"), [("HSIL", "HSIL-CIN2"), ("hsil", "HSIL-CIN2"), ("LSIK", "LSIL"), ("lora", "lora")]
)
def test_a_suggestion_begins_as_typed_where_one_does(typed: str, meant: str):
    error = unknown_name("class", typed, ["LSIL", "HSIL-CIN2", "HSIL-CIN2-3", "lora"])
    assert f"Did you mean {meant!r}?" in str(error)
