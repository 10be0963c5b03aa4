"""Loading ONNX Runtime and a model when something is short or missing: the cause is named, and not another."""

import builtins
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.onnx_predictor import OnnxModel
from cytolora.errors import BundleError, ConfigError, missing_package

MAPPED = "libonnxruntime.so.1: failed to map segment from shared object: Cannot allocate memory"


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (ImportError(MAPPED), "Exports need ONNX Runtime, which is installed and cannot be loaded: .*Cannot allocate"),
        (ImportError("DLL load failed\nwhile importing"), "cannot be loaded: DLL load failed while importing[.] Free"),
        (MemoryError(), "too little memory to load ONNX Runtime"),
        (
            ModuleNotFoundError("No module", name="onnxruntime"),
            "ONNX Runtime, which is not installed. Install the extra",
        ),
        (ModuleNotFoundError("No module", name="onnxruntime.capi"), "ONNX Runtime, which is not installed"),
        (ModuleNotFoundError("No module", name="flatbuffers"), "Exports need flatbuffers, which is not installed"),
    ],
)
def test_what_keeps_onnx_runtime_from_loading_is_named(
    raised: Exception, words: str, onnx_export: tuple[Classifier, Path], monkeypatch: pytest.MonkeyPatch
):
    imports = builtins.__import__

    def load(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "onnxruntime":
            raise raised
        return imports(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(builtins, "__import__", load)
    with pytest.raises(ConfigError, match=words) as found:
        OnnxModel.load(onnx_export[1])
    assert "\n" not in str(found.value)
    if not isinstance(raised, ModuleNotFoundError):
        assert "not installed" not in str(found.value)


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (MemoryError(), ConfigError, "too little memory to open model.onnx"),
        (RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc"), ConfigError, "too little memory"),
        (RuntimeError("Exception during initialization: bad allocation"), ConfigError, "too little memory"),
        (RuntimeError("Failed to allocate memory for requested buffer of size 9"), ConfigError, "too little memory"),
        (RuntimeError("cudaMalloc: Out of memory"), ConfigError, "too little memory"),
        (RuntimeError("Load model from bytes failed: Protobuf parsing failed."), BundleError, "Export again"),
    ],
)
def test_a_model_that_is_whole_is_not_called_damaged_where_memory_is_short(
    raised: Exception,
    kind: type[Exception],
    words: str,
    onnx_export: tuple[Classifier, Path],
    monkeypatch: pytest.MonkeyPatch,
):
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise raised

    fake = SimpleNamespace(SessionOptions=SimpleNamespace, InferenceSession=refuse)
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)  # type: ignore[arg-type]
    with pytest.raises(kind, match=words) as found:
        OnnxModel.load(onnx_export[1])
    assert ("Export again" in str(found.value)) == (kind is BundleError)


def test_a_package_that_is_there_and_does_not_load_is_not_called_missing():
    broken = missing_package("Slides need", "tifffile", extra="wsi", error=ImportError("cannot map libtiff."))
    assert str(broken).startswith("Slides need tifffile, which is installed and cannot be loaded: cannot map libtiff. ")
    absent = missing_package("Slides need", "tifffile", extra="wsi", error=ModuleNotFoundError("none"))
    assert "not installed" in str(absent)
