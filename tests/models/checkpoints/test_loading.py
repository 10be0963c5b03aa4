import pickle
import random
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_encoders import FUSED, REGISTERED, images, randomised, shrunk
from torch import Tensor, nn

from cytolora.errors import ConfigError, WeightsError
from cytolora.models.backbones.registry import BACKBONES, BackboneSpec
from cytolora.models.checkpoints import loading
from cytolora.models.checkpoints.building import build_encoder, build_trunk, without_weights
from cytolora.models.checkpoints.loading import load_encoder

SPEC = shrunk(FUSED)


@pytest.fixture
def state() -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in randomised(build_trunk(SPEC)).state_dict().items()}


def test_a_checkpoint_gives_a_frozen_encoder_with_its_weights(state: dict[str, Tensor], tmp_path: Path):
    save_file(state, tmp_path / "model.safetensors")
    encoder = load_encoder(SPEC, tmp_path / "model.safetensors")
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    reference = build_trunk(SPEC).eval()
    reference.load_state_dict(state)
    assert torch.equal(encoder(images(FUSED)), reference(images(FUSED)))


@pytest.mark.parametrize("spec", REGISTERED, ids=lambda spec: spec.name)
def test_a_encoder_built_without_weights_is_whole_once_loaded(spec: BackboneSpec, tmp_path: Path):
    """Buffers that no checkpoint holds, rotary positions say, are computed; nothing is left without memory."""
    small = replace(shrunk(spec), drops=())
    reference = randomised(build_encoder(small)).eval()
    state = {name.removeprefix("trunk."): value.clone() for name, value in reference.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "_encoder_state", lambda *_: dict(state))
        encoder = load_encoder(small, tmp_path / "model.safetensors")
    ours, theirs = (dict(built.named_buffers()) for built in (encoder, reference))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not any(tensor.is_meta for tensor in (*encoder.parameters(), *encoder.buffers()))
    assert torch.equal(encoder(images(spec)), reference(images(spec)))


def test_a_file_of_half_precision_gives_a_encoder_of_full_precision(state: dict[str, Tensor], tmp_path: Path):
    save_file({name: tensor.half() for name, tensor in state.items()}, tmp_path / "model.safetensors")
    encoder = load_encoder(SPEC, tmp_path / "model.safetensors")
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert torch.equal(encoder.trunk.norm.weight, state["norm.weight"].half().float())


def test_modules_that_another_thread_builds_meanwhile_have_their_weights():
    with without_weights(), ThreadPoolExecutor(1) as pool:
        theirs, ours = pool.submit(nn.Linear, 3, 2).result(), nn.Linear(3, 2)
    assert (theirs.weight.is_meta, ours.weight.is_meta) == (False, True)
    assert not nn.Linear(3, 2).weight.is_meta


def test_a_module_without_weights_leaves_the_random_numbers_of_what_follows_as_they_were():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with without_weights():
        linear = nn.Linear(3, 2)
        nn.init.trunc_normal_(linear.weight)
    assert torch.equal(torch.rand(3), expected)


def test_tensors_with_memory_are_drawn_beside_modules_without_weights():
    with without_weights():
        drawn = [nn.init.constant_(torch.zeros(2), 3.0), torch.zeros(2).fill_(3), torch.zeros(2).add_(3)]
        with pytest.raises(RuntimeError):
            torch.zeros(2, device="meta").add_(torch.zeros(3, device="meta"))
    assert all(tensor.tolist() == [3, 3] for tensor in drawn)


def test_an_entry_that_is_built_again_is_checked_for_what_it_now_is():
    """What was found of an encoder is kept for those of the same architecture, arguments, pool and size alone."""
    assert build_encoder(SPEC).feature_dim
    for size_px in (SPEC.preprocess.size_px + 1, SPEC.preprocess.size_px * 2):
        other = replace(SPEC, preprocess=replace(SPEC.preprocess, size_px=size_px))
        for _ in range(2):
            with pytest.raises(ConfigError, match="does not take an image of"):
                build_encoder(other)


def test_the_built_in_backbone_loads():
    nano = BACKBONES.get("nano")
    assert nano.weights is not None
    assert load_encoder(nano, nano.weights)(torch.zeros(1, 3, 64, 64)).shape == (1, nano.feature_dim)


def without(state: dict[str, Tensor]) -> None:
    del state["blocks.1.attn.proj.weight"]


def with_more(state: dict[str, Tensor]) -> None:
    state["head.weight"] = torch.zeros(3, 48)


def transposed(state: dict[str, Tensor]) -> None:
    state["blocks.0.attn.qkv.weight"] = state["blocks.0.attn.qkv.weight"].t().contiguous()


def narrower(state: dict[str, Tensor]) -> None:
    state["blocks.0.attn.qkv.weight"] = state["blocks.0.attn.qkv.weight"][:96].clone()


def with_nan(state: dict[str, Tensor]) -> None:
    state["blocks.0.mlp.fc1.bias"][3] = torch.nan


def with_infinity(state: dict[str, Tensor]) -> None:
    state["pos_embed"][0, 0, 0] = torch.inf


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without, r"1 missing \(blocks\.1\.attn\.proj\.weight\)"),
        (with_more, r"1 unexpected \(head\.weight\)"),
        (transposed, r"blocks\.0\.attn\.qkv\.weight is 48 x 144, expected 144 x 48"),
        (narrower, r"blocks\.0\.attn\.qkv\.weight is 96 x 48, expected 144 x 48"),
        (with_nan, r"blocks\.0\.mlp\.fc1\.bias holds NaN or infinity"),
        (with_infinity, r"pos_embed holds NaN or infinity"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_the_name_of_the_tensor(
    spoil: Callable[[dict[str, Tensor]], None], message: str, state: dict[str, Tensor], tmp_path: Path
):
    spoil(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=message) as caught:
        load_encoder(SPEC, tmp_path / "model.safetensors")
    assert "\n" not in str(caught.value)


def in_whole_numbers(state: dict[object, Tensor]) -> None:
    state["norm.weight"] = torch.ones(48, dtype=torch.int64)


def beyond_fp32(state: dict[object, Tensor]) -> None:
    state["norm.weight"] = torch.full((48,), 1e300, dtype=torch.float64)


def sparse(state: dict[object, Tensor]) -> None:
    state["norm.weight"] = torch.ones(48).to_sparse()


def without_numbers(state: dict[object, Tensor]) -> None:
    state["norm.weight"] = torch.ones(48, device="meta")


def claiming_terabytes(state: dict[object, Tensor]) -> None:
    state["more"] = torch.zeros(1).expand(10**6, 10**6)


def named_by_a_number(state: dict[object, Tensor]) -> None:
    state[7] = torch.zeros(1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (in_whole_numbers, r"norm\.weight is of torch\.int64, expected torch\.float32"),
        (beyond_fp32, r"norm\.weight holds NaN or infinity"),
        (sparse, r"holds norm\.weight in another form than number by number"),
        (without_numbers, r"holds norm\.weight in another form than number by number"),
        (claiming_terabytes, r"holds more in another form than number by number"),
        (named_by_a_number, r"1 unexpected \(7\)"),
    ],
)
def test_a_pickle_of_odd_tensors_is_refused_by_name(
    spoil: Callable[[dict[object, Tensor]], None], message: str, state: dict[str, Tensor], tmp_path: Path
):
    odd: dict[object, Tensor] = {**state}
    spoil(odd)
    torch.save(odd, tmp_path / "model.bin")
    with pytest.raises(WeightsError, match=message) as caught:
        load_encoder(SPEC, tmp_path / "model.bin")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_pickle_with_a_wrong_byte_is_read_or_refused_and_never_a_crash(state: dict[str, Tensor], tmp_path: Path):
    path, draw = tmp_path / "model.bin", random.Random(0)
    for is_zip in (True, False):
        torch.save(state, path, _use_new_zipfile_serialization=is_zip)
        whole = path.read_bytes()
        for _ in range(60):
            content = bytearray(whole)
            for _ in range(draw.choice((1, 5, 30))):
                content[draw.randrange(min(len(content), 4000))] = draw.randrange(256)
            path.write_bytes(content)
            with suppress(WeightsError):
                load_encoder(SPEC, path)


class Bomb:
    """Would run code if it were ever unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (_explode, ("unpickled",))


def _explode(text: str) -> None:
    raise AssertionError(text)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Bomb()),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10) + b'{"a"',
        b"",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    ],
    ids=["pickle", "header of 2^63 bytes", "header cut off", "empty", "pointer of git-lfs"],
)
def test_a_file_that_is_no_safetensors_is_refused_and_never_run(content: bytes, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.safetensors is damaged or no safetensors file") as caught:
        load_encoder(SPEC, path)
    assert "\n" not in str(caught.value)


def test_a_truncated_download_is_refused(state: dict[str, Tensor], tmp_path: Path):
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"damaged.*Fetch it again and compare its SHA-256"):
        load_encoder(SPEC, path)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth"])
def test_weights_alone_are_read_from_an_official_pickle(suffix: str, state: dict[str, Tensor], tmp_path: Path):
    path = tmp_path / f"model{suffix}"
    for content in (state, {"state_dict": state}, {"module." + name: value for name, value in state.items()}):
        torch.save(content, path)
        assert load_encoder(SPEC, path).feature_dim == 48


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path):
    path = tmp_path / "model.bin"
    torch.save({"blocks.0.attn.qkv.weight": Bomb()}, path)
    with pytest.raises(WeightsError, match=r"holds more than weights.*nothing in it was run") as caught:
        load_encoder(SPEC, path)
    assert "\n" not in str(caught.value)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsError, match="nothing in it was run"):
        load_encoder(SPEC, path)


@pytest.mark.parametrize("name", ["clip-vit-b16", "clip-vit-b32", "clip-vit-l14"])
def test_openais_torchscript_archive_is_refused_with_the_name_of_its_own_copy(name: str, tmp_path: Path):
    path, hub = tmp_path / "ViT.pt", BACKBONES.get(name).hub
    assert hub is not None
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))  # pyright: ignore
    with pytest.raises(WeightsError, match=rf"TorchScript archive.*the file {hub.filename} of {hub.repo} on the hub"):
        load_encoder(BACKBONES.get(name), path)
    with pytest.raises(
        WeightsError, match=r"TorchScript archive.*the weights alone: a file such as model\.safetensors"
    ):
        load_encoder(SPEC, path)


def test_a_truncated_pickle_is_refused(state: dict[str, Tensor], tmp_path: Path):
    path = tmp_path / "pytorch_model.bin"
    torch.save(state, path)
    content = path.read_bytes()
    for cut in (0, 3, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(WeightsError, match=r"pytorch_model\.bin") as caught:
            load_encoder(SPEC, path)
        assert "\n" not in str(caught.value)


def test_a_list_in_place_of_weights_is_refused(tmp_path: Path):
    torch.save([torch.zeros(2)], tmp_path / "model.bin")
    with pytest.raises(WeightsError, match="holds a list, expected tensors by name"):
        load_encoder(SPEC, tmp_path / "model.bin")


@pytest.mark.parametrize(
    "name",
    [
        "bert.embeddings.word_embeddings.weight",
        "text_model.embeddings.token_embedding.weight",
        "model.embed_tokens.weight",
        "transformer.wte.weight",
    ],
)
def test_a_model_of_text_is_called_that(name: str, tmp_path: Path):
    save_file({name: torch.zeros(5, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="holds a model of text, no image encoder"):
        load_encoder(SPEC, tmp_path / "model.safetensors")


def test_a_file_of_another_kind_is_refused_by_its_name(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"none of \.safetensors, \.bin, \.pt, \.pth"):
        load_encoder(SPEC, tmp_path / "model.onnx")


def test_a_missing_file_says_how_to_name_one(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"No weights file at .*--weights NAME=PATH"):
        load_encoder(SPEC, tmp_path / "nowhere.safetensors")


def test_a_pool_that_lacks_its_width_is_a_mistake_in_the_entry():
    with pytest.raises(ConfigError, match="fused: the pool `query` and pool_width go together"):
        build_encoder(replace(SPEC, pool="query"))


def test_a_declared_width_that_the_encoder_does_not_have_is_a_mistake_in_the_entry():
    with pytest.raises(ConfigError, match="fused: features are 48 wide, declared are 50"):
        build_encoder(replace(SPEC, feature_dim=50))


def test_an_argument_that_timm_does_not_know_is_a_mistake_in_the_entry():
    wrong = replace(SPEC, arguments={**SPEC.arguments, "wheels": 4})
    with pytest.raises(ConfigError, match=r"timm cannot build 'vit_base_patch16_224'.*wheels"):
        build_trunk(wrong)
