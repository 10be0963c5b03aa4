"""`fit` with learned prompts: a bundle without text encoder; what none can hold is refused by name."""

import numpy as np
import pytest
import torch
from quick_fit import quick_fit

import cytolora
from cytolora.classifier.bundle.files import ANCHORS
from cytolora.classifier.decision.transduction import from_bytes
from cytolora.classifier.fit.config import FitOptions, choose_config
from cytolora.config.method_kinds import PROMPT_METHODS, TWO_TOWERS
from cytolora.config.run import PromptSpec
from cytolora.errors import ConfigError
from cytolora.models.adapters.methods import METHODS
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.checkpoints.hub import find_vocabulary
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.text.encoder import load_text_encoder
from cytolora.models.text.prompted import PromptedText
from cytolora.training.resources import Inputs

NO_INPUTS = Inputs(data={}, weights={})


def chosen(**options: object):
    return choose_config(FitOptions(**options), NO_INPUTS, "cpu")  # pyright: ignore[reportArgumentType]


def test_prompts_are_fitted_where_classes_have_one_embedding_and_refused_by_name_where_not():
    for name in (*PROMPT_METHODS, *TWO_TOWERS):
        facts = METHODS.get(name).prompt
        if facts is not None and not facts.per_image:
            assert chosen(method=name, model="nano-clip").adapter is None
            continue
        with pytest.raises(ConfigError, match=f"^{name} .* Fit coop, kgcoop, prograd|fit lora, or coop") as refused:
            chosen(method=name, model="nano-clip")
        assert "\n" not in str(refused.value)
    assert {"cocoop", "ivlp"} <= {*PROMPT_METHODS, *TWO_TOWERS}


def test_prompts_need_a_backbone_with_text_and_find_the_built_in_one():
    with pytest.raises(ConfigError, match="coop trains through a text encoder, and nano has none"):
        chosen(method="coop", model="nano")
    assert BACKBONES.get(chosen(method="coop").backbone.name).text is not None
    with pytest.raises(ConfigError, match="coop is none of them"):
        chosen(ensemble=("linear", "coop"))


@pytest.mark.slow
def test_a_bundle_of_prompts_predicts_without_text_what_the_text_encoder_says(lab_cells, lab_cache, tmp_path):
    """At the start, the head is that of the template's words; the class vectors of the bundle stay near them."""
    pytest.importorskip("transformers", reason="the extra text is not installed")
    out = tmp_path / "coop"
    options = {"model": "nano-clip", "method": "coop", "cache": lab_cache, "max_steps": 1, "learning_rates": 1e-9}
    quick_fit(lab_cells, out, **options)
    classifier = cytolora.load(out)
    training = classifier.contents.training
    assert training["num_steps"] == 1
    text = training["prompt"]
    spec = BACKBONES.get("nano-clip")
    assert spec.weights is not None
    encoder = load_text_encoder(spec, spec.weights, find_vocabulary(spec, spec.weights))
    prompted = PromptedText(encoder, text["template"], [text["words"][label] for label in classifier.classes])
    assert training["num_trainable"] == prompted.word_vectors().numel()
    assert text["template"] == PromptSpec().template
    images = sorted(lab_cells.rglob("*.png"))[::9]
    with torch.inference_mode():
        views = cytolora.load_images(images, "nano-clip")
        z = torch.nn.functional.normalize(load_encoder(spec, spec.weights).eval()(views), dim=1)
        logits = encoder.logit_scale * z @ prompted().T
    anchors = from_bytes((out / ANCHORS).read_bytes()).space
    texts = prompted().detach().double().numpy()
    np.testing.assert_allclose((texts - texts.mean(axis=0)) @ anchors.axes, anchors.means, atol=1e-4)
    found = classifier.predict(images)
    expected = (logits / classifier.contents.temperature).softmax(dim=1).numpy()
    np.testing.assert_allclose([one.probabilities or () for one in found], expected, atol=1e-5)
