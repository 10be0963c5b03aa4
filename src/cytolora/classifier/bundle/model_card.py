"""Model card in the format of the Hugging Face hub: YAML metadata, then Markdown."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import yaml

from cytolora.classifier.bundle.files import PEFT_CONFIG
from cytolora.classifier.bundle.manifest import BundleManifest
from cytolora.classifier.decision.statement import Statement
from cytolora.core.text import counted
from cytolora.display.format import escape_markdown as plain
from cytolora.display.format import interval, member_cells, percent, with_interval
from cytolora.metrics.intervals import LEGEND

_LICENCES = {
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "CC-BY-NC-ND-4.0": "cc-by-nc-nd-4.0",
}
"""The hub's own words for licences; any other is `other`, with its name beside."""


def render_card(
    manifest: BundleManifest, files: Collection[str], notes: Sequence[str], *, written: datetime, seconds: float
) -> str:
    """Writes the card; the only file of a bundle with times in it, and the only one that people may edit.

    Args:
        files: Paths of the bundle's files: the hub is told ``peft`` only where PEFT can load what is there.
        notes: What the user should know before trusting the classifier.
    """
    head = yaml.safe_dump(_head(manifest, files), sort_keys=False, allow_unicode=True)
    sections = [
        plain(f"# {manifest.training['dataset']}: {manifest.method} on {manifest.backbone.name}"),
        plain(f"Tells apart {', '.join(manifest.classes)}. Research use only; no diagnosis."),
        *_statement(manifest.statement),
        *_results(manifest.metrics["test"], _marked(manifest.training.get("findings", ()))),
        *_members(manifest),
        *_cautions(manifest.training.get("findings", ()), notes),
        *_training(manifest),
        *_USE,
        "## Written",
        _written(manifest, written, seconds),
    ]
    return f"---\n{head}---\n\n" + "\n\n".join(sections)


def _head(manifest: BundleManifest, files: Collection[str]) -> dict[str, Any]:
    spec, test = manifest.backbone.spec, manifest.metrics["test"]
    licence = _LICENCES.get(spec.licence, "other")
    names = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1"}
    metrics = [{"type": name, "name": title, "value": round(test[name], 4)} for name, title in names.items()]
    name = " ".join(manifest.training["dataset"].split())  # no line of it may end the head
    dataset = {"type": "image-folder", "name": name, "split": "test"}
    task = {"type": "image-classification"}
    return {
        "library_name": "peft" if PEFT_CONFIG in files else "cytolora",
        "pipeline_tag": "image-classification",
        "license": licence,
        **({"license_name": spec.licence} if licence == "other" else {}),
        **({"base_model": spec.hub.repo} if spec.hub is not None else {}),
        "tags": ["cytology", "cytolora", manifest.method],
        "model-index": [
            {
                "name": f"{name}-{manifest.backbone.name}-{manifest.method}",
                "results": [{"task": task, "dataset": dataset, "metrics": metrics}],
            }
        ],
    }


def _marked(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names, in one line below the numbers, what they cannot be read without."""
    marks = [f"{one['code']} {one['name'].replace('-', ' ')}" for one in findings if one["code"][0] in "DN"]
    return [f"Marks: {', '.join(dict.fromkeys(marks))}; see Caution."] if marks else []


def _statement(found: Statement) -> list[str]:
    criteria = [f"* {one.answer}: {plain(one.text)}" for one in found.criteria]
    return [f"## {found.title}", "\n".join(criteria)]


def _results(test: Mapping[str, Any], marked: Sequence[str]) -> list[str]:
    sets = test["prediction_sets"]
    images = f"{counted(test['n'], 'test image')} ({test['num_groups'] or 'unknown'} groups)"
    metrics = [
        (name.replace("_", " "), percent(test[name]), interval(limits)) for name, limits in test["intervals"].items()
    ]
    classes = [
        (row["label"], row["n"], with_interval(row["sensitivity"]), with_interval(row["specificity"]))
        for row in test["classes"]
    ]
    return [
        "## Results",
        f"On {images} that took no part in anything else:",
        _table(("metric", "%", "95 % interval"), metrics),
        *marked,
        f"95 % intervals for new groups, for new images where groups are not known. {LEGEND}",
        f"Prediction sets at {percent(sets['nominal'])} %: {percent(sets['coverage']['value'])} % hold the true class, "
        f"{sets['mean_size']:.2f} classes a set. Referred to a person: {percent(test['referral']['share'])} %.",
        *_operating_point(test["operating_point"]),
        _table(("class", "n", "sensitivity, %", "specificity, %"), classes),
    ]


def _operating_point(point: Mapping[str, Any] | None) -> list[str]:
    if point is None:
        return []
    return [
        f"Positive ({plain(', '.join(point['positive']))}) from a summed probability of {point['threshold']:.4f}: "
        f"sensitivity {with_interval(point['sensitivity'])} % over images, "
        f"{with_interval(point['sensitivity_over_groups'])} % over groups; specificity "
        f"{with_interval(point['specificity'])} %."
    ]


def _members(manifest: BundleManifest) -> list[str]:
    """The members of an ensemble beside it; nothing of one classifier."""
    if manifest.members is None:
        return []
    columns = ("member", "weight", "balanced accuracy, %", "ensemble minus member, points", "p (Holm)")
    return [
        "The probability of a class is the weighted mean of those of the members, each after its own temperature; "
        "paired differences on the same test images, with 95 % intervals:",
        _table(columns, [member_cells(row) for row in manifest.metrics["members"]]),
    ]


def _cautions(findings: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> list[str]:
    elsewhere = "The numbers are those of this collection: another laboratory, stain or scanner may give others."
    coded = [f"{one['code']}: {one['text']}" for one in findings]
    return ["## Caution", "\n".join(f"* {plain(text)}" for text in (*coded, *notes, elsewhere))]


def _how(training: Mapping[str, Any]) -> str:
    """The learning rate and steps of a training; of a head that was fitted without them, what it was tried on."""
    if "members" in training:
        rates = [f"{one['method']} {one['learning_rate']:g}" for one in training["members"] if one["num_steps"]]
        at = f" (learning rate of {', '.join(rates)})" if rates else ""
        names = ", ".join(one["method"] for one in training["members"])
        return f"An ensemble of {names}{at}, tried on {training['chosen_on']}"
    if not training["num_steps"]:
        return f"Fitted without steps, tried on {training['chosen_on']}"
    return f"Learning rate {training['learning_rate']:g} by {training['chosen_on']}; {training['num_steps']} steps"


def _groups(training: Mapping[str, Any]) -> str:
    """How patients, slides or fields were known; empty where they were not, or a bundle does not say."""
    rule = training.get("group_rule")
    return f"Groups: {rule}. " if rule else ""


def _training(manifest: BundleManifest) -> list[str]:
    training, backbone = manifest.training, manifest.backbone
    return [
        "## Training",
        f"{counted(training['images']['train'], 'image')} ({training['amount']}); {plain(training['split_rule'])}. "
        f"{plain(_groups(training) + _how(training))}; "
        f"{training['num_trainable']:,} trainable parameters. Data fingerprint `{training['data_fingerprint']}`.",
        f"Backbone {plain(backbone.name)} (`{backbone.sha256}`), licence {plain(backbone.spec.licence)}; its weights "
        "are not in this bundle."
        + (f" Features in {manifest.precision}, in predictions too." if manifest.precision else ""),
    ]


_USE = (
    "## Use",
    """```python
import cytolora

classifier = cytolora.load("this_folder")
print(classifier.predict("cell.png"))
```""",
)


def _written(manifest: BundleManifest, written: datetime, seconds: float) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    return f"{written:%Y-%m-%d %H:%M} UTC, in {seconds:.0f} s on {manifest.training['device']}; {plain(versions)}.\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(plain(str(cell)) for cell in line)} |" for line in lines)
