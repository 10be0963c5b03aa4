"""`weights try` as a user calls it."""

import getpass
import json
import platform
import re
import sys
from pathlib import Path

import pytest

from cytolora.cli.app import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["weights", "try", *arguments])
    return int(ended.value.code or 0)


@pytest.mark.slow
def test_a_trial_passes_without_the_onnx_extra_and_its_result_names_no_user_or_folder(
    tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # its export takes longest
    out = tmp_path / "Jane Doe" / "nano.json"
    assert run("nano", "--steps", "2", "--device", "cpu", "--out", str(out), "--quiet") == 0
    printed = capsys.readouterr().out
    assert re.search(r"features\s+passed", printed)
    assert "nano: nothing failed." in printed
    text = out.read_text(encoding="utf-8")
    found = json.loads(text)
    parts = {part["name"]: part for part in found["parts"]}
    passed = ["loading", "features", "LoRA fp32", "LoRA bf16", "bundle", "speed"]
    assert [name for name, part in parts.items() if part["verdict"] == "passed"] == passed
    assert "Install the extra `onnx`" in parts["ONNX export"]["text"]
    assert (found["model"], found["verdict"], found["format"]) == ("nano", "passed", 1)
    assert re.fullmatch("[0-9a-f]{64}", found["weights"]["sha256"])
    assert {"python", "torch", "timm", "peft", "cytolora", "transformers"} <= found["versions"].keys()
    assert found["machine"]["processor"]
    assert str(tmp_path) not in text
    assert str(Path.home()) not in text
    for name in {getpass.getuser(), platform.node()}:
        assert not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)
    assert not re.search(r"(?<![\w./:])(/[\w.-]+){2,}", text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nano", "--steps", "0"], "at least 1, got 0"),
        (["nonesuch"], "Unknown model 'nonesuch'"),
        (["nano", "--weights", "no/such.bin"], " no/such.bin"),
        (["nano", "--weights", "nano=no/such.bin"], " no/such.bin"),
        (["nano", "--data", "herlev"], "--data expects NAME=PATH"),
        (["nano", "--data", "herlev=no/such"], "no/such"),
        (["nano", "--out", "."], ". is a folder, expected the name of a file"),
    ],
)
def test_a_mistake_is_told_before_anything_is_tried(arguments: list[str], message: str, capsys):
    assert run(*arguments, "--quiet") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_failed_part_ends_with_exit_code_1_and_its_name(tmp_path: Path, capsys):
    from safetensors.torch import load_file, save_file

    from cytolora.models.backbones.registry import NANO

    assert NANO.weights is not None
    state = load_file(NANO.weights)
    del state["norm.weight"]
    save_file(state, tmp_path / "cut.safetensors")
    assert run("nano", "--weights", str(tmp_path / "cut.safetensors"), "--quiet") == 1
    printed = capsys.readouterr().out
    assert "nano: failed: loading." in printed
    assert "norm.weight" in printed
