"""AdaLoRA gives up ranks as PEFT does when its own loop is followed, and what is left reloads and merges."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel
from small_encoders import FUSED, images, inside, relative, small_encoder
from torch import Tensor

from cytolora.config.run import AdapterSpec, Budget, TrainSpec
from cytolora.models.adapters.adalora import RankAllocation
from cytolora.models.adapters.attach import attach, merged
from cytolora.models.adapters.split_qkv import split_qkv
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead, load_trained_state, trained_state
from cytolora.training.loop import batches, fit, rate_at

ADAPTER = AdapterSpec(rank=4, dropout=0)
TRAIN = TrainSpec(budget=Budget(amount=1, unit="epochs"), batch_size=4, warmup_steps=2)
RATE, LABELS = 0.02, torch.arange(8) % 3


def _classifier() -> EncoderWithHead:
    encoder = small_encoder(FUSED)
    torch.manual_seed(0)
    return EncoderWithHead(attach(encoder, "adalora", ADAPTER), 3)


def _inputs() -> Tensor:
    return torch.cat([images(FUSED), images(FUSED).flip(3), images(FUSED).flip(2), -images(FUSED)])[:8]


def _fit(classifier: EncoderWithHead, num_steps: int) -> EncoderWithHead:
    inputs = _inputs()

    def batch(indices: Sequence[int], epoch: int) -> Tensor:
        return inputs[list(indices)]

    labels, order = LABELS[: len(inputs)], torch.Generator().manual_seed(0)
    fit(
        classifier, batch, labels, TRAIN, learning_rate=RATE, num_steps=num_steps, order=order,
        device=torch.device("cpu"),
    )  # fmt: skip
    return classifier.eval()


def _ranks(classifier: EncoderWithHead) -> list[int]:
    """How many singular values of each adapted matrix are left."""
    return [
        int((parameter != 0).sum()) for name, parameter in classifier.encoder.named_parameters() if ".lora_E." in name
    ]


@pytest.fixture(scope="module")
def pruned() -> EncoderWithHead:
    return _fit(_classifier(), 40)


def test_ranks_are_given_up_until_the_average_is_the_one_asked_for(pruned: EncoderWithHead):
    assert all(parameter.shape[0] == 6 for name, parameter in pruned.encoder.named_parameters() if ".lora_E." in name)
    assert sum(_ranks(pruned)) == ADAPTER.rank * 4  # two blocks, q and v
    assert len(set(_ranks(pruned))) > 1  # some matrices keep more than others


def test_it_is_pefts_own_loop(pruned: EncoderWithHead):
    """The loop as PEFT documents it, with the loss that its model adds to one of its own."""
    theirs = _classifier().train()
    model = theirs.encoder.trunk.base_model
    RankAllocation.of(theirs.encoder, 40)  # sets the schedule
    optimiser = torch.optim.AdamW(theirs.trainable(), lr=RATE, weight_decay=TRAIN.weight_decay)
    inputs = _inputs()
    for step, indices in enumerate(batches(len(inputs), 4, 40, torch.Generator().manual_seed(0))):
        optimiser.param_groups[0]["lr"] = rate_at(step, 40, RATE, TRAIN)
        loss = F.cross_entropy(theirs(inputs[indices]), LABELS[indices])

        class Outputs:
            pass

        outputs = Outputs()
        outputs.loss = loss  # pyright: ignore
        forward, model.model.forward = model.model.forward, lambda outputs=outputs: outputs
        model()  # adds its penalty
        model.model.forward = forward
        optimiser.zero_grad()
        outputs.loss.backward()  # pyright: ignore
        optimiser.step()
        model.update_and_allocate(step)
    ours = dict(pruned.encoder.named_parameters())
    for name, parameter in theirs.encoder.named_parameters():
        torch.testing.assert_close(parameter, ours[name], atol=1e-5, rtol=1e-4)


def test_a_pruned_adapter_reloads_to_the_same_logits_and_merges(pruned: EncoderWithHead):
    again = _classifier()
    load_trained_state(again, trained_state(pruned))
    with torch.inference_mode():
        assert torch.equal(again.eval()(_inputs()), pruned(_inputs()))
        assert relative(merged(pruned.encoder)(_inputs()), pruned.encoder(_inputs())) < 1e-5
    assert _ranks(again) == _ranks(pruned)


def test_a_pruned_adapter_opens_in_stock_peft(pruned: EncoderWithHead, tmp_path):
    pruned.encoder.trunk.save_pretrained(str(tmp_path))
    plain = small_encoder(FUSED)
    split_qkv(plain.trunk)
    opened = inside(Encoder(PeftModel.from_pretrained(plain.trunk, tmp_path).eval(), plain.pool))
    batch = images(FUSED)
    assert relative(opened.forward_features(batch), inside(pruned.encoder).forward_features(batch)) < 1e-6


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_a_run_of_a_few_steps_is_no_error(num_steps: int):
    assert sum(_ranks(_fit(_classifier(), num_steps))) > 0
