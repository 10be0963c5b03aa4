"""What heads of one draw share is that of its content, and changes no head."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolora.config.run import HeadSpec
from cytolora.metrics.calibration import cross_entropy, fit_temperature, probabilities
from cytolora.training.heads import draws
from cytolora.training.heads.affine import scaled
from cytolora.training.heads.draws import draw_of, forget_draws
from cytolora.training.heads.fitted import head_of
from cytolora.training.heads.labelled import Labelled

HEADS = ("gda", "ridge", "nearest-mean", "prototypes", "logistic")


def known(seed: int = 0, number: int = 90) -> Labelled:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 3
    features = torch.eye(3, 12)[labels] + 0.5 * torch.randn(number, 12, generator=generator)
    return Labelled(
        features=features, labels=labels, num_classes=3, groups=[f"{index // 3}" for index in range(number)]
    )


@pytest.mark.parametrize("number", [9, 90])
def test_a_head_is_the_same_to_the_last_bit_whatever_was_fitted_before_it(number: int):
    """Fewer images than features, and more: then the sums over the images are shared."""
    images = known(number=number)

    def fitted(name: str) -> dict[str, torch.Tensor]:
        return dict(head_of(name).fit(images, images, HeadSpec(), 0))

    alone = {}
    for name in HEADS:
        forget_draws()
        alone[name] = fitted(name)
    for order in (HEADS, HEADS[::-1]):
        forget_draws()
        for name in order:
            found = fitted(name)
            assert all(torch.equal(found[key], value) for key, value in alone[name].items()), name


def test_equal_features_are_one_draw_and_others_are_not():
    first = draw_of(known())
    assert draw_of(known()) is first
    assert draw_of(known(seed=1)) is not first
    assert draw_of(replace(known(), groups=())) is not first, "other units, other folds"
    assert draw_of(replace(known(), labels=known().labels.flip(0))) is not first


def test_rows_are_the_features_scaled_to_length_1_to_the_last_bit():
    images = known()
    images.features[0] = 0  # without length: stays
    assert np.array_equal(draw_of(images).rows, scaled(images.features).double().numpy())


def test_features_that_were_written_to_are_another_draw():
    images = known()
    before = draw_of(images).rows.copy()
    images.features[0] += 1
    after = draw_of(images)
    assert not np.array_equal(before, after.rows)
    assert draw_of(known()).rows.tolist() == before.tolist()


def test_draws_are_forgotten_where_they_would_take_too_much_memory(monkeypatch: pytest.MonkeyPatch):
    forget_draws()
    first = draw_of(known())
    monkeypatch.setattr(draws, "_MAX_BYTES", 2 * first.num_bytes)
    draw_of(known(seed=1))
    assert draw_of(known()) is first
    draw_of(known(seed=2))
    assert draw_of(known()) is first, "the one used last stays"
    monkeypatch.setattr(draws, "_MAX_BYTES", first.num_bytes - 1)
    assert draw_of(known(seed=3)) is not draw_of(known(seed=3)), "too large alone: not kept"


@given(scale=st.sampled_from([1e-3, 0.01, 0.05, 0.3, -0.05, -0.3]), seed=st.integers(0, 500))
@settings(max_examples=20)
def test_no_temperature_of_the_range_has_a_lower_cross_entropy_than_the_one_found(scale: float, seed: int):
    """At its ends too, which are found by the slope of the loss: logits that are too small, or tell the contrary."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=40)
    logits = scale * (np.eye(4)[labels] + 0.5 * rng.standard_normal((40, 4)))
    found = fit_temperature(logits, labels)
    assert 0.05 * (1 - 1e-9) <= found <= 20 * (1 + 1e-9)
    least = cross_entropy(labels, probabilities(logits, found))
    for temperature in np.geomspace(0.05, 20, 100):
        assert least <= cross_entropy(labels, probabilities(logits, temperature)) + 1e-8
