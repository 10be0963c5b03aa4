"""Reference pages made from the code: a page for each public name, command and backbone, and tables of registries."""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any, Literal, get_args, get_origin

import cytolora
from cytolora.cli.app import _COMMANDS, app
from cytolora.cli.catalogue import _ROWS
from cytolora.data.datasets import DATASETS
from cytolora.models.adapters.methods import METHODS
from cytolora.models.backbones.registry import SHIPPED, BackboneSpec

VALUES = {
    "Datasets": (
        *("data.manifest.Manifest", "data.manifest.Sample", "data.quality.findings.Audit", "core.findings.Finding"),
        *("core.finding_kinds.FindingKind", "config.reading.Decoding", "classifier.leakage.report.LeakageReport"),
    ),
    "Classifiers": (
        *("classifier.decision.decide.Prediction", "classifier.bundle.manifest.BundleManifest"),
        *("classifier.inference.onnx_predictor.OnnxModel", "models.encoder.Encoder"),
        *("models.encoder_with_head.EncoderWithHead", "training.embed.Embedding"),
    ),
    "Grids and runs": (
        *("config.grid.GridSpec", "config.run.RunSpec", "experiments.plan.Plan", "experiments.store.Store"),
        *("experiments.store.StoredRun", "reporting.comparison.compare.Comparison", "api.ensembles.Ensembles"),
    ),
    "Entries of registries": (
        *("models.backbones.spec.BackboneSpec", "data.readers.spec.DatasetSpec", "models.adapters.methods.Method"),
    ),
}
"""What public functions take and return, by subject: documented beside the public names, and so are their parts."""
_FOREIGN = "BaseEstimator, ClassifierMixin, Exception, Module, Sequence"
"""Ancestors from other libraries, whose members have their documentation there."""
_ADDED = "set_fit_request, set_score_request, get_metadata_routing"
"""Members that scikit-learn adds to every estimator."""
_NO_DEFAULT = re.compile(r" \*\[default: (?:\(\)|False)\]\*")
_BAR = re.compile(r"(?<!\\)\|")
"""Ends a cell of a table, unless it is escaped."""
_CONTENTS = re.compile(r"## Table of Contents\n.*?(?=\*\*Commands\*\*)", re.DOTALL)
"""What a page of a command is without: defaults that say nothing, and a second list of its commands."""
_KINDS = {
    "Functions": inspect.isfunction,
    "Classes": lambda value: inspect.isclass(value) and not issubclass(value, Exception),
    "Errors": lambda value: inspect.isclass(value) and issubclass(value, Exception),
}


def pages() -> dict[str, str]:
    """All pages by path below ``docs/reference``, without suffix."""
    return {**_python(), **_values(), **_commands(), **_backbones(), **_tables()}


def _python() -> dict[str, str]:
    found = {f"python/{name}": _object(f"cytolora.{name}", name) for name in _public()}
    parts = ["# Python\n", "`import cytolora` loads nothing; each of these names is loaded when it is first used.\n"]
    for title, is_of in _KINDS.items():
        names = [name for name in _public() if is_of(getattr(cytolora, name))]
        parts += [f"## {title}\n", _table(("name", ""), [(f"[`{name}`]({name}.md)", _first(name)) for name in names])]
    parts += ["[Values that functions take and return](values.md): datasets, predictions, plans, stored runs.\n"]
    return {"python/index": "\n".join([*parts, _toctree(["values", *_public()])]), **found}


def _public() -> list[str]:
    return [name for name in cytolora.__all__ if name != "__version__"]


def _object(path: str, title: str) -> str:
    value: Any = getattr(cytolora, title)
    if inspect.isfunction(value):
        body = f".. autofunction:: {path}"
    else:
        members = f"   :members:\n   :inherited-members: {_FOREIGN}\n   :exclude-members: {_ADDED}"
        body = f".. autoclass:: {path}\n{'   :show-inheritance:' if issubclass(value, Exception) else members}"
    return f"# {path}\n\n```{{eval-rst}}\n.. highlight:: python\n\n{body}\n```\n"


def _first(name: str) -> str:
    return (inspect.getdoc(getattr(cytolora, name)) or "").partition("\n")[0].replace("``", "`").replace("|", r"\|")


def _values() -> dict[str, str]:
    by_title = {title: [_class_at(f"cytolora.{path}") for path in paths] for title, paths in VALUES.items()}
    named = [one for classes in by_title.values() for one in classes]
    public = [value for name in _public() if inspect.isclass(value := getattr(cytolora, name))]
    by_title["Parts of these"] = sorted(_parts([*named, *public]), key=lambda one: one.__name__)
    parts = ["# Values that functions take and return\n"]
    for title, classes in by_title.items():
        parts.append(f"## {title}\n")
        for one in classes:
            own = f"{one.__module__}.{one.__qualname__}"
            body = f".. highlight:: python\n\n.. autoclass:: {own}\n   :members:"
            parts.append(f"### {one.__name__}\n\n```{{eval-rst}}\n{body}\n```\n")
    return {"python/values": "\n".join(parts)}


def _class_at(path: str) -> type:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _parts(classes: list[type]) -> list[type]:
    """Dataclasses of this package in the annotations of classes, and in those of these parts, that are none of them."""
    seen = list(classes)
    for one in seen:  # grows while it is read
        for annotated in (one, *(_function(value) for value in vars(one).values())):
            for part in _classes_in(annotated):
                if part not in seen and is_dataclass(part) and part.__module__.startswith("cytolora."):
                    seen.append(part)
    return seen[len(classes) :]


def _function(value: Any) -> Any:
    value = getattr(value, "__func__", getattr(value, "fget", value))
    return getattr(value, "func", value)  # of a cached property


def _classes_in(annotated: Any) -> Iterator[type]:
    """Classes in annotations; those that only type checkers see are left out."""
    if not (inspect.isclass(annotated) or inspect.isfunction(annotated)):
        return
    known = vars(sys.modules[annotated.__module__])
    hints: list[Any] = list(inspect.get_annotations(annotated).values())
    while hints:
        hint = hints.pop()
        if isinstance(hint, str):
            with suppress(NameError, TypeError):
                hints.append(eval(hint, known))
        hints += () if get_origin(hint) is Literal else get_args(hint)
        if inspect.isclass(hint):
            yield hint


def _commands() -> dict[str, str]:
    rows = [(f"[`cytolora {name}`]({name}.md)", text) for name, (_, text) in _COMMANDS.items()]
    head = (
        "# Commands\n\nEvery command explains itself with `--help`. Exit codes: 0 done; 1 done, but problems were "
        "found (`check`, `doctor`); 2 something is for the user to change, said in one line. `--json` prints one JSON "
        "document to standard output; progress goes to standard error.\n"
    )
    index = "\n".join([head, _table(("command", ""), rows), _toctree(_COMMANDS)])
    return {"commands/index": index, **{f"commands/{name}": _command(name) for name in _COMMANDS}}


def _command(name: str) -> str:
    text = app[name].generate_docs(output_format="markdown", usage_name=f"cytolora {name}")
    text = _CONTENTS.sub("", _NO_DEFAULT.sub("", text))
    lines, where = text.splitlines(), _COMMANDS[name][0]
    lines[0] = f"# cytolora {name}"
    module, _, function = where.partition(":")
    value: Any = getattr(import_module(f"cytolora.cli.{module}"), function)
    return "\n".join(lines) + "\n" + (_examples(value) if inspect.isfunction(value) else "")


def _examples(function: Any) -> str:
    """What a command's docstring says between its first line and its parameters."""
    more = (inspect.getdoc(function) or "").partition("\n")[2].partition("\nParameters\n---")[0].strip("\n")
    return f"\n## Notes and examples\n\n{more}\n" if more.strip() else ""


def _backbones() -> dict[str, str]:
    rows = [
        (f"[`{one.name}`]({one.name}.md)", one.description, one.licence + (", gated" if one.gated else ""))
        for one in SHIPPED
    ]
    head = (
        "# Backbones\n\nMade from the registry: what each entry holds, and where it is from. "
        "[The guide](../../models.md) says how weights are found, checked and adapted.\n"
    )
    index = "\n".join(
        [head, _table(("name", "", "licence"), sorted(rows)), _toctree(sorted(one.name for one in SHIPPED))]
    )
    return {"backbones/index": index, **{f"backbones/{one.name}": _backbone(one) for one in SHIPPED}}


def _backbone(one: BackboneSpec) -> str:
    view = one.preprocess
    facts: Mapping[str, str] = {
        "architecture (timm)": f"`{one.architecture}`",
        "arguments": ", ".join(f"`{key}={value}`" for key, value in one.arguments.items()),
        "checkpoint": "" if one.hub is None else f"`{one.hub.filename}` of [{one.hub.repo}]({one.hub.url})",
        "revision": "" if one.hub is None or one.hub.revision is None else f"`{one.hub.revision}`",
        "layout": f"`{one.format}`",
        "pooling": f"`{one.pool}`",
        "features": "" if one.feature_dim is None else f"{one.feature_dim}",
        "text encoder": ""
        if one.text is None
        else f"{one.text.kind}, {one.text.layers} layers of width {one.text.width}",
        "input": f"{view.size_px} px, {view.resize}, {view.interpolation}",
        "mean": ", ".join(map(str, view.mean)),
        "standard deviation": ", ".join(map(str, view.std)),
        "licence": one.licence,
        "gated": "its terms must be accepted on the hub" if one.gated else "no",
        "derived weights may be passed on": {True: "yes", False: "no", None: "not known"}[one.redistributable],
        "citation": one.citation,
    }
    parts = [f"# {one.name}\n", f"{one.description}\n"]
    if one.unverified:
        parts.append("**Unverified**: no public source settles " + "; ".join(one.unverified) + ".\n")
    parts.append(_table(("", ""), [(key, value) for key, value in facts.items() if value]))
    if one.overrides:
        parts += ["## Where the entry differs from the official configuration\n", _items(one.overrides.items())]
    if one.sources:
        parts += ["## Sources\n", "\n".join(f"* {_linked(text)}" for text in one.sources) + "\n"]
    if one.hub is not None:
        get = f"cytolora weights fetch {one.name} --to weights\ncytolora weights try {one.name} --weights-dir weights"
        parts.append(f"## Commands\n\n```sh\n{get}\n```\n")
    return "\n".join(parts)


def _tables() -> dict[str, str]:
    """Pages on data, methods, grids, presets and engines: what ``ls`` lists."""
    found = {}
    for kind in ("grids", "presets", "methods", "engines"):
        rows = _ROWS[kind]()
        head = f"# {kind.capitalize()}\n\nMade from the registry; `cytolora ls {kind}` lists the same.\n"
        found[kind] = "\n".join([head, _table(rows[0], [[str(cell) for cell in row.values()] for row in rows])])
    found["methods"] += "\n## Hyper-parameters of heads\n\n" + _hyper_parameters()
    specs = [one for one in DATASETS if not one.generic]
    rows = [
        (
            f"[`{one.name}`](../datasets/{one.name}.md)",
            f"{len(one.classes)}",
            f"{sum(one.expected_counts.values()) or one.expected_total or ''}",
            one.group_rule,
            one.licence,
            one.citation,
        )
        for one in specs
    ]
    head = (
        "# Datasets\n\nMade from the registry; each name leads to the dataset's page. [Data](../data.md) says how own "
        "images are read.\n"
    )
    found["datasets"] = "\n".join([head, _table(("name", "classes", "images", "groups", "licence", "citation"), rows)])
    return found


def _hyper_parameters() -> str:
    rows = [
        (f"`{method.name}`", f"`{name}`", value.default, value.source)
        for method in METHODS
        if method.head is not None
        for name, value in method.head.values.items()
    ]
    return _table(("method", "below `head:`", "default", "source"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *lines, ""])


def _cell(text: str) -> str:
    return _BAR.sub(r"\\|", text.replace("\n", " "))


def _items(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"* **{key}**: {text}" for key, text in pairs) + "\n"


def _linked(text: str) -> str:
    return f"<{text}>" if text.startswith("https://") and " " not in text else text


def _toctree(names: Iterable[str]) -> str:
    return "```{toctree}\n:hidden:\n\n" + "\n".join(names) + "\n```\n"
