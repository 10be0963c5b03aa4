"""Experimental protocol in words: datasets, models, methods, seeds, learning rates, software."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from cytolora.config.run import PAPER, AdapterSpec, AugmentSpec, HeadSpec, Preprocess, PromptSpec, RunSpec, TrainSpec
from cytolora.core.findings import ORDER
from cytolora.display import format as words
from cytolora.errors import ConfigError
from cytolora.experiments.stored_run import StoredRun
from cytolora.models.adapters.head_methods import Value
from cytolora.models.adapters.methods import METHODS
from cytolora.models.adapters.prompt_methods import DEFAULT_LAM, MOMENTUM, PROMPTED
from cytolora.reporting.results.settings import Setting
from cytolora.reporting.results.variants import INITS, SCALING

_SEED = ", seed "
"""What a rule of division ends with, before the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFacts:
    """What the runs know about their dataset."""

    name: str
    classes: tuple[tuple[str, int | None], ...]
    """Each with its test images; None while no test set is scored."""
    num_test: int | None
    num_test_groups: int | None
    """None where groups are not known, or no test set is scored."""
    group_rule: str
    split_rule: str
    """All that occur, parted by semicolons."""
    warnings: tuple[str, ...]
    """On the runs together."""
    findings: tuple[Mapping[str, Any], ...]
    """Of the data, the gravest first, as plain data; ``code`` is empty in runs of before there were codes."""
    fingerprint: str


def describe_dataset(settings: Sequence[Setting]) -> DatasetFacts:
    """Gathers the facts from the settings of one dataset."""
    run = settings[0].runs[0]
    evaluations = [found for setting in settings if (found := setting.evaluation)]
    scored = evaluations[0] if evaluations else None
    names = run.provenance["classes"]
    counts = [None] * len(names) if scored is None else scored.class_counts
    return DatasetFacts(
        name=settings[0].dataset,
        classes=tuple(zip(names, counts, strict=True)),
        num_test=None if scored is None else scored.num_images,
        num_test_groups=None if scored is None else scored.num_groups,
        group_rule=run.provenance.get("group_rule") or "groups cannot be known",
        split_rule="; ".join(_by_seed(_all_of(settings, lambda run: [run.provenance.get("split_rule")]))),
        warnings=tuple(_several_test_sets({found.test_set: found.num_images for found in evaluations})),
        findings=_findings(settings),
        fingerprint=run.provenance["data_fingerprint"],
    )


def _by_seed(rules: Iterable[str]) -> list[str]:
    """Joins rules that differ in the seed they end with: ``…, seed 0, 1 and 2``."""
    seeds: dict[str, list[str]] = {}
    for rule in rules:
        start, _, seed = rule.rpartition(_SEED)
        seeds.setdefault(start + _SEED if seed.isdecimal() else rule, []).append(seed if seed.isdecimal() else "")
    return [start + words.listed(found) if any(found) else start for start, found in seeds.items()]


def _all_of(settings: Sequence[Setting], read: Callable[[StoredRun], Iterable[str | None]]) -> list[str]:
    """What the runs of the settings say, each thing once: settings may be divided differently."""
    return list(dict.fromkeys(text for setting in settings for text in read(setting.runs[0]) if text))


def _findings(settings: Sequence[Setting]) -> tuple[Mapping[str, Any], ...]:
    """Gathers the findings of all divisions, each once."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for setting in settings:
        provenance = setting.runs[0].provenance
        earlier = ({"code": "", "severity": "warning", "text": text} for text in provenance.get("data_warnings") or ())
        for one in (*(provenance.get("findings") or ()), *earlier):
            found.setdefault((one["code"], one["text"]), one)
    return tuple(sorted(found.values(), key=lambda one: ORDER.index(one["severity"])))


def _several_test_sets(sizes: Mapping[str, int]) -> Iterator[str]:
    if len(sizes) > 1:
        yield (
            f"These settings were tested on {len(sizes)} different test sets "
            f"({words.listed([*map(str, sizes.values())])} images; other splits or labels): their numbers "
            "are not of the same images. Counts of test images are those of the first."
        )


def describe_models(settings: Iterable[Setting]) -> list[dict[str, str]]:
    """Returns name, architecture, licence and weights' hash of each model."""
    found = {}
    for setting in settings:
        provenance = setting.runs[0].provenance
        backbone = provenance.get("backbone") or {}
        found[setting.model] = {
            "name": setting.model,
            "architecture": backbone.get("architecture", ""),
            "licence": backbone.get("licence", ""),
            "weights": provenance["weights_sha256"],
        }
    return [found[name] for name in sorted(found)]


def describe_methods(settings: Iterable[Setting]) -> dict[str, list[str]]:
    """Returns, per method, its training in words; several where settings differ, each under its preset."""
    found: dict[str, list[str]] = {}
    for setting in settings:
        texts = found.setdefault(setting.spec.method, [])
        text = _method_in_words(setting.spec)
        if setting.spec.preset != PAPER:
            text = f"preset {setting.spec.preset}: {text}"
        if text not in texts:
            texts.append(text)
    return found


def _method_in_words(spec: RunSpec) -> str:
    if spec.kind == "zero_shot":
        return "nothing is trained: images go to the class whose prompts are nearest"
    if spec.kind == "head":
        parts = [*head_settings(spec.method, spec.head or HeadSpec()), _augmentation(spec.train.augment)]
        steps = [] if "rates" in _head_values(spec.method) else ["no steps, no learning rate"]
        return "; ".join([*parts, _view(spec.preprocess), *steps, *_together(spec)])
    train = spec.train
    parts = [words.budget(train.budget), f"batches of {train.batch_size}"]
    if spec.kind == "prompt":
        parts += prompt_settings(spec.method, spec.prompt or PromptSpec())
    if spec.adapter is not None:
        parts += adapter_settings(spec.adapter, fields_read(spec.method, spec.adapter))
    again = "" if train.cosine_steps is None else f" that turns every {train.cosine_steps} steps"
    optimiser = f"SGD with momentum {MOMENTUM:g}" if spec.kind == "prompt" else "AdamW"
    parts.append(f"{optimiser}, weight decay {train.weight_decay:g}, {_warm_up(train)}, cosine{again}")
    parts += [_augmentation(train.augment), _view(spec.preprocess)]
    if spec.head_start == "text":
        parts.append("head starts from the class names")
    return "; ".join([*parts, train.precision, *_together(spec)])


def _together(spec: RunSpec) -> list[str]:
    return ["all images of a subset classified together"] if spec.transductive else []


def _warm_up(train: TrainSpec) -> str:
    if train.warmup_epochs is not None:
        return f"warm-up {words.count(train.warmup_epochs, 'epoch')}"
    return f"{train.warmup_steps} warm-up steps"


def prompt_settings(method: str, prompt: PromptSpec) -> list[str]:
    """Puts the hyper-parameters of prompt learning into words: what is set, else what its method takes."""
    start = "their embeddings" if prompt.tokens is None else words.count(prompt.tokens, "random vector")
    said = [f"prompt {prompt.template!r}, the words before the class trained from {start}"]
    guide = PROMPTED[method].guide
    lam = DEFAULT_LAM[guide] if prompt.lam is None else prompt.lam
    return [*said, *([f"zero-shot weighs {lam:g}"] if guide != "none" else [])]


def fields_read(method: str, adapter: AdapterSpec) -> frozenset[str]:
    """Names the fields of the adapter that a method reads.

    Of a method that only another machine has, those that are set: a run with a field that its method does not read is
    refused before it starts.
    """
    try:
        return frozenset(METHODS.get(method).uses)
    except ConfigError:
        return frozenset(entry.name for entry in fields(adapter) if getattr(adapter, entry.name) != entry.default)


def adapter_settings(adapter: AdapterSpec, reads: Collection[str]) -> list[str]:
    """Puts the fields of an adapter that its method reads into words, and no other."""
    size = f"rank {adapter.rank}" if "rank" in reads else ""
    if "prompts" in reads:
        size = f"{words.count(adapter.prompts, 'prompt')} a block"
    blocks = _blocks(adapter) if {"blocks", "last_blocks"} & set(reads) else ""
    where = f"in {blocks}" if blocks else ""
    if "targets" in reads:
        where = f"on {', '.join(adapter.targets)}" + (f" of {blocks}" if blocks else "")
    branch = {
        "alpha": f"α {adapter.alpha:g}",
        "scaling": f"scaled by {SCALING[adapter.scaling]}",
        "dropout": f"dropout {adapter.dropout:g}",
    }
    parts = [" ".join(filter(None, [size, where])), ", ".join(text for name, text in branch.items() if name in reads)]
    if adapter.init is not None and "init" in reads:
        parts.append(f"started by {INITS[adapter.init]}")
    if adapter.towers is not None and "towers" in reads:
        parts.append("in the image and the text encoder, without a head")
    if adapter.reference_attention_bug and "reference_attention_bug" in reads:
        parts.append("the wrong attention of the paper's public code")
    return list(filter(None, parts))


def head_settings(method: str, head: HeadSpec) -> list[str]:
    """Puts the hyper-parameters of a fitted head into words: what is set, else what its method takes."""
    values = _head_values(method)
    given = {name: getattr(head, name) for name in values}
    unset = {name: getattr(HeadSpec(), name) for name in values}
    cut = [] if head.step_limit is None else [f"cut to {words.count(head.step_limit, 'step')}"]
    return [
        *(f"{name} {values[name].default if given[name] == unset[name] else _plain(given[name])}" for name in values),
        *cut,
    ]


def _head_values(method: str) -> Mapping[str, Value]:
    """Returns the hyper-parameters of a fitted head, which may be a plug-in's, by name."""
    facts = METHODS.get(method).head
    return {} if facts is None else facts.values


def _plain(value: float | bool | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{one:g}" for one in value)
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def _blocks(adapter: AdapterSpec) -> str:
    if adapter.last_blocks is not None:
        return "the last block" if adapter.last_blocks == 1 else f"the last {adapter.last_blocks} blocks"
    return "all blocks" if adapter.blocks == "all" else f"blocks {', '.join(map(str, adapter.blocks))}"


def _augmentation(found: AugmentSpec | None) -> str:
    if found is None:
        return "trained on evaluation views"
    text = f"crops of {100 * found.min_scale:g} to 100 % of the area, flip {found.flip:g}"
    return text if found.interpolation is None else f"{text}, crops resized {found.interpolation}"


def _view(found: Preprocess | None) -> str:
    if found is None:
        return "each model's own view"
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (found.mean, found.std))
    return f"view: {found.resize}, {found.interpolation}, mean {mean}, standard deviation {std}"


def describe_rates(settings: Iterable[Setting]) -> dict[str, list[str]]:
    """Returns, per method, the learning rates that were tried: lists where settings differ, none for zero-shot."""
    found: dict[str, list[str]] = {}
    for setting in settings:
        lists = found.setdefault(setting.spec.method, [])
        text = ", ".join(words.rate(rate) for rate in setting.rates if rate)
        if text and setting.spec.preset != PAPER:
            text = f"preset {setting.spec.preset}: {text}"
        if text and text not in lists:
            lists.append(text)
    return found


def describe_software(runs: Sequence[StoredRun]) -> list[tuple[str, str]]:
    """Returns what computed the runs, each thing with all the values that occur."""
    facts: dict[str, set[str]] = {"device": set(), "threads": set(), "code": set()}
    for run in runs:
        found = run.provenance
        for package, version in (found.get("versions") or {}).items():
            facts.setdefault(package, set()).add(str(version))
        git = found.get("git") or {}
        if git.get("commit"):
            changed = " with uncommitted changes" if git.get("is_dirty") else ""
            facts["code"].add(f"commit {git['commit'][:12]}{changed}")
        for name in ("device", "threads"):
            if found.get(name) is not None:
                facts[name].add(str(found[name]))
    described = [(name, ", ".join(sorted(values))) for name, values in facts.items() if values]
    if unverifiable := sum(run.checksums is None for run in runs):
        text = (
            f"{unverifiable} of {words.count(len(runs), 'run')} kept none: nobody can tell whether a byte was changed"
        )
        described.append(("checksums", text))
    return described


def total_seconds(runs: Iterable[StoredRun]) -> float:
    """Adds up what the runs took."""
    return float(sum(run.provenance.get("seconds") or 0 for run in runs))
