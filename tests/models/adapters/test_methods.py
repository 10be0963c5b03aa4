"""Every method on three different encoders: fused q, k, v; EVA-02, which keeps them apart; SwiGLU with registers."""

import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import adapter_training
import pytest
import torch
from adapter_training import ADAPTERS, opened_in_stock_peft, trained
from safetensors.torch import load_file, save_file
from small_encoders import BYPASSING, FUSED, images, inside, relative, small_encoder

from cytolora.config.grid import GridSpec, MethodSpec
from cytolora.config.run import FITTED_HEADS, LINEAR, PROMPT_METHODS, ZERO_SHOT, AdapterSpec, Budget, method_kind
from cytolora.errors import ConfigError
from cytolora.experiments.expand import expand
from cytolora.models.adapters.attach import attach, merged, prove_attached
from cytolora.models.adapters.methods import METHODS, Method
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead, load_trained_state, trained_state
from cytolora.models.kernels.cpu import speed_up

TOWERS = {
    "fused": FUSED,
    "apart": BACKBONES.get("eva02-clip-b16"),
    "swiglu": BACKBONES.get("uni2-h"),
}
PEFTS = [name for name in ADAPTERS if METHODS.get(name).peft_config is not None]
ON_EACH = pytest.mark.parametrize("kind", TOWERS)
ALL = pytest.mark.parametrize("method", ADAPTERS)


def build(method: str, kind: str, adapter: AdapterSpec | None = None, *, seed: int = 0) -> tuple[Encoder, Encoder]:
    encoder = small_encoder(TOWERS[kind])
    torch.manual_seed(seed)
    return encoder, attach(encoder, method, adapter or ADAPTERS[method]).eval()


def test_every_registered_method_is_tried_here():
    adapters = {method.name for method in METHODS if method.kind == "adapter"}
    assert adapters == {*ADAPTERS, "ivlp"}, "which is vpt in the image encoder"


def test_the_names_that_specs_take_for_no_adapter_are_those_of_the_registry():
    assert {method.name: method.kind for method in METHODS if method.kind != "adapter"} == {
        LINEAR: "linear",
        ZERO_SHOT: "zero_shot",
        **dict.fromkeys(FITTED_HEADS, "head"),
        **dict.fromkeys(PROMPT_METHODS, "prompt"),
    }
    for method in METHODS:
        trains_inside = method.peft_config is not None or method.opens is not None or method.prompts
        assert trains_inside == (method_kind(method.name) == "adapter")


@pytest.mark.parametrize("ways", [{}, {"opens": "norms", "prompts": True}])
def test_an_adapter_that_names_no_way_to_adapt_or_two_is_refused(ways: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"an adapter sets one of them, any other method none"):
        Method(name="mine", description="", **ways)


@ON_EACH
@pytest.mark.parametrize("method", [name for name in ADAPTERS if name != "vpt"])
def test_it_starts_unchanged_and_one_step_changes_it(method: str, kind: str):
    encoder, adapted = build(method, kind)
    batch = images(TOWERS[kind])
    frozen = encoder(batch)
    assert relative(adapted(batch), frozen) < 1e-5
    prove_attached(adapted, batch)
    trained(adapted, batch)
    assert relative(adapted(batch), frozen) > 1e-5
    assert torch.equal(encoder(batch), frozen)  # the encoder it was made from is as it was


@ON_EACH
def test_prompts_act_from_the_start_and_leave_the_encoder_as_it_was(kind: str):
    encoder, adapted = build("vpt", kind)
    batch = images(TOWERS[kind])
    frozen = encoder(batch)
    prove_attached(adapted, batch)
    before = adapted(batch)
    assert relative(before, frozen) > 1e-5
    trained(adapted, batch)
    assert relative(adapted(batch), before) > 1e-5
    assert torch.equal(encoder(batch), frozen)
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == 2 * 3 * 48


@ON_EACH
@ALL
def test_gradients_are_where_the_method_trains_and_nowhere_else(method: str, kind: str):
    _, adapted = build(method, kind)
    frozen = {name: parameter.detach().clone() for name, parameter in adapted.named_parameters()}
    classifier = trained(adapted, images(TOWERS[kind]), steps=2)
    changed = {
        name
        for name, parameter in classifier.encoder.named_parameters()
        if not torch.equal(parameter, frozen[name]) or parameter.requires_grad
    }
    parts = {
        "bitfit": lambda name: name.startswith("trunk.blocks.") and name.endswith("bias"),
        "layernorm": lambda name: "norm" in name,
        "vpt": lambda name: name.endswith(".prompts"),
        "last_blocks": lambda name: name.startswith(("trunk.blocks.1.", "trunk.norm.")),
        "full": lambda name: True,
    }
    belongs = parts.get(
        method,
        lambda name: any(
            mark in name for mark in (".lora_", ".vera_", ".ia3_", ".oft_", ".lokr_", ".randlora_", ".miss_")
        ),
    )
    assert changed == {name for name in frozen if belongs(name) and not name.endswith("ranknum.default")}
    grads = {name: one.grad for name, one in classifier.named_parameters() if one.requires_grad}
    still = {name for name, grad in grads.items() if grad is None or not grad.any()}
    assert not still, "a gradient of zero trains nothing"


@ON_EACH
@pytest.mark.parametrize("method", PEFTS)
def test_merged_equals_unmerged(method: str, kind: str):
    encoder, adapted = build(method, kind)
    batch = images(TOWERS[kind])
    classifier = trained(adapted, batch, steps=3)
    assert relative(classifier.encoder(batch), encoder(batch)) > 1e-4
    assert relative(merged(classifier.encoder)(batch), classifier.encoder(batch)) < 1e-5


@ON_EACH
@pytest.mark.parametrize("method", PEFTS)
def test_the_saved_adapter_opens_in_stock_peft_on_the_split_encoder(method: str, kind: str, tmp_path: Path):
    _, adapted = build(method, kind)
    batch = images(TOWERS[kind])
    classifier = trained(adapted, batch, steps=2)
    opened = inside(opened_in_stock_peft(classifier, small_encoder(TOWERS[kind]), tmp_path))
    assert relative(opened.forward_features(batch), inside(classifier.encoder).forward_features(batch)) < 1e-6


@ON_EACH
@ALL
def test_what_was_trained_comes_back_to_the_same_logits(method: str, kind: str):
    _, adapted = build(method, kind)
    batch = images(TOWERS[kind])
    classifier = trained(adapted, batch, steps=2)
    _, fresh = build(method, kind, seed=999)  # nothing of the start may be needed again
    again = EncoderWithHead(fresh, 3).eval()
    load_trained_state(again, trained_state(classifier))
    assert torch.equal(again(batch), classifier(batch))


@pytest.mark.slow
def test_a_fresh_process_reloads_every_method_to_the_same_logits(tmp_path: Path):
    """One process for all of them; the state is all that it is given."""
    for kind in TOWERS:
        for method in ADAPTERS:
            _, adapted = build(method, kind)
            classifier = trained(adapted, images(TOWERS[kind]), steps=2)
            save_file(trained_state(classifier), tmp_path / f"{kind}-{method}.safetensors")
            save_file({"logits": classifier(images(TOWERS[kind])).detach()}, tmp_path / f"{kind}-{method}.logits")
    code = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(adapter_training.__file__).parent)]!r}; "
    code += "import test_methods; "
    code += f"test_methods.reload_all({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def reload_all(folder: str) -> None:
    """What the fresh process does."""
    for kind in TOWERS:
        for method in ADAPTERS:
            _, adapted = build(method, kind, seed=999)
            classifier = EncoderWithHead(adapted, 3).eval()
            load_trained_state(classifier, load_file(Path(folder) / f"{kind}-{method}.safetensors"))
            expected = load_file(Path(folder) / f"{kind}-{method}.logits")["logits"]
            assert relative(classifier(images(TOWERS[kind])), expected) < 1e-6, (kind, method)


@pytest.mark.parametrize("method", PEFTS)
def test_a_sped_up_adapter_computes_the_same(method: str):
    _, adapted = build(method, "fused")
    batch = images(FUSED)
    trained(adapted, batch)
    expected = adapted(batch)
    speed_up(adapted)
    assert relative(adapted.eval()(batch), expected) < 1e-5


@pytest.mark.parametrize("method", PEFTS)
def test_a_family_that_bypasses_its_modules_is_refused_by_name(method: str):
    with pytest.raises(ConfigError, match="Beit"):
        attach(small_encoder(BYPASSING), method, ADAPTERS[method])


@pytest.mark.parametrize(
    ("method", "adapter", "message"),
    [
        ("ia3", AdapterSpec(rank=4), "ia3 does not use rank of the adapter; it reads targets, blocks, last_blocks"),
        ("vera", AdapterSpec(alpha=2, scaling="alpha_over_rank"), "vera does not use alpha, scaling"),
        ("full", AdapterSpec(last_blocks=1), "full does not use last_blocks of the adapter; it reads nothing of it"),
        ("lora", AdapterSpec(prompts=2), "lora does not use prompts"),
        ("last_blocks", AdapterSpec(), "last_blocks needs the number of blocks to train"),
        ("oft", AdapterSpec(rank=1), "at least 2, got 1"),
        ("lora", AdapterSpec(last_blocks=3), "last_blocks is 3, and the encoder has 2 blocks"),
    ],
)
def test_a_setting_that_would_be_ignored_is_an_error(method: str, adapter: AdapterSpec, message: str):
    with pytest.raises(ConfigError, match=message):
        attach(small_encoder(FUSED), method, adapter)


def test_a_grid_with_a_setting_that_would_be_ignored_is_refused_before_anything_runs():
    budget = Budget(amount=1, unit="epochs")
    methods = {"ia3": MethodSpec(budget=budget, adapter=AdapterSpec(rank=4))}
    grid = GridSpec(name="one", datasets=("synthetic",), models=("nano",), shots=(1,), methods=methods)
    with pytest.raises(ConfigError, match="ia3 does not use rank"):
        expand(grid)


@cache
def _names(method: str, adapter: AdapterSpec) -> set[str]:
    _, adapted = build(method, "fused", adapter)
    return {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}


def test_the_last_blocks_alone_are_adapted():
    assert _names("lora", AdapterSpec(last_blocks=1)) == _names("lora", AdapterSpec(blocks=(1,)))
    assert all(".1." in name for name in _names("bitfit", AdapterSpec(last_blocks=1)))


def test_the_two_matrices_of_the_mlp_can_be_adapted():
    names = _names("lora", AdapterSpec(targets=("fc1", "fc2")))
    assert {name.split(".lora_")[0] for name in names} == {
        f"trunk.base_model.model.blocks.{block}.mlp.{matrix}" for block in (0, 1) for matrix in ("fc1", "fc2")
    }


def test_a_projection_that_the_encoder_does_not_have_is_named():
    encoder = small_encoder(FUSED)
    del inside(encoder).blocks[1].mlp.fc2
    with pytest.raises(ConfigError, match="VisionTransformer has no projection 'fc2' in block 1"):
        attach(encoder, "lora", AdapterSpec(targets=("fc2",)))


def test_the_state_of_another_method_is_refused():
    _, lora = build("lora", "fused")
    _, vpt = build("vpt", "fused")
    state = trained_state(EncoderWithHead(lora, 3))
    with pytest.raises(Exception, match="do not fit this encoder and adapter"):
        load_trained_state(EncoderWithHead(vpt, 3), state)


def test_equal_seeds_give_equal_starts():
    for method in ADAPTERS:
        _, first = build(method, "fused")
        _, second = build(method, "fused")
        for left, right in zip(first.parameters(), second.parameters(), strict=True):
            assert torch.equal(left, right), method
    assert replace(AdapterSpec(), rank=2) == AdapterSpec()
