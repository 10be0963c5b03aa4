"""Training of runs: linear heads in one batched pass, fitted heads and adapters one by one; class probabilities."""

from collections.abc import Callable, Sequence
from time import perf_counter

import torch
from jaxtyping import Float32
from torch import Tensor

from cytolora.config.run import TEXT_HEADS, TREE_HEADS, AugmentSpec, HeadSpec, RunSpec
from cytolora.data.imaging.views import kept_evaluation_view, to_batch
from cytolora.data.manifest import Sample
from cytolora.errors import ConfigError
from cytolora.metrics.units import unit_names
from cytolora.models.adapters.attach import attach, prove_attached
from cytolora.models.adapters.methods import METHODS
from cytolora.models.adapters.starts import start_from_images
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import (
    EncoderWithHead,
    head_state,
    load_trained_state,
    seeded_head,
    trained_state,
)
from cytolora.models.kernels.cpu import for_training
from cytolora.models.text.embeddings import ClassText, zero_shot_logits
from cytolora.models.text.embeddings import text_head as head_from_text
from cytolora.models.text.prompts import PAPER_TEMPLATE, words_of
from cytolora.models.two_towers import TextHead, TwoTowers, text_head
from cytolora.training.absent_classes import absent_class, in_words, needs_every_class
from cytolora.training.class_text import run_text
from cytolora.training.early_stopping import KeptHeads, KeptWeights, Patience
from cytolora.training.group import ALONE, Connect, Group
from cytolora.training.heads.fitted import head_of
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.linear import fit_heads
from cytolora.training.kept_state import KeptState
from cytolora.training.loop import TrainingBatch, fit, predict
from cytolora.training.passes import PassSize
from cytolora.training.prompt_learning import prompt_probabilities
from cytolora.training.protocol import PASSES_OF_TRAINING
from cytolora.training.seeding import seeded
from cytolora.training.session import Session
from cytolora.training.trained import State, Trained
from cytolora.training.views import training_batches


def train_heads(
    session: Session, cell: Sequence[RunSpec], on_steps: Callable[[int], None] = lambda steps: None
) -> dict[str, Trained]:
    """Trains all linear heads of a cell, every seed with every learning rate, in one batched pass; by run id.

    Args:
        on_steps: Told the number of steps of all heads together, some at a time.
    """
    seeds = sorted({run.seed for run in cell})
    rates = sorted({run.learning_rate for run in cell})
    splits = {run.seed: session.split(run).train for run in cell}
    drawn = [splits[seed] for seed in seeds]
    if all(samples == drawn[0] for samples in drawn):  # all images, whatever the seed
        drawn = drawn[:1]
    preprocess, augment = cell[0].preprocess, cell[0].train.augment
    features = torch.stack([session.features_of(samples, preprocess, augment) for samples in drawn])
    labels = torch.stack([session.labels_of(samples) for samples in drawn])
    num_steps = cell[0].num_steps(features.shape[1])
    kept = _kept_heads(session, cell, seeds, len(rates))
    started = perf_counter()
    weights, biases, losses = fit_heads(
        features.to(session.device),
        labels.to(session.device),
        cell[0].train,
        num_classes=len(session.manifest.classes),
        learning_rates=rates,
        seeds=seeds,
        num_steps=num_steps,
        starts=_starts(session, [next(run for run in cell if run.seed == seed) for seed in seeds]),
        on_steps=on_steps,
        on_epoch=kept and kept.after_epoch,
    )
    seconds = (perf_counter() - started) / len(cell)
    trained = {}
    for run in cell:
        at = seeds.index(run.seed), rates.index(run.learning_rate)
        last = weights[at], biases[at], losses[at]
        weight, bias, loss = kept.kept.get(at, last) if kept else last
        patience = kept.patience[at[0]][at[1]] if kept else None
        state = head_state(weight.cpu(), bias.cpu())
        trained[run.run_id] = Trained(
            state=state,
            num_trainable=sum(tensor.numel() for tensor in state.values()),
            num_steps=patience.num_steps if patience else num_steps,
            final_loss=float(loss),
            seconds=seconds,
            kept_step=patience.kept_step if patience else None,
        )
    return trained


def _kept_heads(session: Session, cell: Sequence[RunSpec], seeds: Sequence[int], num_rates: int) -> KeptHeads | None:
    """Returns what stops the heads of a cell early, on the validation images of each seed; None: nothing does."""
    spec = cell[0].train.budget.early_stopping
    if spec is None:
        return None
    of_seed = {run.seed: session.split(run).val for run in cell}
    samples = [of_seed[seed] for seed in seeds]
    features = torch.stack([session.features_of(part, cell[0].preprocess) for part in samples])
    labels = torch.stack([session.labels_of(part) for part in samples])
    return KeptHeads(spec, features.to(session.device), labels.to(session.device), num_rates)


def fit_head(session: Session, run: RunSpec) -> Trained:
    """Fits the head of one run on frozen features, without steps or learning rate."""
    known, val = _labelled_draw(session, run)
    started = perf_counter()
    state = head_of(run.method).fit(known, val, run.head or HeadSpec(), run.seed)
    return Trained(
        state=state,
        num_trainable=sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point()),
        num_steps=0,
        final_loss=None,
        seconds=perf_counter() - started,
    )


def fit_heads_together(session: Session, cell: Sequence[RunSpec]) -> dict[str, Trained]:
    """Fits the heads of a cell, which differ in seed alone; by run id.

    Those that are trained by steps are trained in one batched pass, and each where draws differ in size.
    """
    train = head_of(cell[0].method).train
    if train is None:
        return {run.run_id: fit_head(session, run) for run in cell}
    draws = {run.run_id: _labelled_draw(session, run) for run in cell}
    sizes = {(len(known.labels), len(val.labels)) for known, val in draws.values()}
    trained = {}
    for runs in [cell] if len(sizes) == 1 else [[run] for run in cell]:
        started = perf_counter()
        known, val = (list(part) for part in zip(*(draws[run.run_id] for run in runs), strict=True))
        heads = train(known, val, runs[0].head or HeadSpec(), [run.seed for run in runs])
        seconds = (perf_counter() - started) / len(runs)
        for run, head in zip(runs, heads, strict=True):
            trained[run.run_id] = Trained(
                state=head.state,
                num_trainable=head.num_trainable,
                num_steps=head.num_steps,
                final_loss=head.final_loss,
                seconds=seconds,
            )
    return trained


def _labelled_draw(session: Session, run: RunSpec) -> tuple[Labelled, Labelled]:
    """Returns training and validation images of a fitted head.

    Raises:
        ConfigError: If a class has no training image, and the head can say nothing of it.
    """
    split = session.split(run)
    if needs_every_class(run) and (absent := absent_class(session.manifest.classes, split.train)) is not None:
        raise ConfigError(in_words(run, absent))
    return _training_images(session, run), labelled(session, run, split.val)


def zero_shot(session: Session, run: RunSpec) -> Trained:
    """Embeds the class prompts; there is nothing to train."""
    started, text = perf_counter(), run_text(run, session.inputs, session.cache / "text")
    state = {} if text is None else text.state()
    return Trained(state=state, num_trainable=0, num_steps=0, final_loss=None, seconds=perf_counter() - started)


def _starts(session: Session, runs: Sequence[RunSpec]) -> list[tuple[Tensor, Tensor]] | None:
    """Returns the heads that runs of a cell start from, scaled to the images each trains on; None: drawn."""
    if runs[0].trains_text_tower:
        return None
    text = run_text(runs[0], session.inputs, session.cache / "text")
    draws = [session.features_of(session.split(run).train, run.preprocess) for run in runs] if text else []
    return text and [head_from_text(text, features) for features in draws]


def train_adapter(
    session: Session,
    run: RunSpec,
    state: KeptState | None = None,
    *,
    connect: Connect = lambda: ALONE,
    size: PassSize | None = None,
) -> Trained:
    """Trains adapter and head of one run.

    Args:
        state: Kept while it trains, to go on from after a kill; None: nothing is.
        connect: Meets the other processes that train this run.
        size: Most images of one pass; told what is used.
    """
    size = size or PassSize()
    samples = session.split(run).train
    num_steps = run.num_steps(len(samples))
    # before the seed, as the encoder: building one draws from it
    starts = None if run.trains_text_tower else _starts(session, [run])
    encoder, order, started = encoder_of(session, run), torch.Generator().manual_seed(run.seed), perf_counter()
    with seeded(run.seed):
        classifier = _new_classifier(session, encoder, run, order, samples)
        for weight, bias in starts or ():
            classifier.head.load_state_dict({"weight": weight, "bias": bias})
        group = connect()
        kept = _kept_weights(session, run, classifier, group)
        if state is not None:
            state.early = kept
        final_loss = fit(
            classifier,
            _training_batches(session, run),
            session.labels_of(samples),
            run.train,
            learning_rate=run.learning_rate,
            num_steps=num_steps,
            order=order,
            device=session.device,
            on_step=lambda images: session.progress.done(PASSES_OF_TRAINING * images),
            on_epoch=kept and kept.after_epoch,
            state=state,
            group=group,
            size=size,
        )
        if kept:
            final_loss = kept.restore(final_loss)
    return Trained(
        state=trained_state(classifier),
        num_trainable=classifier.num_trainable(),
        num_steps=kept.patience.num_steps if kept else num_steps,
        final_loss=final_loss,
        seconds=perf_counter() - started + (state.seconds_before if state else 0.0),
        kept_step=kept.patience.kept_step if kept else None,
        classifier=classifier,
        is_resumed=state is not None and state.seconds_before > 0,
        num_processes=group.size,
        images_per_pass=size.used,
    )


def _kept_weights(session: Session, run: RunSpec, classifier: EncoderWithHead, group: Group) -> KeptWeights | None:
    """Returns what stops the training of an adapter early; None: nothing does."""
    spec, samples = run.train.budget.early_stopping, session.split(run).val
    if spec is None:
        return None
    return KeptWeights(
        model=classifier,
        validate=lambda: _scored(session, run, classifier, samples, group),
        labels=session.labels_of(samples),
        patience=Patience(spec=spec),
    )


def title(run: RunSpec) -> str:
    """Names the cell of a run, for people."""
    return f"{run.dataset}, {run.backbone}, {run.method}, {run.sampling.amount}"


def labelled(session: Session, run: RunSpec, samples: Sequence[Sample], augment: AugmentSpec | None = None) -> Labelled:
    """Returns the frozen features that a run sees of some images, with labels and units."""
    return Labelled(
        features=session.features_of(samples, run.preprocess, augment),
        labels=session.labels_of(samples),
        num_classes=len(session.manifest.classes),
        groups=unit_names([sample.group for sample in samples], [sample.path for sample in samples]),
        text=run_text(run, session.inputs, session.cache / "text") if run.method in TEXT_HEADS else None,
        tree=_class_paths(session, run) if run.method in TREE_HEADS else (),
    )


def _class_paths(session: Session, run: RunSpec) -> tuple[tuple[str, ...], ...]:
    manifest = session.manifest
    if not set(manifest.classes) <= set(manifest.tree):
        raise ConfigError(f"{run.method} needs classes in a tree, and those of {run.dataset} have none.")
    return tuple(manifest.tree[label] for label in manifest.classes)


def _training_images(session: Session, run: RunSpec) -> Labelled:
    return labelled(session, run, session.split(run).train, run.train.augment)


def _training_batches(session: Session, run: RunSpec) -> TrainingBatch:
    samples, augment = session.split(run).train, run.train.augment
    if augment is None:
        return lambda indices, epoch: _evaluation_batch(session, run, [samples[index] for index in indices])
    return training_batches(
        lambda index: session.pixels.native(samples[index]),
        len(samples),
        run.preprocess or session.backbone.preprocess,
        augment,
        seed=run.seed,
        device=session.device,
    )


def probabilities(
    session: Session, run: RunSpec, state: State, samples: Sequence[Sample], classifier: EncoderWithHead | None = None
) -> Float32[Tensor, "images classes"]:
    """Returns class probabilities of a trained run, float32 [images, classes].

    Args:
        classifier: The run's own, where it was trained just now; built from ``state`` otherwise.
    """
    found = _one_by_one(session, run, state, samples, classifier)
    if not run.transductive or not samples:
        return found
    from cytolora.training.transduction.together import classify_together, softening  # no other run needs it

    val = session.split(run).val
    of_val = found if samples == val or not val else _one_by_one(session, run, state, val, classifier)
    temperature = softening(of_val, session.labels_of(val)) if val else 1.0
    features = session.features_of(samples, run.preprocess)
    return classify_together(_training_images(session, run), features, found, temperature)


def _one_by_one(
    session: Session, run: RunSpec, state: State, samples: Sequence[Sample], classifier: EncoderWithHead | None
) -> Float32[Tensor, "images classes"]:
    if run.kind == "zero_shot":
        return zero_shot_logits(session.features_of(samples, run.preprocess), ClassText.of(state)).softmax(dim=-1)
    if run.kind == "head":
        features = session.features_of(samples, run.preprocess)
        return head_of(run.method).probabilities(state, _training_images(session, run), features)
    if run.kind == "prompt":
        return prompt_probabilities(session, run, state, samples)
    if run.kind == "linear":
        logits = session.features_of(samples, run.preprocess) @ state["head.weight"].T + state["head.bias"]
        return logits.softmax(dim=-1)
    if classifier is None:
        classifier = rebuilt(session, run, state)
    session.progress.status(f"{title(run)}, seed {run.seed}: scoring")
    return _scored(session, run, classifier, samples)


def _scored(
    session: Session, run: RunSpec, classifier: EncoderWithHead, samples: Sequence[Sample], group: Group = ALONE
) -> Float32[Tensor, "images classes"]:
    def batch(indices: Sequence[int]) -> Tensor:
        return _evaluation_batch(session, run, [samples[index] for index in indices])

    return predict(classifier, batch, len(samples), device=session.device, on_images=session.progress.done, group=group)


def rebuilt(session: Session, run: RunSpec, state: State) -> EncoderWithHead:
    """Builds the classifier of a trained adapter run from its weights."""
    encoder = encoder_of(session, run)
    with seeded(run.seed):
        classifier = _new_classifier(session, encoder, run, torch.Generator().manual_seed(run.seed))
    load_trained_state(classifier, state)
    return classifier


def _evaluation_batch(
    session: Session, run: RunSpec, samples: Sequence[Sample]
) -> Float32[Tensor, "images 3 height width"]:
    preprocess = run.preprocess or session.backbone.preprocess
    views = [kept_evaluation_view(session.pixels, sample, preprocess) for sample in samples]
    return to_batch(views, preprocess, session.device)


def encoder_of(session: Session, run: RunSpec) -> Encoder:
    """Returns the encoder to adapt; loads that of the text too, for building either draws from torch's global state."""
    if run.trains_text_tower:
        _ = session.text_encoder
    return session.encoder if METHODS.get(run.method).peft_config is None else session.split_encoder


def _new_classifier(
    session: Session, encoder: Encoder, run: RunSpec, start: torch.Generator, drawn: Sequence[Sample] = ()
) -> EncoderWithHead:
    """Builds the untrained classifier of an adapter run; the adapter's start comes from torch's global state.

    ``encoder`` is loaded before that state is seeded: building one draws from it.

    Args:
        drawn: The run's training images, for an adapter that starts from them; none where a stored one replaces it.
    """
    if run.adapter is None:
        raise ValueError(f"{run.method} trains on features; it has no encoder of its own")
    adapted = attach(encoder, run.method, run.adapter)
    if (recipe := f"{run.method} {run.adapter!r}") not in session.proven:
        size = session.backbone.preprocess.size_px
        noise = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        home = next(encoder.parameters()).device  # an earlier use may have moved what is shared there, and only that
        prove_attached(adapted.to(home).eval(), noise.to(home))
        session.proven.add(recipe)
    if run.adapter.init == "eva" and drawn:
        start_from_images(
            adapted.to(session.device),
            lambda indices: _evaluation_batch(session, run, [drawn[index] for index in indices]),
            len(drawn),
        )
    autocast = for_training(adapted, session.device, run.train.precision)
    if run.trains_text_tower:
        return TwoTowers(adapted, _text_head(session, run), autocast=autocast)
    classifier = EncoderWithHead(adapted, len(session.manifest.classes), autocast=autocast)
    weight, bias = seeded_head(adapted.feature_dim, len(session.manifest.classes), start)
    classifier.head.load_state_dict({"weight": weight, "bias": bias})
    return classifier


def _text_head(session: Session, run: RunSpec) -> TextHead:
    assert run.adapter is not None
    words = words_of(run.dataset, session.manifest.classes)
    return text_head(session.text_encoder, run.method, run.adapter, PAPER_TEMPLATE, words)
