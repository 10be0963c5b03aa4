"""Starts of adapters: LoRA from images (EVA), OLoRA and PiSSA, and RandLoRA's random matrices."""

import subprocess
import sys
from pathlib import Path

import adapter_training
import numpy as np
import pytest
import torch
from adapter_training import ADAPTERS, opened_in_stock_peft, trained
from safetensors.torch import load_file, save_file
from small_encoders import FUSED, images, inside, relative, small_encoder
from torch import Tensor, nn

from cytolora.config.run import AdapterSpec, to_plain
from cytolora.errors import ConfigError
from cytolora.models.adapters.attach import attach, merged, prove_attached, with_split_qkv
from cytolora.models.adapters.split_qkv import split_qkv
from cytolora.models.adapters.starts import start_from_images
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead, load_trained_state, trained_state

TOWERS = {"fused": FUSED, "apart": BACKBONES.get("eva02-clip-b16"), "swiglu": BACKBONES.get("uni2-h")}
INITS = {
    "eva": AdapterSpec(init="eva", rank=3, targets=("q", "v", "fc2")),
    "olora": AdapterSpec(init="olora", rank=3, targets=("q", "o", "fc1")),
    "pissa": AdapterSpec(init="pissa", rank=3, targets=("q", "v")),
}
ALL = pytest.mark.parametrize("init", INITS)
ON_EACH = pytest.mark.parametrize("kind", TOWERS)


def started(init: str, kind: str, *, seed: int = 0, number: int = 5) -> tuple[Encoder, Encoder]:
    encoder = small_encoder(TOWERS[kind])
    torch.manual_seed(seed)
    adapted = attach(encoder, "lora", INITS[init]).eval()
    if init == "eva":
        batch = images(TOWERS[kind], number)
        start_from_images(adapted, lambda indices: batch[list(indices)], number)
    return encoder, adapted


def parameters(encoder: Encoder, part: str) -> dict[str, Tensor]:
    return {name: one.detach() for name, one in encoder.named_parameters() if f".lora_{part}." in name}


@ON_EACH
@ALL
def test_it_starts_unchanged_and_training_changes_it(init: str, kind: str):
    encoder, adapted = started(init, kind)
    batch = images(TOWERS[kind])
    frozen = encoder(batch)
    assert relative(adapted(batch), frozen) < 1e-5
    prove_attached(adapted, batch)
    classifier = trained(adapted, batch, steps=2)
    assert relative(classifier.encoder(batch), frozen) > 1e-5
    assert relative(merged(classifier.encoder)(batch), classifier.encoder(batch)) < 1e-5
    assert torch.equal(encoder(batch), frozen)


@ON_EACH
@ALL
def test_what_was_trained_comes_back_without_the_images_that_it_started_from(init: str, kind: str):
    _, adapted = started(init, kind)
    batch = images(TOWERS[kind])
    classifier = trained(adapted, batch, steps=2)
    torch.manual_seed(999)
    again = EncoderWithHead(attach(small_encoder(TOWERS[kind]), "lora", INITS[init]), 3).eval()
    load_trained_state(again, trained_state(classifier))
    assert relative(again(batch), classifier(batch)) < 1e-5


@pytest.mark.slow
@ON_EACH
@ALL
def test_the_saved_adapter_opens_in_stock_peft(init: str, kind: str, tmp_path: Path):
    _, adapted = started(init, kind)
    batch = images(TOWERS[kind])
    classifier = trained(adapted, batch, steps=2)
    opened = inside(opened_in_stock_peft(classifier, small_encoder(TOWERS[kind]), tmp_path))
    assert relative(opened.forward_features(batch), inside(classifier.encoder).forward_features(batch)) < 1e-5


def layer_inputs(encoder: Encoder, batch: Tensor) -> dict[str, np.ndarray]:
    """All tokens that come to the layers that EVA adapts, by layer."""
    seen: dict[str, list[Tensor]] = {}
    handles = [
        module.register_forward_hook(
            lambda _, inputs, __, name=name: seen.setdefault(name, []).append(inputs[0].flatten(end_dim=-2))
        )
        for name, module in encoder.trunk.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(("q_proj", "v_proj", "fc2"))
    ]
    encoder(batch)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts).double().numpy() for name, parts in seen.items()}


@ON_EACH
@pytest.mark.parametrize("number", [1, 16, 40])
def test_eva_starts_from_the_principal_directions_of_what_comes_to_each_layer(kind: str, number: int):
    """Worked out anew by NumPy: centred tokens, their right singular vectors; B is zero, and all ranks are equal."""
    encoder, adapted = started("eva", kind, number=number)
    compared = 0
    for name, tokens in layer_inputs(with_split_qkv(encoder), images(TOWERS[kind], number)).items():
        _, _, directions = np.linalg.svd(tokens - tokens.mean(axis=0), full_matrices=False)
        rows = parameters(adapted, "A")[f"trunk.base_model.model.{name}.lora_A.default.weight"].double().numpy()
        assert rows.shape == (3, tokens.shape[1])
        np.testing.assert_allclose(rows @ rows.T, np.eye(3), atol=1e-4)
        tokens = tokens - tokens.mean(axis=0)
        explained, best = (((part @ tokens.T) ** 2).sum() for part in (rows, directions[:3]))
        assert explained >= (0.99 if number <= 16 else 0.9) * best  # PEFT stops before it has seen all batches
        compared += 1
    assert compared == (len(parameters(adapted, "A")))
    assert not any(matrix.any() for matrix in parameters(adapted, "B").values())


def test_eva_depends_on_the_images_alone_and_leaves_the_random_state_as_it_was():
    encoder = small_encoder(FUSED)
    drawn = []
    for seed, number in ((1, 20), (2, 20), (2, 7)):
        torch.manual_seed(seed)
        adapted = attach(encoder, "lora", INITS["eva"]).eval()
        batch, before = images(FUSED, number), torch.get_rng_state()
        start_from_images(adapted, lambda indices, batch=batch: batch[list(indices)], number)
        assert torch.equal(torch.get_rng_state(), before)
        drawn.append(torch.cat([matrix.flatten() for matrix in parameters(adapted, "A").values()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[1], drawn[2])


def test_eva_makes_pixels_only_as_it_goes_and_of_sixteen_images_at_most():
    adapted, batch, asked = attach(small_encoder(FUSED), "lora", INITS["eva"]).eval(), images(FUSED, 40), []

    def make(indices: list[int]) -> Tensor:
        asked.append(list(indices))
        return batch[indices]

    start_from_images(adapted, make, 40)  # pyright: ignore[reportArgumentType]
    assert {len(indices) for indices in asked} == {13, 14}
    assert {index for indices in asked for index in indices} <= set(range(40))


def test_images_without_enough_directions_are_refused_and_not_gone_round_for_ever():
    adapted = attach(small_encoder(FUSED), "lora", AdapterSpec(init="eva", rank=48)).eval()
    blank = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ConfigError, match=r"init: eva takes 48 directions from 5 tokens of the images\. Set a lower"):
        start_from_images(adapted, lambda indices: blank, 1)


@pytest.mark.parametrize(
    ("method", "adapter"),
    [
        *(("lora", AdapterSpec(init=init, rank=49)) for init in ("eva", "olora", "pissa")),
        ("pissa", AdapterSpec(rank=49)),
        ("miss", AdapterSpec(rank=49)),
        ("randlora", AdapterSpec(rank=49)),
    ],
)
def test_a_start_with_more_ranks_than_a_layer_has_directions_is_refused(method: str, adapter: AdapterSpec):
    with pytest.raises(ConfigError, match=r"rank is 49, and an adapted layer has 48 directions\. Set rank to 48"):
        attach(small_encoder(FUSED), method, adapter)


@pytest.mark.parametrize("method", [name for name in ADAPTERS if name not in ("lora", "last_blocks")])
def test_only_lora_reads_init(method: str):
    with pytest.raises(ConfigError, match=rf"{method} does not use init of the adapter"):
        attach(small_encoder(FUSED), method, AdapterSpec(init="eva"))


@pytest.mark.parametrize("wrong", ["EVA", "lora-ga", "", "loftq", True, 1])
def test_an_unknown_start_is_refused_by_name(wrong: object):
    with pytest.raises(ConfigError, match="init is one of eva, olora, pissa, or left out, got"):
        AdapterSpec(init=wrong)  # pyright: ignore[reportArgumentType]


def test_an_adapter_without_a_start_of_its_own_is_written_as_it_was():
    assert "init" not in to_plain(AdapterSpec())
    assert to_plain(AdapterSpec(init="eva"))["init"] == "eva"


def test_randlora_draws_the_matrices_of_peft_and_stores_none(monkeypatch: pytest.MonkeyPatch):
    """Drawn again from the key alone, also where PEFT would draw others, for want of bfloat16."""
    import peft.tuners.randlora.model as peft_randlora

    adapted = attach(small_encoder(FUSED), "randlora", ADAPTERS["randlora"])
    stock = small_encoder(FUSED)
    split_qkv(stock.trunk)
    from peft import get_peft_model

    by_peft = get_peft_model(stock.trunk, adapted.trunk.peft_config["default"])
    for part in ("randlora_A", "randlora_B"):
        ours = getattr(adapted.trunk.base_model, part)["default"]
        assert ours.dtype == torch.float32
        assert torch.equal(ours, getattr(by_peft.base_model, part)["default"].float())
    monkeypatch.setattr(peft_randlora, "is_bf16_available", lambda: False)
    elsewhere = attach(small_encoder(FUSED), "randlora", ADAPTERS["randlora"])
    for part in ("randlora_A", "randlora_B"):
        ours, theirs = (getattr(one.trunk.base_model, part)["default"] for one in (adapted, elsewhere))
        assert torch.equal(ours, theirs)
    stored = trained_state(EncoderWithHead(adapted, 3))
    assert not [name for name in stored if name.endswith(("randlora_A", "randlora_B"))]


@pytest.mark.slow
def test_a_fresh_process_reloads_every_start_to_the_same_logits(tmp_path: Path):
    for init in INITS:
        _, adapted = started(init, "fused")
        classifier = trained(adapted, images(FUSED), steps=2)
        save_file(trained_state(classifier), tmp_path / f"{init}.safetensors")
        save_file({"logits": classifier(images(FUSED)).detach()}, tmp_path / f"{init}.logits")
    code = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(adapter_training.__file__).parent)]!r}; "
    code += f"import test_starts; test_starts.reload_all({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def reload_all(folder: str) -> None:
    """What the fresh process does."""
    for init, adapter in INITS.items():
        classifier = EncoderWithHead(attach(small_encoder(FUSED), "lora", adapter), 3).eval()
        load_trained_state(classifier, load_file(Path(folder) / f"{init}.safetensors"))
        expected = load_file(Path(folder) / f"{init}.logits")["logits"]
        assert relative(classifier(images(FUSED)), expected) < 1e-5, init
