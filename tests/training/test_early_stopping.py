"""Early stopping against a plain loop: patience, uncounted epochs, and the best epoch kept."""

import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cytolora.config.run import Budget, EarlyStopping, TrainSpec
from cytolora.errors import ConfigError
from cytolora.models.encoder_with_head import EncoderWithHead, seeded_head
from cytolora.training.early_stopping import KeptHeads, KeptWeights, Patience
from cytolora.training.heads.linear import fit_heads
from cytolora.training.loop import batches, fit, predict, rate_at

SPEC = EarlyStopping(patience=2, uncounted_epochs=3)
TRAIN = TrainSpec(budget=Budget(amount=30, unit="epochs", early_stopping=SPEC), batch_size=8, warmup_epochs=2)
RATES, SEEDS, NUM_IMAGES, BATCHES = (1e-2, 0.3), (1, 2), 20, 3
NUM_STEPS = TRAIN.num_steps(num_train=NUM_IMAGES, shots=None)


def _public_code(accuracies: Sequence[float], patience: int, uncounted: int) -> tuple[int, int]:
    """The loop of the benchmark's public LoRA code (lora.py, run_lora), its numbers 10 and 10 as arguments."""
    best, best_epoch, waited = float("-inf"), -1, 0
    epoch = 0
    for epoch, accuracy in enumerate(accuracies, start=1):
        is_best = accuracy > best
        if is_best:
            best, best_epoch = accuracy, epoch
        if epoch <= uncounted or is_best:
            waited = 0
        else:
            waited += 1
            if waited >= patience:
                break
    return epoch, best_epoch


@given(
    accuracies=st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=40),
    patience=st.integers(1, 6),
    uncounted=st.integers(0, 12),
)
def test_training_stops_and_keeps_what_the_public_code_does(accuracies, patience, uncounted):
    rule = Patience(spec=EarlyStopping(patience=patience, uncounted_epochs=uncounted))
    for epoch, accuracy in enumerate(accuracies, start=1):
        rule.after_epoch(10 * epoch, accuracy)
        if rule.is_over:
            break
    stopped, best = _public_code(accuracies, patience, uncounted)
    assert (rule.num_steps, rule.kept_step) == (10 * stopped, 10 * best)


def _alone(features: Tensor, labels: Tensor, val: tuple[Tensor, Tensor], rate: float, seed: int):
    """One head, one loop: returns weight, steps done, and the step that was kept."""
    generator = torch.Generator().manual_seed(seed)
    head = nn.Linear(features.shape[1], 3)
    weight, bias = seeded_head(features.shape[1], 3, generator)
    head.load_state_dict({"weight": weight, "bias": bias})
    optimiser = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=TRAIN.weight_decay)
    in_steps = TrainSpec(budget=TRAIN.budget, batch_size=8, warmup_steps=2 * BATCHES)
    accuracies, weights = [], []
    for step, indices in enumerate(batches(len(labels), 8, NUM_STEPS, generator)):
        optimiser.param_groups[0]["lr"] = rate_at(step, NUM_STEPS, rate, in_steps)
        optimiser.zero_grad()
        F.cross_entropy(head(features[indices]), labels[indices]).backward()
        optimiser.step()
        if (step + 1) % BATCHES == 0:
            accuracies.append((head(val[0]).argmax(1) == val[1]).double().mean().item())
            weights.append(head.weight.detach().clone())
    stopped, best = _public_code(accuracies, SPEC.patience, SPEC.uncounted_epochs)
    return weights[best - 1], stopped * BATCHES, best * BATCHES


def _features() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(NUM_IMAGES).remainder(3).repeat(2, 1)
    val_labels = torch.arange(24).remainder(3).repeat(2, 1)
    centres = torch.randn(3, 6, generator=generator)
    features = centres[labels] + torch.randn(2, NUM_IMAGES, 6, generator=generator)
    return features, labels, centres[val_labels] + 2.5 * torch.randn(2, 24, 6, generator=generator), val_labels


def test_heads_trained_together_stop_and_are_kept_as_each_alone():
    features, labels, val, val_labels = _features()
    kept = KeptHeads(SPEC, val, val_labels, len(RATES))
    steps: list[int] = []
    fit_heads(
        features,
        labels,
        TRAIN,
        num_classes=3,
        learning_rates=RATES,
        seeds=SEEDS,
        num_steps=NUM_STEPS,
        on_steps=steps.append,
        on_epoch=kept.after_epoch,
    )
    stopped = set()
    for seed, rate in ((seed, rate) for seed in range(2) for rate in range(2)):
        weight, done, step = _alone(
            features[seed], labels[seed], (val[seed], val_labels[seed]), RATES[rate], SEEDS[seed]
        )
        patience = kept.patience[seed][rate]
        assert (patience.num_steps, patience.kept_step) == (done, step)
        torch.testing.assert_close(kept.kept[seed, rate][0], weight, rtol=1e-4, atol=1e-5)
        stopped.add(done)
    assert len(stopped) > 1, "heads of one pass stop at steps of their own"
    assert sum(steps) == max(stopped) < NUM_STEPS, "the pass ends with the last of them"


def test_heads_that_diverge_from_the_start_keep_nothing_and_end():
    _, _, val, val_labels = _features()
    kept = KeptHeads(SPEC, val, val_labels, 1)
    broken = torch.full((2, 1, 3, 6), torch.nan)
    lost = torch.full((2, 1), torch.nan)
    ended = [kept.after_epoch(epoch, broken, torch.zeros(2, 1, 3), lost) for epoch in range(1, 6)]
    assert ended == [False] * 4 + [True], "3 epochs are not counted, 2 are waited for"
    assert not kept.kept


class _Means(nn.Module):
    """An encoder that trains: three weights, and dropout that evaluation must not draw from."""

    feature_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        return self.dropout(images.mean(dim=(2, 3)) * self.scale)


def _train(images: Tensor, labels: Tensor, val: Tensor | None, num_steps: int):
    torch.manual_seed(0)
    model = EncoderWithHead(_Means(), 2)  # pyright: ignore[reportArgumentType]
    train = TrainSpec(budget=Budget(amount=1, unit="epochs"), batch_size=4, warmup_steps=0)
    kept = None
    if val is not None:
        kept = KeptWeights(
            model=model,
            validate=lambda: predict(model, lambda at: val[list(at)], len(val), device=torch.device("cpu")),
            labels=torch.tensor([0, 1] * (len(val) // 2)),
            patience=Patience(spec=EarlyStopping(patience=2, uncounted_epochs=1)),
        )
    loss = fit(
        model,
        lambda at, epoch: images[list(at)],
        labels,
        train,
        learning_rate=0.3,
        num_steps=num_steps,
        order=torch.Generator().manual_seed(1),
        device=torch.device("cpu"),
        on_epoch=kept and kept.after_epoch,
    )
    return model, kept, kept.restore(loss) if kept else loss


def test_an_adapter_goes_back_to_its_best_epoch_which_validation_did_not_disturb():
    generator = torch.Generator().manual_seed(3)
    images, val = torch.randn(10, 3, 4, 4, generator=generator), torch.randn(8, 3, 4, 4, generator=generator)
    labels = torch.tensor([0, 1] * 5)
    model, kept, loss = _train(images, labels, val, num_steps=90)
    assert kept is not None
    best, stopped = kept.patience.kept_step, kept.patience.num_steps
    assert 0 < best < stopped < 90
    again, _, same_loss = _train(images, labels, val, num_steps=90)
    assert same_loss == loss
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    by_epoch = _states_of_a_run_without_validation(images, labels, 90)
    assert torch.equal(by_epoch[best], model.head.weight), "dropout drew as it does without validation"


def _states_of_a_run_without_validation(images: Tensor, labels: Tensor, num_steps: int) -> dict[int, Tensor]:
    torch.manual_seed(0)
    model, states = EncoderWithHead(_Means(), 2), {}  # pyright: ignore[reportArgumentType]

    def note(step: int, loss: float) -> bool:
        states[step] = model.head.weight.detach().clone()
        return False

    fit(
        model,
        lambda at, epoch: images[list(at)],
        labels,
        TrainSpec(budget=Budget(amount=1, unit="epochs"), batch_size=4, warmup_steps=0),
        learning_rate=0.3,
        num_steps=num_steps,
        order=torch.Generator().manual_seed(1),
        device=torch.device("cpu"),
        on_epoch=note,
    )
    return states


@pytest.mark.parametrize("num_train", [1, 7, 8, 9, 16, 112])
def test_a_warm_up_in_epochs_is_as_many_passes_over_the_images_at_every_number_of_shots(num_train: int):
    train = TrainSpec(budget=Budget(amount=100, unit="epochs"), batch_size=8, warmup_epochs=10)
    steps = 10 * math.ceil(num_train / 8)
    assert train.in_steps(num_train).warmup_steps == train.num_warmup_steps(num_train) == steps
    assert rate_at(steps - 1, 10 * steps, 1e-3, train.in_steps(num_train)) == 1e-3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patience": 0}, "patience of at least 1"),
        ({"patience": -1}, "patience of at least 1"),
        ({"uncounted_epochs": -1}, "uncounted_epochs of at least 0"),
        ({"patience": 1.5}, "patience is a whole number"),
        ({"patience": True}, "patience is a whole number"),
        ({"uncounted_epochs": 10**12}, "uncounted_epochs is a whole number"),
    ],
)
def test_early_stopping_that_cannot_be_counted_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        EarlyStopping(**values)
