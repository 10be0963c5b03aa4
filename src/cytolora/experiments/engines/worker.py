"""Worker of the engines: keeps an encoder, images and features, and does one unit after another."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from platform import node

import torch

from cytolora.core.cache_damage import one_notice
from cytolora.core.progress import Progress
from cytolora.errors import StoreError, WeightsError, passing
from cytolora.experiments.batch_division import WHOLE, BatchDivision
from cytolora.experiments.engines.queue import Loaded
from cytolora.experiments.engines.ranks import Follow, ranks_of
from cytolora.experiments.engines.units import Setting, Unit
from cytolora.experiments.engines.versions import check_versions
from cytolora.experiments.execute import open_session, score_chosen, train_setting
from cytolora.experiments.failures import attempt, blamed
from cytolora.experiments.store import Store
from cytolora.models.backbones.registry import BACKBONES, BackboneSpec
from cytolora.models.checkpoints.shards import checkpoint_sha256
from cytolora.models.kernels.cpu import keep_freed_memory
from cytolora.training.adapt import train_adapter
from cytolora.training.group import NoTeam, Team, join
from cytolora.training.kept_state import state_of
from cytolora.training.passes import PassSize
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

_SEEN_SECONDS = 120
"""Longest time until a result of another machine is seen: network file systems keep old listings for a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """Settings that a driver gives each of its workers at the start."""

    inputs: Inputs
    """With the manifests that the driver has read and the hashes of its checkpoints."""
    root: Path
    """The store's folder, absolute: the same on every machine."""
    device: torch.device
    threads: int
    backbones: Sequence[BackboneSpec]
    """Of the plan: those of ``--backbone-file`` are in no other process's registry."""
    versions: Mapping[str, str]
    """Of the driver's packages."""
    checkpoint_minutes: float = 10.0
    """See ``Store``."""
    division: BatchDivision = WHOLE
    """Of the batches of adapter runs."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """See ``Store``."""


@dataclass(kw_only=True)
class Worker:
    """One process; an actor of Ray, or a child process, wraps it."""

    setup: WorkerSetup
    session: Session | None = None
    store: Store | None = None
    team: Team = field(default_factory=NoTeam)
    _num_images: int = 0
    _checked: set[str] = field(default_factory=set)

    def start(self) -> None:
        """Makes ready.

        Raises:
            ConfigError: If this machine has other versions than the driver: its numbers would differ.
            StoreError: If the store's folder is not on this machine.
        """
        torch.set_num_threads(self.setup.threads)
        keep_freed_memory()
        check_versions(self.setup.versions)
        if not self.setup.root.is_dir():
            raise StoreError(f"Worker {node()} does not see {self.setup.root}. --out must be a folder that all share.")
        for spec in self.setup.backbones:
            BACKBONES.put(spec)
        self.store = Store(
            self.setup.root,
            checkpoint_minutes=self.setup.checkpoint_minutes,
            division=self.setup.division,
            packages=self.setup.packages,
        )
        if self.setup.division.processes > 1:
            self.team = ranks_of(self.setup, Progress())

    def begin(self) -> None:
        """Does nothing: its answer tells a worker that died at a unit from one that was dead before."""

    @one_notice()
    def work(self, unit: Unit | Follow) -> int:
        """Does one unit and returns the number of images trained on; or trains a run as another process does.

        Raises:
            ClaimedError: If a process of another command is at work at it.
        """
        assert self.store is not None
        self._num_images = 0
        store = self.store
        if isinstance(unit, Follow):
            self._follow(unit, store)
            return 0
        attempt(store, self.setup.inputs, unit.claim, unit.runs, lambda: self._do(unit, store))
        return self._num_images

    def _follow(self, what: Follow, store: Store) -> None:
        """Trains a run with the process that stores it; nothing is written here."""
        run = what.run
        session = self._session((run.dataset, run.backbone), (run,))
        train_adapter(
            session,
            run,
            state_of(session, run, store.states, store.checkpoint_minutes, num_processes=what.size),
            connect=partial(join, what.folder, what.rank, what.size),
            size=PassSize(at_most=what.at_most),
        )

    def _do(self, unit: Unit, store: Store) -> None:
        session = self._session(unit.key, unit.settings[0])
        for setting in unit.settings:
            with blamed(setting):
                self._do_setting(unit, setting, session, store)

    def _do_setting(self, unit: Unit, setting: Setting, session: Session, store: Store) -> None:
        if unit.only is not None:
            train_setting(session, store, setting, [unit.only])
            return
        if setting[0].kind != "adapter":
            train_setting(session, store, setting)
        else:
            self._wait_for(setting)
        score_chosen(session, store, setting)

    def _session(self, key: Loaded, setting: Setting) -> Session:
        """Returns what the last unit used if this one needs the same, so that nothing is loaded twice in a row."""
        assert self.store is not None
        manifest = self.setup.inputs.manifest(key[0], setting[0].split)  # another division is another session
        held = self.session
        if held is not None and (held.dataset, held.backbone.name) == key and held.manifest is manifest:
            return held
        self._check_weights(key[1])
        progress = Progress(done=self._count)
        self.session = None
        self.session = session = open_session(
            setting[0],
            self.setup.inputs,
            self.store,
            device=self.setup.device,
            progress=progress,
            before=held,
            team=self.team,
        )
        return session

    def _count(self, images: int) -> None:
        self._num_images += images

    def _check_weights(self, backbone: str) -> None:
        """Compares the checkpoint of this machine with the driver's, under whose hash results are stored."""
        if backbone in self._checked:
            return
        expected = self.setup.inputs.weights_sha256(backbone)
        own = checkpoint_sha256(self.setup.inputs.weights_path(backbone))
        if own != expected:
            raise passing(
                WeightsError(
                    f"Worker {node()} has another checkpoint of {backbone} (SHA-256 {own[:12]}) than the driver "
                    f"({expected[:12]}). Name one file that all machines see: --weights {backbone}=PATH."
                )
            )
        self._checked.add(backbone)

    def _wait_for(self, setting: Setting) -> None:
        """Waits until the runs of a setting that others finished are seen here."""
        assert self.store is not None
        deadline = time.monotonic() + _SEEN_SECONDS
        missing = [run.run_id for run in setting]
        while missing := [name for name in missing if self.store.find(name) is None]:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"Worker {node()} does not see {missing[0]} in {self.store.root}, which another worker has stored. "
                    "--out must be a folder that all machines share."
                )
            time.sleep(1)
