"""The model card, in the format of the Hugging Face hub: a head that machines read, and words for people."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import yaml

from cytolora.classifier.bundle.manifest import BundleManifest
from cytolora.display.format import percent

_LICENCES = {
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "CC-BY-NC-ND-4.0": "cc-by-nc-nd-4.0",
}
"""The hub's own words for licences; any other is `other`, with its name beside."""


def render_card(contents: BundleManifest, notes: Sequence[str], written: datetime, seconds: float) -> str:
    """Writes the card; the only file of a bundle with times in it, and the only one that people may edit."""
    head = yaml.safe_dump(_head(contents), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n{_body(contents, notes)}\n## Written\n\n{_written(contents, written, seconds)}"


def _head(contents: BundleManifest) -> dict[str, Any]:
    spec, test = contents.backbone.spec, contents.metrics["test"]
    licence = _LICENCES.get(spec.licence, "other")
    names = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1"}
    metrics = [{"type": name, "name": title, "value": round(test[name], 4)} for name, title in names.items()]
    dataset = {"type": "image-folder", "name": contents.training["dataset"], "split": "test"}
    task = {"type": "image-classification"}
    return {
        "library_name": "peft" if contents.adapter is not None else "cytolora",
        "pipeline_tag": "image-classification",
        "license": licence,
        **({"license_name": spec.licence} if licence == "other" else {}),
        **({"base_model": spec.hub.repo} if spec.hub is not None else {}),
        "tags": ["cytology", "cytolora", contents.method],
        "model-index": [
            {
                "name": f"{contents.training['dataset']}-{contents.backbone.name}-{contents.method}",
                "results": [{"task": task, "dataset": dataset, "metrics": metrics}],
            }
        ],
    }


def _body(contents: BundleManifest, notes: Sequence[str]) -> str:
    training, test, sets = contents.training, contents.metrics["test"], contents.metrics["test"]["prediction_sets"]
    lines = [
        f"# {training['dataset']}: {contents.method} on {contents.backbone.name}",
        "",
        f"Tells apart {', '.join(contents.classes)}. Research use only; no diagnosis.",
        "",
        "## Results",
        "",
        f"On {test['n']} test images ({test['num_groups'] or 'unknown'} groups) that took no part in anything else:",
        "",
        "| metric | % | 95 % interval |",
        "| --- | --- | --- |",
        *(
            f"| {name.replace('_', ' ')} | {percent(test[name])} | {_range(found)} |"
            for name, found in test["intervals"].items()
        ),
        "",
        f"Prediction sets at {percent(sets['nominal'])} %: {percent(sets['coverage']['value'])} % hold the true class, "
        f"{sets['mean_size']:.2f} classes a set. Referred to a person: {percent(test['referral']['share'])} %.",
        "",
        *_point(test["operating_point"]),
        "| class | n | sensitivity, % | specificity, % |",
        "| --- | --- | --- | --- |",
        *(
            f"| {row['label']} | {row['n']} | {_share(row['sensitivity'])} | {_share(row['specificity'])} |"
            for row in test["classes"]
        ),
        "",
        "## Read with care",
        "",
        *(f"* {note}" for note in notes),
        "* The numbers are those of this collection: another laboratory, stain or scanner may give others.",
        "",
        "## Training",
        "",
        f"{training['images']['train']} images ({training['amount']}); {training['split_rule']}. "
        f"Learning rate {training['learning_rate']:g} by {training['chosen_on']}; {training['num_steps']} steps; "
        f"{training['num_trainable']:,} trainable numbers. Data fingerprint `{training['data_fingerprint']}`.",
        "",
        f"Backbone {contents.backbone.name} (`{contents.backbone.sha256}`), licence {contents.backbone.spec.licence}; "
        "its weights are not in this bundle.",
        "",
        "## Use",
        "",
        "```python",
        "import cytolora",
        "",
        'bundle = cytolora.Bundle.load("this_folder")',
        'print(bundle.predict(["cell.png"]))',
        "```",
        "",
    ]
    return "\n".join(lines)


def _written(contents: BundleManifest, written: datetime, seconds: float) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in contents.versions.items())
    return f"{written:%Y-%m-%d %H:%M} UTC, in {seconds:.0f} s on {contents.training['device']}; {versions}.\n"


def _point(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    text = f"Positive ({', '.join(found['positive'])}) from a summed probability of {found['threshold']:.4f}: "
    return [f"{text}sensitivity {_share(found['sensitivity'])} %, specificity {_share(found['specificity'])} %.", ""]


def _share(found: dict[str, float] | None) -> str:
    return "–" if found is None else f"{percent(found['value'])} ({_range(found)})"


def _range(found: dict[str, Any]) -> str:
    return f"{percent(found['low'])}–{percent(found['high'])}"
