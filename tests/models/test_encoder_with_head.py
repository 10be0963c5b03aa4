import pytest
import torch
from small_encoders import FUSED, images, small_encoder

from cytolora.config.run import AdapterSpec
from cytolora.errors import StoreError
from cytolora.models.adapters.attach import attach
from cytolora.models.encoder_with_head import (
    EncoderWithHead,
    from_safetensors,
    load_trained_state,
    to_safetensors,
    trained_state,
)

PAPER = AdapterSpec()


def classifier(adapter: AdapterSpec = PAPER, num_classes: int = 3, seed: int = 0) -> EncoderWithHead:
    torch.manual_seed(seed)
    made = EncoderWithHead(attach(small_encoder(FUSED), "lora", adapter), num_classes)
    with torch.no_grad():
        for parameter in made.trainable():
            parameter.normal_(std=0.1)
    return made.eval()


def test_adapter_and_head_come_back_to_the_same_logits():
    trained, fresh = classifier(seed=1), classifier(seed=2)
    batch = images(FUSED)
    assert not torch.equal(trained(batch), fresh(batch))
    load_trained_state(fresh, from_safetensors(to_safetensors(trained_state(trained))))
    assert torch.equal(trained(batch), fresh(batch))


def test_only_adapter_and_head_are_kept():
    state = trained_state(classifier())
    assert sum(tensor.numel() for tensor in state.values()) == classifier().num_trainable()
    assert {name.split(".")[0] for name in state} == {"head", "base_model"}


@pytest.mark.parametrize(
    ("other", "first"),
    [
        (AdapterSpec(rank=4), "lora_A"),
        (AdapterSpec(targets=("q", "k", "v")), "k_proj"),
        (AdapterSpec(blocks=(0,)), "blocks.1"),
    ],
    ids=["another rank", "more projections", "fewer blocks"],
)
def test_the_state_of_another_adapter_is_refused_by_its_first_tensor(other: AdapterSpec, first: str):
    with pytest.raises(StoreError, match=rf"do not fit this encoder and adapter, first at .*{first}"):
        load_trained_state(classifier(), trained_state(classifier(other)))


def test_the_state_of_another_number_of_classes_is_refused():
    with pytest.raises(StoreError, match=r"first at head\.bias"):
        load_trained_state(classifier(num_classes=3), trained_state(classifier(num_classes=4)))
