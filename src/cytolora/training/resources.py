"""Inputs of runs, each read once: manifests, splits, checkpoint files, and the hashes of all three."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cytolora.config.groups_from import NONE
from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.config.run import PromptSpec, RunSpec, Sampling, SplitSpec
from cytolora.core.arguments import AnyPath, Converted, as_named_paths, as_path_or_none
from cytolora.core.findings import Finding, refuse_errors
from cytolora.core.identity import Identity, prompts_hash
from cytolora.core.progress import Progress
from cytolora.data.datasets import DATASETS, load_manifest
from cytolora.data.label_map import apply_label_map
from cytolora.data.manifest import Manifest, Split
from cytolora.data.pooling import Pool, load_pool
from cytolora.data.splitting.findings import of_division, refuse_one_class
from cytolora.data.splitting.split_files import read_split
from cytolora.data.splitting.splits import assign_subsets, draw
from cytolora.errors import ConfigError, WeightsError
from cytolora.models.adapters.methods import METHODS
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.checkpoints.hub import fetch, fetch_vocabulary, find, find_vocabulary, missing
from cytolora.models.checkpoints.offline_folder import carried, check_carried
from cytolora.models.checkpoints.shards import checkpoint_sha256
from cytolora.models.text.prompts import PAPER_TEMPLATE, TEMPLATES, prompts

_NamedPaths = Converted[Mapping[str, AnyPath] | None, Mapping[str, Path]]
_MaybePath = Converted[AnyPath | None, Path | None]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Datasets and checkpoints of this machine; loads no torch."""

    data: _NamedPaths = Converted(as_named_paths)
    """Folder of each dataset, by the dataset's name in the grid."""
    weights: _NamedPaths = Converted(as_named_paths, None)
    """Checkpoint file or folder of a backbone; replaces the registry's."""
    weights_dir: _MaybePath = Converted(as_path_or_none, None)
    """Folder written by ``cytolora weights fetch``; looked into before the hub's cache."""
    trust_weights: bool = False
    """Goes on by a backbone's entry where a configuration beside its weights says otherwise."""
    split_file: _MaybePath = Converted(as_path_or_none, None)
    """Says which image is in train, val or test; replaces official subsets and the grid's own split."""
    label_map: _MaybePath = Converted(as_path_or_none, None)
    """Gives classes other names, or joins some."""
    pool: Pool | None = None
    """Datasets that are read as one, under the pool's name."""
    reading: ReadOptions = AS_IT_STANDS
    """What the files of a dataset leave to choose."""
    _undivided: dict[tuple[str, str | None], Manifest] = field(default_factory=dict)
    _manifests: dict[tuple[str, SplitSpec], Manifest] = field(default_factory=dict)
    _splits: dict[tuple[str, SplitSpec, Sampling, int], Split] = field(default_factory=dict)
    _hashes: dict[str, str] = field(default_factory=dict)
    _weight_findings: dict[str, tuple[Finding, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.weights:
            BACKBONES.get(name)
        if self.weights_dir is not None:
            carried(self.weights_dir)  # a name mistyped would be passed over, and the hub asked

    def without_missing(self) -> "Inputs":
        """Returns the inputs less the folders that do not exist (yet): a plan draws no cells."""
        present = {name: path for name, path in self.data.items() if path.exists()}
        return replace(self, data=present, pool=self.pool if self.pool and self.pool.exists else None)

    def absolute(self) -> "Inputs":
        """Returns the inputs, with what was read so far, for a process that works in another folder."""
        return replace(
            self,
            data={name: path.absolute() for name, path in self.data.items()},
            weights={name: path.absolute() for name, path in self.weights.items()},
            weights_dir=self.weights_dir and self.weights_dir.absolute(),
            split_file=self.split_file and self.split_file.absolute(),
            label_map=self.label_map and self.label_map.absolute(),
            pool=self.pool and self.pool.absolute(),
            _undivided={
                key: replace(manifest, root=manifest.root.absolute()) for key, manifest in self._undivided.items()
            },
            _manifests={
                key: replace(manifest, root=manifest.root.absolute()) for key, manifest in self._manifests.items()
            },
        )

    def manifest(self, dataset: str, split: SplitSpec) -> Manifest:
        """Returns the dataset with hashes and with every image in train, val or test."""
        key = (dataset, split)
        if key not in self._manifests:
            if not self._is_here(dataset):
                raise ConfigError(f"Where is {dataset}? Name its folder with --data {dataset}=PATH.")
            self._manifests[key] = self._divide(dataset, split)
        return self._manifests[key]

    def has_official_test(self, dataset: str) -> bool:
        """Whether the dataset itself names test images, so that no split seed changes them.

        Where no folder is named, as the dataset's entry says.
        """
        if not self._is_here(dataset):
            return "test" in DATASETS.get(dataset.partition(":")[0]).expected_subsets
        return any(sample.subset == "test" for sample in self._read(dataset, None).samples)

    def _is_here(self, dataset: str) -> bool:
        return dataset in self.data or (self.pool is not None and dataset == self.pool.name)

    def _read(self, dataset: str, groups_from: str | None) -> Manifest:
        """Reads a dataset, once for all its divisions."""
        from cytolora.data.quality.confounded import classes_that_are_their_source  # these load numpy
        from cytolora.data.quality.group_test import groups_suspected

        key = (dataset, groups_from)
        if key not in self._undivided:
            reading = replace(self.reading, groups_from=groups_from)
            if self.pool is not None and dataset == self.pool.name:
                manifest = load_pool(self.pool, reading)
            else:
                manifest = load_manifest(self.data[dataset], dataset, reading=reading)
            suspected = groups_suspected(manifest)
            if self.label_map is not None:
                manifest = apply_label_map(manifest, self.label_map)
            refuse_one_class(manifest)
            confounded = classes_that_are_their_source(manifest.samples, manifest.classes)
            self._undivided[key] = replace(manifest, findings=(*manifest.findings, *suspected, *confounded))
        return self._undivided[key]

    def _divide(self, dataset: str, split: SplitSpec) -> Manifest:
        manifest = self._read(dataset, split.groups_from or (NONE if self.reading.groups_from == NONE else None))
        divided = assign_subsets(manifest, split) if self.split_file is None else read_split(self.split_file, manifest)
        findings = (*manifest.findings, *of_division(divided))
        refuse_errors(manifest.name, findings)
        return replace(divided, findings=findings)

    def changed_pixels(self, spec: RunSpec, stored_fingerprint: str | None) -> tuple[str, ...]:
        """Says which pixel rules alone make a dataset another one than that of a stored run; empty for any other."""
        if not self._is_here(spec.dataset):
            return ()
        manifest = self.manifest(spec.dataset, spec.split)
        return tuple(manifest.changed_pixels()) if stored_fingerprint == manifest.fingerprint_before else ()

    def split(self, spec: RunSpec) -> Split:
        """Returns the images that a run sees."""
        key = (spec.dataset, spec.split, spec.sampling, spec.seed)
        if key not in self._splits:
            self._splits[key] = draw(self.manifest(spec.dataset, spec.split), spec.sampling, spec.seed)
        return self._splits[key]

    def weights_path(self, backbone: str) -> Path:
        """Returns a backbone's checkpoint file on this machine; downloads nothing.

        Raises:
            WeightsError: If none is here.
        """
        spec = BACKBONES.get(backbone)
        path = find(spec, self.weights.get(backbone), self.weights_dir)
        if path is None:
            raise missing(spec)
        return path

    def fetch_weights(self, backbone: str, progress: Progress | None = None) -> bool:
        """Downloads a backbone's checkpoint where it is not on this machine; returns whether it did.

        Raises:
            WeightsError: If it is neither here nor to be had.
        """
        spec = BACKBONES.get(backbone)
        if find(spec, self.weights.get(backbone), self.weights_dir) is not None:
            return False
        fetch(spec, progress)
        return True

    def fetch_vocabulary(self, backbone: str) -> None:
        """Downloads the words of a backbone's text encoder, where it needs a file of them and has none here.

        Raises:
            WeightsError: If they are neither here nor to be had.
        """
        spec = BACKBONES.get(backbone)
        if find_vocabulary(spec, self.weights_path(backbone)) is None:
            fetch_vocabulary(spec)

    def weights_sha256(self, backbone: str) -> str:
        """Returns the hash of a backbone's checkpoint; of a sharded one, over index and shards.

        Raises:
            WeightsError: If none is here, or it is not what the manifest of ``weights_dir`` says.
        """
        if backbone not in self._hashes:
            path = self.weights_path(backbone)
            sha256 = checkpoint_sha256(path)
            if self.weights_dir is not None:
                check_carried(self.weights_dir, path, sha256)
            self._hashes[backbone] = sha256
        return self._hashes[backbone]

    def weight_findings(self, backbone: str) -> tuple[Finding, ...]:
        """Compares a backbone's entry with the configurations beside its weights; builds the encoder, so loads torch.

        Raises:
            WeightsError: If none of them agrees with the entry and ``trust_weights`` is not set.
        """
        from cytolora.models.checkpoints.contradictions import check_neighbours

        if backbone not in self._weight_findings:
            self._weight_findings[backbone] = check_neighbours(
                BACKBONES.get(backbone), self.weights_path(backbone), trust_weights=self.trust_weights
            )
        return self._weight_findings[backbone]

    def identity(self, spec: RunSpec) -> Identity:
        """Returns the hashes of what a run would be computed from today."""
        return Identity(
            weights_sha256=self.weights_sha256(spec.backbone),
            data_fingerprint=self.manifest(spec.dataset, spec.split).fingerprint,
            split_fingerprint=self.split(spec).fingerprint,
            prompts_sha256=prompts_hash(self.prompts(spec)),
        )

    def known_identity(self, spec: RunSpec) -> Identity:
        """Like ``identity``, with None for what is not at hand: no folder named, no checkpoint on this machine."""
        try:
            weights = self.weights_sha256(spec.backbone)
        except WeightsError:
            weights = None
        if not self._is_here(spec.dataset):
            return Identity(weights_sha256=weights, data_fingerprint=None, split_fingerprint=None)
        manifest, split = self.manifest(spec.dataset, spec.split), self.split(spec)
        return Identity(
            weights_sha256=weights,
            data_fingerprint=manifest.fingerprint,
            split_fingerprint=split.fingerprint,
            prompts_sha256=prompts_hash(self.prompts(spec)),
        )

    def prompts(self, spec: RunSpec) -> dict[str, list[str]] | None:
        """Returns what a run asks the text encoder, by class; None where it asks nothing.

        Zero-shot and heads that read text average all templates; a head starts from the paper's alone, as in its public
        code. Prompt learning starts from its own template, the first of each class; where zero-shot guides it, the
        others are that teacher's. What trains in both towers has the paper's template, as a head that starts from text.
        """
        if not spec.needs_text:
            return None
        templates = [PAPER_TEMPLATE] if spec.kind == "adapter" or spec.head_start == "text" else TEMPLATES
        if (facts := METHODS.get(spec.method).prompt) is not None:
            guides = TEMPLATES if facts.guide != "none" else ()
            templates = [(spec.prompt or PromptSpec()).template, *guides]
        return prompts(spec.dataset, self.manifest(spec.dataset, spec.split).classes, templates)
