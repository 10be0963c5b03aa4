"""The public interface as text: a change here is a change for every user."""

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import pytest

import cytolora

NAMES = """
AdapterSpec BundleError Classifier ConfigError CytoloraError DataError EngineError FitOptions Inputs LinearHead
Predictions Progress ReadOptions Report RunTable Store StoreError Tracked WeightsError __version__ attach check compare convert embed ensemble fit
leakage list_backbones list_datasets list_methods load load_backbone load_dataset load_images open_store publish report
run split track
"""

SIGNATURES = """
attach(encoder, method='lora', adapter=None)
check(data, dataset=None, *, split=None, label_map=None, pool=None, reading=ReadOptions(), page=None, progress=None)
compare(runs, by, *, dataset=(), metric='accuracy', best=False)
convert(data, to, out, dataset=None, *, split=None, label_map=None, reading=ReadOptions())
embed(data, out, *, model=None, dataset=None, labelled=True, reading=ReadOptions(), weights=None, weights_dir=None, trust_weights=False, cache=CACHE, device=None, precision='fp32', progress=None)
ensemble(runs, *, over='all', weights='equal', dataset=(), model=(), method=(), shots=(), metric='accuracy')
fit(data, out, *, dataset=None, model=None, method=None, shots=None, seed=0, positive=(), labels=None, add=(), weights=None, device=None, options=FitOptions(), progress=None)
leakage(data, *, model=None, bundle=None, dataset=None, positive=(), sensitivity=0.95, head='gda', repeats=10, seed=0, page=None, precision=None, reading=ReadOptions(), weights=None, weights_dir=None, trust_weights=False, cache=CACHE, device=None, progress=None)
list_backbones()
list_datasets()
list_methods()
load(path, *, weights=None, weights_dir=None, device=None, precision=None)
load_backbone(name, weights=None, *, weights_dir=None, trust_weights=False, device=None)
load_dataset(data, dataset=None, *, split=None, label_map=None, pool=None, reading=ReadOptions(), strict=False)
load_images(images, backbone, *, decoding=Decoding(version=2, frame=None, icc='ignore', value_range='full'))
open_store(runs)
publish(bundle, to, *, private=False, licence_permits=False)
report(runs, out, data=None, *, reading=ReadOptions(), checklist=())
run(grid, data=None, out='runs', *, dataset=(), model=(), method=(), shots=(), fractions=(), seeds=(), split_seeds=(), leave_out=(), learning_rates=(), steps=None, precision=None, val_shots=None, sampling=None, preset=None, weights=None, weights_dir=None, trust_weights=False, split=None, label_map=None, pool=None, reading=ReadOptions(), device=None, engine=None, workers=None, retry_failed=False, checkpoint_minutes=10.0, gpus_per_run=1, micro_batch=None, progress=None)
split(data, out, dataset=None, *, by='group', ratios=(0.6, 0.2, 0.2), seed=0, leave_out=None, canonical=False, label_map=None, pool=None, reading=ReadOptions())
track(runs, to, *, progress=None)
Classifier.predict(self, images, *, batch_size=64)
Classifier.predict_proba(self, images)
Classifier.features(self, images)
Classifier.evaluate(self, data, *, dataset=None, on_seen='refuse', page=None, reading=ReadOptions())
Classifier.export(self, to, out, *, images=(), force_licence=False, progress=None)
Predictions.to_arrow(self, *, with_transductive=False)
Predictions.to_pandas(self)
Report.to_arrow(self)
Report.to_pandas(self)
RunTable.to_arrow(self)
RunTable.to_pandas(self)
Store.runs(self)
Store.predictions(self, out)
LinearHead(learning_rate=0.01, *, num_epochs=100, batch_size=32, weight_decay=0.01, warmup_steps=50, random_state=0)
"""

FIT_OPTIONS = """
model=None method=None ensemble=() ensemble_weights='equal' shots=None seed=0 positive=()
sensitivity=0.95 lower_sensitivity=False coverage=0.9 learning_rates=() max_steps=None repeats=0 precision='fp32'
reader_labels='agreed' label_map=None pool=None split=None leave_out=None weights_dir=None trust_weights=False reading=ReadOptions() cache=CACHE own_backbones=()
"""


def as_text(name: str) -> str:
    function: Any = cytolora
    for part in name.split("."):
        function = getattr(function, part)
    texts, after_star = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not after_star:
            texts, after_star = [*texts, "*"], True
        default = "" if parameter.default is parameter.empty else f"={_default(parameter.name, parameter.default)}"
        texts.append(f"{parameter.name}{default}")
    return f"{name}({', '.join(texts)})"


def _default(name: str, value: object) -> str:
    if isinstance(value, cytolora.FitOptions):
        return "FitOptions()"
    if value == cytolora.ReadOptions():
        return "ReadOptions()"
    return "CACHE" if name == "cache" else repr(value)


def test_the_public_names_are_these():
    assert list(cytolora.__all__) == NAMES.split()
    assert dir(cytolora) == cytolora.__all__


@pytest.mark.parametrize("line", SIGNATURES.strip().splitlines(), ids=lambda line: line.partition("(")[0])
def test_a_public_function_has_this_signature(line: str):
    assert as_text(line.partition("(")[0]) == line


def test_every_public_function_is_pinned():
    pinned = {line.partition("(")[0] for line in SIGNATURES.strip().splitlines()}
    assert {name for name in cytolora.__all__ if inspect.isfunction(getattr(cytolora, name))} <= pinned


def test_the_options_of_fit_have_these_names_and_defaults():
    defaults = [(one.name, one.default) for one in fields(cytolora.FitOptions)]
    assert all(default is not MISSING for _, default in defaults)
    assert [f"{name}={_default(name, default)}" for name, default in defaults] == FIT_OPTIONS.split()


def test_fit_takes_ten_everyday_arguments_and_one_object_for_the_rest():
    named = [
        name
        for name, parameter in inspect.signature(cytolora.fit).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    assert len(named) - len({"options", "progress"}) == 10


@pytest.mark.parametrize("name", [name for name in NAMES.split() if name != "__version__"])
def test_a_public_name_says_what_it_is(name: str):
    value: Callable[..., Any] = getattr(cytolora, name)
    assert value.__doc__
    assert not re.match(r"(What|How|Whether|Which|Where|From|Says|Who|When)\b", value.__doc__)


def test_every_error_is_a_cytolora_error():
    errors = [name for name in cytolora.__all__ if name.endswith("Error")]
    assert len(errors) == 7
    assert all(issubclass(getattr(cytolora, name), cytolora.CytoloraError) for name in errors)


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'predict_everything'"):
        _ = cytolora.predict_everything  # pyright: ignore


def test_importing_the_package_loads_neither_torch_nor_numpy():
    program = "import sys, cytolora; print(cytolora.__version__, sorted({'torch', 'numpy', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\S* \[\]\n", done.stdout)
