"""Leakage measured beside stored runs: a file per dataset, data and backbone in the store's folder ``.leakage``.

No part of a run: its id, its folder and its identity do not know of it. Loads no torch.
"""

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cytolora.classifier.leakage.report import LeakageReport
from cytolora.config.run import RunSpec
from cytolora.config.yaml import parse_spec
from cytolora.core.cache_folder import CachedFiles
from cytolora.core.checksum import is_like_checksum
from cytolora.core.files import canonical_json, json_bytes, sha256_text
from cytolora.core.strict_json import read_json
from cytolora.errors import CytoloraError
from cytolora.experiments.store import Store, unwritable
from cytolora.experiments.stored_run import StoredRun
from cytolora.training.resources import Inputs

FOLDER = ".leakage"
"""Within a store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What was looked at: equal subjects give equal figures."""

    dataset: str
    label_map_sha256: str | None
    backbone: str
    data_fingerprint: str
    """Over classes, labels, groups, files and the rules they are decoded by."""
    weights_sha256: str

    @staticmethod
    def of(run: StoredRun) -> "Subject":
        """Returns that of a stored run."""
        return Subject(
            dataset=run.spec["dataset"],
            label_map_sha256=run.spec.get("label_map_sha256"),
            backbone=run.spec["backbone"],
            data_fingerprint=run.provenance["data_fingerprint"],
            weights_sha256=run.provenance["weights_sha256"],
        )

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{sha256_text(canonical_json(asdict(self)))[:16]}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLeakage:
    """What was measured of a subject, or why nothing was."""

    subject: Subject
    frozen: LeakageReport | None = None
    """On the frozen features of all cells."""
    adapted: LeakageReport | None = None
    """On frozen and adapted features of the test cells of one adapter run, which it was not trained on."""
    run_id: str = ""
    """That run."""
    method: str = ""
    """Its method and amount of training images, in words."""
    skipped: str = ""
    """Why nothing was measured; empty where something was."""


def read_kept(runs_dir: Path, subject: Subject) -> KeptLeakage | None:
    """Returns what a store holds of a subject; None where it holds nothing that can be read.

    A damaged file, or one that another version wrote in another form, is measured again: it holds nothing that a run
    needs. Files without a checksum, of earlier versions, are read as they are.
    """

    def decode(content: bytes) -> KeptLeakage:
        try:
            kept = parse_spec(read_json(content), KeptLeakage, subject.file)
        except CytoloraError as error:
            raise ValueError(str(error)) from error
        if kept.subject != subject:
            raise ValueError("of another subject")
        return kept

    with suppress(OSError, ValueError):
        content = (runs_dir / FOLDER / subject.file).read_bytes()
        if not is_like_checksum(content):
            return decode(content)
    return CachedFiles(runs_dir / FOLDER).read(subject.file, decode)


def keep(runs_dir: Path, kept: KeptLeakage) -> None:
    """Writes it, whole or not at all; what another process measured of adapted features meanwhile stays.

    Raises:
        StoreError: If the store cannot be written to.
    """
    plain = asdict(kept)
    for part in (plain["frozen"], plain["adapted"]):
        if part is not None:
            part["of_data"] = []  # of reading and looking: the runs keep them
    with Store(runs_dir).exclusive():
        present = read_kept(runs_dir, kept.subject)
        if present is None or present.adapted is None or kept.adapted is not None:
            try:
                CachedFiles(runs_dir / FOLDER).keep(kept.subject.file, json_bytes(plain))
            except OSError as error:
                raise unwritable(runs_dir, error) from error


def subject_today(run: RunSpec, inputs: Inputs) -> Subject | None:
    """Returns what would be looked at today; None where the images or the weights are not at hand."""
    known = inputs.known_identity(run)
    if known.data_fingerprint is None or known.weights_sha256 is None:
        return None
    return Subject(
        dataset=run.dataset,
        label_map_sha256=run.label_map_sha256,
        backbone=run.backbone,
        data_fingerprint=known.data_fingerprint,
        weights_sha256=known.weights_sha256,
    )


def is_complete(run: RunSpec, inputs: Inputs, store: Store) -> bool:
    """Whether nothing is left to measure for a stored run."""
    subject = subject_today(run, inputs)
    kept = None if subject is None else read_kept(store.root, subject)
    if kept is None:
        return subject is None
    return bool(kept.skipped or kept.adapted is not None or run.kind != "adapter")
