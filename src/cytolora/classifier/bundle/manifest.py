"""Bundle manifest, ``bundle.json``: plain data that is checked whole before anything else is read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from cytolora.classifier.decision.rules import Conformal, DecisionRules, OperatingPoint, OutOfDistribution
from cytolora.classifier.decision.statement import Statement, state
from cytolora.config.components import CLOSED
from cytolora.config.method_kinds import ENSEMBLE
from cytolora.config.reading import Decoding
from cytolora.config.run import AdapterSpec, Preprocess, method_kind, to_plain
from cytolora.config.yaml import parse_spec
from cytolora.core.files import canonical_json, sha256_text
from cytolora.core.schema import (
    COUNT,
    NAME,
    NUMBER,
    SEED,
    SHA256,
    SHARE,
    Checks,
    check_fields,
    check_plain,
    present,
    problem_in,
)
from cytolora.core.schema import shown as short
from cytolora.core.strict_json import read_json
from cytolora.errors import BundleError, ConfigError, CytoloraError, WeightsError
from cytolora.models.backbones.spec import BackboneSpec, what_else_it_loads
from cytolora.models.checkpoints.shards import checkpoint_bytes, checkpoint_sha256

FORMAT = 1
"""Of the folder; a bundle of a later format is refused, never read by half."""

_OWN_HASH = "sha256"
_HEADS = ("linear", "head")
"""Kinds of methods that train a head on frozen features."""
_ROUNDING = 1e-6
"""Of a sum of weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """The checkpoint on the machine that trained; it counts only while size and SHA-256 are what they were."""

    path: str
    """Absolute; of a sharded checkpoint its index."""
    num_bytes: int
    """Of all files of the checkpoint."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if not Path(self.path).is_absolute() or self.num_bytes < 0:
            raise BundleError(f"local_file is an absolute path and a size, got {self.path!r} and {self.num_bytes}.")

    def problem(self, sha256: str) -> str:
        """Says why the file cannot be used for one of this hash; empty if it can."""
        path = Path(self.path)
        try:
            if not path.is_file():
                return "is not there"
            if checkpoint_bytes(path) != self.num_bytes or checkpoint_sha256(path) != sha256:
                return "has changed since"
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        except WeightsError:
            return "lacks shards, or its index has changed"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedBackbone:
    """The frozen encoder that a bundle was trained on; its weights are no part of the bundle."""

    name: str
    sha256: str
    """Of the checkpoint file, 64 hexadecimal digits."""
    revision: str | None = None
    """Commit on the hub, where known."""
    spec: BackboneSpec
    """All that is needed to build the encoder again, but for the path of the file on one machine."""
    local_file: LocalFile | None = None
    """Where the file was; None in bundles of one file, which are handed on, and in those of before."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        check_fields(self, {"name": NAME, "sha256": SHA256, "revision": NAME})
        if self.spec.weights is not None:
            raise ConfigError(f"spec.weights is null, for a bundle names no file, got {short(str(self.spec.weights))}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One head of an ensemble."""

    method: str
    """``linear`` or a fitted head."""
    temperature: float
    """Its logits are divided by it before the softmax; above 0."""
    weight: float
    """Of its probabilities in the mean, in [0, 1]; those of all members add up to 1."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        check_fields(self, {"method": NAME, "temperature": NUMBER, "weight": SHARE})
        if method_kind(self.method) not in _HEADS or self.temperature <= 0:
            raise BundleError(
                "A member of an ensemble is a head with a temperature above 0, got "
                f"{short(self.method)} and {self.temperature:g}."
            )


@dataclass(frozen=True, kw_only=True)
class BundleManifest:
    """Everything that ``bundle.json`` holds, under its own keys, but for its hash of itself."""

    format: int = FORMAT
    classes: tuple[str, ...]
    """In the order of the logits."""
    backbone: UsedBackbone
    preprocess: Preprocess
    decoding: Decoding | None = None
    """How image files became pixels in training; None in bundles of before: the rules of version 1."""
    precision: Literal["int8"] | None = None
    """Of the features that the head was fitted to, and predicts from; None: fp32."""
    method: str
    """``ensemble`` where there are ``members``."""
    members: tuple[Member, ...] | None = None
    """Heads whose probabilities are averaged, in the order of their weights in the file; None: one head."""
    adapter: AdapterSpec | None = None
    """None for ``linear``."""
    seed: int
    """The adapter's start; some methods keep random parts that only the seed gives back."""
    temperature: float
    """Logits are divided by it before the softmax; above 0."""
    operating_point: OperatingPoint | None = None
    conformal: Conformal | None = None
    unfamiliar: OutOfDistribution | None = None
    training: Mapping[str, Any]
    """Fingerprints of data and split, counts, rules, learning rate, steps, settings."""
    metrics: Mapping[str, Any]
    """On the test images, and on the calibration images."""
    versions: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of every other file, by its path in the bundle."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        check_fields(self, {"method": NAME, "seed": SEED})
        if self.preprocess != self.backbone.spec.preprocess:
            raise BundleError("preprocess is not that of the backbone.")
        self._check_members()
        is_frozen = self.method == ENSEMBLE or method_kind(self.method) in (*_HEADS, "prompt")
        if (self.adapter is None) != is_frozen:
            raise BundleError(f"method {self.method!r} and adapter {self.adapter} do not fit.")
        if self.precision and self.adapter is not None:
            raise BundleError(f"precision {self.precision} is for frozen encoders, and {self.method} trains one.")
        if wrong := _wrong_in_metrics(self.metrics):
            raise ConfigError(f"metrics {wrong}.")
        for name, digest in self.files.items():
            if not SHA256.is_right(digest):
                raise ConfigError(f"files: {name} has {short(digest)}, expected {SHA256.expected}.")
        _ = self.rules  # checked now, not when a prediction is made

    def _check_members(self) -> None:
        members = self.members or ()
        if (self.method == ENSEMBLE) != (len(members) > 1) or (self.members is not None and len(members) < 2):
            raise BundleError(f"method {self.method!r} and {len(members)} members do not fit.")
        if members and abs(sum(one.weight for one in members) - 1) > _ROUNDING:
            raise BundleError("the weights of the members do not add up to 1.")

    @cached_property
    def rules(self) -> DecisionRules:
        """The rules that predictions are made by."""
        return DecisionRules(
            classes=self.classes,
            temperature=self.temperature,
            operating_point=self.operating_point,
            conformal=self.conformal,
            out_of_distribution=self.unfamiliar,
        )

    @property
    def statement(self) -> Statement:
        """Whether the classifier does what was asked, by its test images."""
        return state(self.metrics, self.rules)


_TEST = {"accuracy": SHARE, "balanced_accuracy": SHARE, "macro_f1": SHARE, "calibration_error": SHARE, "n": COUNT}
_LIMITS: Checks = {"low": SHARE, "high": SHARE}


def _wrong_in_metrics(metrics: Mapping[str, Any]) -> str:
    """Names what is wrong in those metrics that are read again when a bundle is opened; empty where nothing is."""
    test = metrics.get("test", {})
    if not isinstance(test, Mapping):
        return f"has 'test' {short(test)}, which is not an object"
    intervals = test.get("intervals", {})
    if not isinstance(intervals, Mapping):
        return f"has 'test.intervals' {short(intervals)}, which is not an object"
    wrong = (problem_in(limits, _LIMITS, f"test.intervals.{name}.") for name, limits in intervals.items())
    return problem_in(test, present(test, _TEST), "test.") or next(filter(None, wrong), "")


def check_harmless(spec: BackboneSpec) -> None:
    """Raises a BundleError if building the encoder could fetch or open anything but the checkpoint that was named."""
    if why := what_else_it_loads(spec.architecture, spec.arguments):
        raise BundleError(why)


def to_text(manifest: BundleManifest, *, stays_here: bool = False) -> str:
    """Serialises a manifest with its hash; equal manifests give equal text.

    Args:
        stays_here: Keeps the paths of this machine; False for whatever is handed on.
    """
    if not stays_here:
        manifest = replace(manifest, backbone=replace(manifest.backbone, local_file=None))
    plain = to_plain(manifest)
    return _text({**plain, _OWN_HASH: sha256_text(canonical_json(plain))})


def from_text(content: bytes, source: str) -> BundleManifest:
    """Reads and checks ``bundle.json``; ``source`` names it in errors.

    Raises:
        BundleError: If a byte is not as it was written, or a key is unknown, missing or of a wrong kind.
    """
    try:
        return _from_plain(_parsed(content, source), content, source)
    except RecursionError as error:
        raise _changed(source, "it is nested too deeply") from error


def _from_plain(plain: dict[str, Any], content: bytes, source: str) -> BundleManifest:
    if plain.get("format") != FORMAT:
        written = plain.get("format")
        raise BundleError(
            f"{source} has format {written!r}, this version reads {FORMAT}. Open it with the version that wrote it."
        )
    promised = plain.pop(_OWN_HASH, None)
    if promised != sha256_text(canonical_json(plain)) or content != _text({**plain, _OWN_HASH: promised}).encode():
        raise _changed(source, "its hash of itself does not fit")
    if wrong := check_plain(plain):
        raise BundleError(f"{source} {wrong}. Get the bundle again.")
    try:
        manifest = parse_spec(plain, BundleManifest, source)
        check_harmless(manifest.backbone.spec)
    except BundleError as error:
        raise BundleError(f"{source}: {error}") from error
    except CytoloraError as error:
        raise BundleError(str(error)) from error
    if wrong := _read_otherwise(plain, to_plain(manifest)):
        raise BundleError(f"{source} {wrong}; it was written by another version, or by hand.")
    return manifest


def _parsed(content: bytes, source: str) -> dict[str, Any]:
    try:
        plain = read_json(content.decode(), pairs=_no_twins)
    except ValueError as error:
        raise _changed(source, str(error)) from error
    if not isinstance(plain, dict):
        raise _changed(source, f"it holds a {type(plain).__name__}")
    return plain


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key stands there twice")
    return table


def _read_otherwise(given: Any, known: Any, where: str = "") -> str:
    """Names the first key that reading did not take up, or value that it took for another; empty if there is none."""
    if isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            path = f"{where}.{key}" if where else key
            wrong = _read_otherwise(value, known[key], path) if key in known else f"holds the unknown key {path!r}"
            if wrong:
                return wrong
        return ""
    if isinstance(given, list) and isinstance(known, list) and len(given) == len(known):
        pairs = zip(given, known, strict=True)
        return next(filter(None, (_read_otherwise(value, read, where) for value, read in pairs)), "")
    if given != known or isinstance(given, bool) != isinstance(known, bool):
        return f"has {where!r} {short(given)}, expected a value of the type of {short(known)}"
    return ""


def _changed(source: str, why: str) -> BundleError:
    return BundleError(f"{source} is not as it was written ({why}). Get the bundle again.")


def _text(plain: Mapping[str, Any]) -> str:
    return json.dumps(plain, indent=2, sort_keys=True, allow_nan=False) + "\n"
