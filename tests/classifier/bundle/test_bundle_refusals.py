"""Bundles that are damaged, incomplete or made to do harm: each is refused by name when it is opened."""

import io
import pickle
import random
import shutil
import sys
import zipfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from small_bundle import CLASSES, mutated, rewrite, write_small_bundle

from cytolora.classifier.bundle.files import CARD, CONTENTS
from cytolora.classifier.inference.classifier import Classifier
from cytolora.errors import BundleError


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("bundle") / "model")


@pytest.fixture
def copied(linear, tmp_path) -> Path:
    return Path(shutil.copytree(linear, tmp_path / "model"))


@pytest.mark.parametrize("file", ["head.safetensors", "unfamiliar.safetensors", "seen.json"])
def test_a_changed_byte_is_refused_by_name(copied, file):
    content = bytearray((copied / file).read_bytes())
    content[-1] ^= 1
    (copied / file).write_bytes(content)
    with pytest.raises(BundleError, match=f"{file} is not as it was written"):
        Classifier.load(copied)


def test_a_missing_and_a_foreign_file_are_refused_by_name(copied):
    (copied / "run.py").write_text("import os")
    with pytest.raises(BundleError, match=r"run\.py is no part of this bundle"):
        Classifier.load(copied)
    (copied / "run.py").unlink()
    (copied / "seen.json").unlink()
    with pytest.raises(BundleError, match=r"seen\.json is missing"):
        Classifier.load(copied)


CHANGES = {
    "unknown key 'colour'": lambda plain: plain.update(colour="red"),
    "unknown key 'backbone.spec.code'": lambda plain: plain["backbone"]["spec"].update(code="import os"),
    "no plain name of a timm architecture": lambda plain: plain["backbone"]["spec"].update(architecture="hf-hub:a/b"),
    "argument 'checkpoint_path' might load": lambda plain: plain["backbone"]["spec"]["arguments"].update(
        checkpoint_path="evil.pth"
    ),
    "classes is missing": lambda plain: plain.pop("classes"),
    "classes are two or more different names": lambda plain: plain.update(classes=["hsil", "hsil"]),
    "the head does not fit 5 classes .* it has 4": lambda plain: plain.update(classes=[*CLASSES, "scc"]),
    "class 'nilm', which it was measured on, is missing": lambda plain: plain.update(
        classes=["ascus", "hsil", "lsil"], metrics={"test": {"classes": [{"label": label} for label in CLASSES]}}
    ),
    "temperature": lambda plain: plain.update(temperature=-1),
    "format 2": lambda plain: plain.update(format=2),
    r"\.\./secret is missing": lambda plain: plain["files"].update({"../secret": "0" * 64}),
}


@pytest.mark.parametrize("message", CHANGES)
def test_contents_that_do_not_hold_together_are_refused_by_name(copied, message):
    rewrite(copied, CHANGES[message])
    with pytest.raises(BundleError, match=message):
        Classifier.load(copied)


@pytest.mark.parametrize("number", ["1e906", "-1e906", "NaN", "Infinity"])
def test_a_number_that_no_float_holds_is_refused(copied, number):
    """One changed byte makes 1e906 of 1e-06."""
    content = (copied / CONTENTS).read_text()
    (copied / CONTENTS).write_text(content.replace('"temperature": 1.5', f'"temperature": {number}'))
    with pytest.raises(BundleError, match=r"bundle\.json is not as it was written"):
        Classifier.load(copied)


@pytest.mark.parametrize("depth", [200, 450, 600, 900])
def test_a_description_nested_too_deeply_is_refused(copied, depth):
    nested: list = []
    for _ in range(depth):
        nested = [nested]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    rewrite(copied, lambda plain: plain["training"].update(x=nested))
    sys.setrecursionlimit(limit)
    with suppress(BundleError):  # how deep is too deep is Python's own affair
        Classifier.load(copied)
    (copied / CONTENTS).write_text("[" * 100_000)
    with pytest.raises(BundleError, match=r"bundle\.json is not as it was written \(it is nested too deeply\)"):
        Classifier.load(copied)


@pytest.mark.parametrize("name", ["head.safetensors", "seen.json", "unfamiliar.safetensors"])
def test_a_file_that_was_taken_off_the_list_as_well_is_missed_by_name(copied, name):
    rewrite(copied, lambda plain: plain["files"].pop(name))
    (copied / name).unlink()
    with pytest.raises(BundleError, match=name):
        Classifier.load(copied)


def test_an_adapter_that_was_taken_off_the_list_as_well_is_missed_by_name(tmp_path):
    folder = write_small_bundle(tmp_path / "model", "lora")
    rewrite(folder, lambda plain: [plain["files"].pop(name) for name in list(plain["files"]) if "adapter" in name])
    shutil.rmtree(folder / "adapter")
    with pytest.raises(BundleError, match=r"adapter_model\.safetensors is missing"):
        Classifier.load(folder)


class _Evil:
    """Leaves a file where whoever unpickles it stands."""

    def __reduce__(self):
        return Path.touch, (Path("code was run"),)


@pytest.mark.parametrize("name", ["seen.json", "head.safetensors", "unfamiliar.safetensors"])
@pytest.mark.parametrize("content", [b"[1]", pickle.dumps(_Evil())])
def test_a_file_of_another_kind_is_refused_by_name_though_its_hash_fits(copied, name, content, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (copied / name).write_bytes(content)
    rewrite(copied, lambda plain: plain["files"].update({name: sha256(content).hexdigest()}))
    with pytest.raises(BundleError, match=name):
        Classifier.load(copied)
    assert not Path("code was run").exists()


def test_links_and_entries_that_leave_the_bundle_are_refused(copied, tmp_path):
    (copied / "head.safetensors").unlink()
    (copied / "head.safetensors").symlink_to("/etc/hostname")
    with pytest.raises(BundleError, match=r"head\.safetensors is a symbolic link"):
        Classifier.load(copied)
    for number, name in enumerate(("../bundle.json", "/bundle.json", "a/../../b", "C:/x")):
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as packed:
            packed.writestr(name, "{}")
        with pytest.raises(BundleError, match="leaves the bundle"):
            Classifier.load(tmp_path / f"{number}.zip")


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        Classifier.load(tmp_path / "nothing")
    with pytest.raises(BundleError, match=r"it has no bundle\.json"):
        Classifier.load(tmp_path)
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(BundleError, match="no zip file of a bundle"):
        Classifier.load(tmp_path / "a.zip")


_RUNS = ("exec", "compile", "import", "pickle.find_class", "marshal.loads", "subprocess.Popen", "os.system", "os.exec")
"""What Python tells its audit hooks before code of a file could run (docs.python.org/3/library/audit_events.html)."""


class Watch:
    """Notes what would run code while it is looked at; a hook cannot be taken away, so there is one."""

    def __init__(self) -> None:
        self.is_on, self.seen = False, []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple) -> None:
        if self.is_on and event in _RUNS:
            self.seen.append((event, arguments))


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


def test_200_mutated_bundles_are_200_refusals_and_no_code_runs(tmp_path, watch: Watch):
    moment = random.Random(0)
    source = write_small_bundle(tmp_path / "source", "lora")
    names = sorted(p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file() and p.name != CARD)
    copied = Path(shutil.copytree(source, tmp_path / "copied"))
    Classifier.load(copied)  # imports what is imported late
    watch.seen.clear()
    refused = []
    for number in range(200):
        file = names[number % len(names)]
        whole = (source / file).read_bytes()
        (copied / file).write_bytes(mutated(whole, moment))
        watch.is_on = True
        try:
            Classifier.load(copied)
        except BundleError as error:
            refused.append(file in str(error))
        finally:
            watch.is_on = False
        (copied / file).write_bytes(whole)
    assert refused == [True] * 200
    assert watch.seen == []
    assert Classifier.load(copied).classes == CLASSES


def test_what_would_run_code_is_seen(watch: Watch):
    watch.seen.clear()
    watch.is_on = True
    pickle.loads(pickle.dumps(Path("a")))
    watch.is_on = False
    assert "pickle.find_class" in [event for event, _ in watch.seen]


def test_mutated_zips_are_refused_or_unchanged_inside(tmp_path):
    moment, whole = random.Random(0), write_small_bundle(tmp_path / "model.zip").read_bytes()
    for _ in range(100):
        changed = tmp_path / "changed.zip"
        changed.write_bytes(mutated(whole, moment))
        try:
            found = Classifier.load(changed)
        except BundleError:
            continue
        with zipfile.ZipFile(io.BytesIO(whole)) as packed:
            assert all(packed.read(name) == content for name, content in found.files.items())
