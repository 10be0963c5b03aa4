"""Options that a labelling project has settled: its model, shares and groups; others are refused, not ignored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytolora.errors import ConfigError, WeightsError
from cytolora.labelling.adapt import ABOUT, FOLDER
from cytolora.labelling.cells import FOLDERS
from cytolora.labelling.project import FEATURES, Description
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.checkpoints.hub import find, missing
from cytolora.models.checkpoints.offline_folder import check_carried, find_carried
from cytolora.models.checkpoints.shards import checkpoint_sha256


def with_carried(
    model: str, weights: Mapping[str, Path], folder: Path | None, known: Mapping[str, str]
) -> dict[str, Path]:
    """Adds the checkpoint that a folder of `cytolora weights fetch` has of a backbone, unless one is named.

    Args:
        known: That the project has already; other ones are compared with the hash that the folder promises.

    Raises:
        ConfigError: If the backbone is unknown.
        WeightsError: If the folder is none, or does not hold what it promises.
    """
    found = None if folder is None else find_carried(folder, BACKBONES.get(model).name)
    if folder is None or found is None or model in weights:
        return dict(weights)
    if str(found.resolve()) != known.get(model):
        check_carried(folder, found, checkpoint_sha256(found))
    return {**weights, model: found}


def check_model(model: str, weights: Mapping[str, Path]) -> None:
    """Checks the backbone of a project and what its weights are named by.

    Raises:
        ConfigError: If the backbone is unknown, or weights of another one are named.
        WeightsError: If the weights that are named are not there.
    """
    spec = BACKBONES.get(model)
    other = next((name for name in weights if BACKBONES.get(name).name != model), None)
    if other is not None:
        raise ConfigError(
            f"--weights names a checkpoint of {other}, and the model of the project is {model}, so that it would not "
            f"be used. Add --model {other}, or leave it out."
        )
    find(spec, weights.get(model))


def absent_weights(about: Description) -> str | None:
    """Says that the weights of a project's backbone are not on this machine, and what comes of it; None: they are."""
    spec = BACKBONES.get(about.model)
    named = about.weights.get(about.model)
    try:
        if find(spec, None if named is None else Path(named)) is not None:
            return None
    except WeightsError as error:  # they were there when the project was made
        return str(error)
    if spec.hub is None:
        return str(missing(spec))
    gate = f", gated: accept the terms at {spec.hub.url} first" if spec.gated else ""
    return (
        f"The weights of {spec.name} are not on this machine: they are fetched from {spec.hub.repo} while you label"
        f"{gate}. Until they are there, cells come without predictions and the map is empty."
    )


def check_settled(
    folder: Path,
    about: Description,
    *,
    test_share: float | None,
    seed: int | None,
    groups: str | None,
    dataset: str | None,
) -> None:
    """Refuses options that would not act on a project that is there; None is an option that was not given.

    Raises:
        ConfigError: If one differs from what the project was made with.
    """
    settled: dict[str, tuple[Any, Any]] = {
        "--test-share": (about.test_share, test_share),
        "--seed": (about.seed, seed),
        **_settled_reading(about, groups, dataset),
    }
    for option, (own, asked) in settled.items():
        if asked is not None and asked != own:
            made = f"without {option}" if own is None else f"with {option} {own}"
            raise ConfigError(
                f"{folder} was made {made}, before its first label, and {option} {asked} asks for something else. "
                "Leave it out, or make another project with another --out."
            )


def _settled_reading(about: Description, groups: str | None, dataset: str | None) -> dict[str, tuple[Any, Any]]:
    if about.groups_from is not None:
        return {"--groups-from": (about.groups_from or None, groups), "--dataset": (about.dataset or None, dataset)}
    by_folders = about.group_rule.endswith(f"(--groups-from {FOLDERS})")  # all that an earlier version tells
    return {"--groups-from": (FOLDERS, groups)} if by_folders else {}


def changed_model(
    folder: Path, about: Description, model: str | None, weights: Mapping[str, Path] | None
) -> dict[str, Any]:
    """Returns what of the description another model or checkpoint changes; nothing where it is the project's own.

    Args:
        weights: None or empty: the project's own stay.

    Raises:
        ConfigError: If the model, or the project's own, is unknown; or the project holds features of another model or
            checkpoint.
        WeightsError: If the weights that are named are not there.
    """
    name = model or about.model
    own = dict(about.weights) if name == about.model else {}
    named = {key: str(path.resolve()) for key, path in (weights or {}).items()} or own
    if model is None and not weights:
        try:
            BACKBONES.get(name)
        except ConfigError as error:  # of an earlier version, which did not look
            raise ConfigError(f"{folder}: {error} Name the model that was meant with --model.") from error
        return {}
    check_model(name, {key: Path(path) for key, path in named.items()})
    if (name, named) == (about.model, dict(about.weights)):
        return {}
    told_by = {FEATURES: folder / FEATURES, FOLDER: folder / FOLDER / ABOUT}
    held = [str(folder / part) for part, file in told_by.items() if file.exists()]
    if held:
        whose = f"{about.model}{''.join(f' ({path})' for path in about.weights.values())}"
        raise ConfigError(
            f"{folder} has features of {whose}, and other weights would give others. Leave --model, --weights and "
            f"--weights-dir out; or stop what has the project open, remove {' and '.join(held)} (labels stay), and "
            "give them again."
        )
    return {"model": name, "weights": named}
