"""Start-up: no command loads a library that it does not use."""

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from loaded_modules import Loaded, loaded_by
from small_bundle import write_small_bundle

COMPILER = frozenset({"torch._dynamo", "torch._inductor", "sympy"})
"""A second of processor time and 160 MiB, which torchvision and timm ask for by themselves."""
ADAPTERS = frozenset({"peft", "transformers", "accelerate"})
ELSEWHERE = frozenset({"open_clip", "onnx", "onnxruntime", "ray", "fastapi", "uvicorn", "pooch", "requests"})
PANDAS = frozenset({"pandas"})
"""Which scikit-learn and pyarrow load by themselves where it is installed."""
STATISTICS = frozenset({"scipy", "scipy.stats", "sklearn"})
DRAWING = frozenset({"matplotlib", "fontTools"})
TABLES = frozenset({"pyarrow"})
PAGES = frozenset({"jinja2"})
NO_TORCH = frozenset({"torch", "torchvision", "timm", "huggingface_hub"}) | COMPILER | ADAPTERS
NO_NUMBERS = (
    NO_TORCH | ELSEWHERE | STATISTICS | DRAWING | TABLES | PAGES | PANDAS | {"numpy", "PIL", "imagehash", "jaxtyping"}
)

LISTS: dict[str, frozenset[str]] = dict.fromkeys(("--help", "ls models", "plan smoke"), NO_NUMBERS)
MORE_LISTS = dict.fromkeys(("fit --help", "ls datasets", "ls grids", "ls methods"), NO_NUMBERS)
ON_IMAGES = {
    "check cells": NO_TORCH | ELSEWHERE | DRAWING | TABLES | PAGES | {"scipy.stats", "sklearn"},
    "split cells --out split.csv": NO_TORCH | ELSEWHERE | PANDAS | STATISTICS | DRAWING | TABLES | PAGES,
}
LINEAR = COMPILER | ADAPTERS | ELSEWHERE
"""Frozen features and heads are made without these."""
RUN = "run smoke --method linear --shots 1 --seeds 1 --learning-rates 0.01 --steps 2 --data synthetic=cells --quiet"
WITH_TORCH = {
    RUN: LINEAR | DRAWING | PAGES,
    "fit cells --model nano --method linear --steps 2 --out fitted --cache cache --quiet": LINEAR,
    "predict model cells --out predicted.csv --quiet": LINEAR | STATISTICS | DRAWING | TABLES | PAGES,
    "embed cells --model nano --out features.parquet --cache cache --quiet": LINEAR | STATISTICS | DRAWING | PAGES,
}
NOT_BEFORE_IMAGES = LINEAR | STATISTICS | DRAWING | TABLES | PAGES
"""What the first image of ``run`` and ``fit`` does not wait for."""
AFTERWARDS = {
    RUN: NO_TORCH | ELSEWHERE | STATISTICS | DRAWING | TABLES | PAGES,  # all of it is stored
    "report runs --out report": NO_TORCH | ELSEWHERE,
}


def unwanted(table: Mapping[str, frozenset[str]], found: Iterable[Loaded]) -> dict[str, list[str]]:
    """By command, what it loaded and should not have."""
    pairs = {command: table[command] & loaded.at_end for command, loaded in zip(table, found, strict=True)}
    return {command: sorted(modules) for command, modules in pairs.items() if modules}


def commands(table: Mapping[str, frozenset[str]]) -> list[list[str]]:
    return [command.split() for command in table]


@pytest.mark.parametrize("lists", [LISTS, pytest.param(MORE_LISTS, marks=pytest.mark.slow)], ids=["some", "others"])
def test_help_lists_and_plans_load_neither_torch_nor_numpy(lists: dict[str, frozenset[str]], tmp_path: Path):
    assert unwanted(lists, loaded_by(commands(lists), tmp_path)) == {}


@pytest.mark.slow
def test_planted_imports_are_found_in_each_command(tmp_path: Path):
    two = {command: LISTS[command] for command in ("--help", "plan smoke")}
    found = unwanted(two, loaded_by(commands(two), tmp_path, preloaded=["jinja2", "pyarrow.csv"]))
    assert found == {command: ["jinja2", "numpy", "pyarrow"] for command in two}  # pyarrow brings numpy


def test_checks_and_splits_of_images_load_no_torch(drawn_cells: Path, tmp_path: Path):
    (tmp_path / "cells").symlink_to(drawn_cells)
    found = loaded_by(commands(ON_IMAGES), tmp_path)
    assert [loaded.code for loaded in found] == [0, 0]
    assert unwanted(ON_IMAGES, found) == {}


@pytest.mark.slow
def test_frozen_features_and_heads_need_no_peft_and_no_compiler(drawn_cells: Path, tmp_path: Path):
    """PEFT brings transformers and torch's compiler: four seconds of every command that has no adapter."""
    (tmp_path / "cells").symlink_to(drawn_cells)
    write_small_bundle(tmp_path / "model")
    libraries = ["torch", "torchvision", "timm"]
    found = loaded_by(commands(WITH_TORCH), tmp_path, preloaded=libraries, images=drawn_cells)
    assert [loaded.code for loaded in found] == [0, 0, 0, 0]
    assert unwanted(WITH_TORCH, found) == {}
    for loaded in found[:2]:  # run and fit
        assert "torch" in loaded.before_images, "no image was seen to be opened"
        assert sorted(NOT_BEFORE_IMAGES & loaded.before_images) == []
    found = loaded_by(commands(AFTERWARDS), tmp_path)
    assert [loaded.code for loaded in found] == [0, 0]
    assert unwanted(AFTERWARDS, found) == {}


@pytest.mark.slow
def test_the_compiler_is_loaded_when_it_is_asked_for():
    """What torchvision and timm took from it works as ever, and torch is as it was before they were imported."""
    program = """
import sys, threading
import torch
disable = torch.compiler.disable
import cytolora
import timm, torchvision
from timm.models.naflexvit import NaFlexVit
assert "torch._dynamo" not in sys.modules and "torch._dynamo.utils" not in sys.modules
assert torch.compiler.disable is disable
boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])
image = torch.arange(16.0).reshape(1, 1, 4, 4)
pooled = torchvision.ops.roi_align(image, boxes, output_size=2, aligned=True)
assert torch.equal(pooled.flatten(), torch.tensor([2.5, 4.5, 10.5, 12.5])), pooled
supported = torchvision.ops.roi_align.__globals__["is_compile_supported"]("cpu")
import torch._dynamo.utils
assert supported == torch._dynamo.utils.is_compile_supported("cpu")
assert torch._dynamo.utils.__file__.endswith("utils.py")
model = timm.create_model("naflexvit_base_patch16_gap", depth=1, embed_dim=48, num_heads=3, num_classes=2).eval()
assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
print("as ever")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "as ever"), done.stderr[-1000:]


def test_whatever_else_is_asked_of_the_stand_in_is_the_compilers_own():
    """A later torchvision may import more of ``torch._dynamo.utils`` than the one function known today."""
    program = """
import sys, types
real = types.ModuleType("torch._dynamo.utils")
real.counters, real.is_compile_supported = {"frames": 3}, lambda device: device == "cpu"
import cytolora.core.deferred_compiler as deferred
torch = types.ModuleType("torch")
torch.compiler = types.SimpleNamespace(disable=lambda fn=None, recursive=True, *, reason=None: fn)
torch._disable_dynamo = lambda fn=None, recursive=True: fn
sys.modules["torch"] = torch
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch._dynamo", "torch._dynamo.utils"):
            import importlib.machinery
            return importlib.machinery.ModuleSpec(name, self, is_package=name == "torch._dynamo")
    def create_module(self, spec):
        return real if spec.name == "torch._dynamo.utils" else None
    def exec_module(self, module):
        pass
torch.__path__ = []
sys.meta_path.insert(0, Finder())
with deferred._deferred():
    from torch._dynamo.utils import is_compile_supported
    assert "torch._dynamo" not in sys.modules
    with deferred._deferred():  # timm imports torchvision
        pass
    from torch._dynamo.utils import counters
    assert counters == {"frames": 3} and sys.modules["torch._dynamo.utils"] is real
assert sys.modules["torch._dynamo.utils"] is real
assert is_compile_supported("cpu") is True and is_compile_supported("mps") is False
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
