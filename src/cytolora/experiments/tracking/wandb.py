"""Weights & Biases mirror: an offline run of W&B's own client for each run, for ``wandb sync``; nothing is sent."""

import os
import shutil
from pathlib import Path
from typing import Any

from cytolora.core.folders import staged_folder
from cytolora.data.targets import check_shared
from cytolora.errors import ConfigError
from cytolora.experiments.tracking.record import FINGERPRINT, Record
from cytolora.experiments.tracking.registry import Mirror

_OF_OFFLINE_RUNS = "offline-run-"
"""How the folder of a run is named that ``wandb sync`` takes by itself."""
_MARK = "fingerprint.txt"
_SETTINGS: dict[str, Any] = {
    **{"mode": "offline", "console": "off", "silent": True, "symlink": False, "host": "none", "username": "none"},
    **{"disable_git": True, "disable_code": True, "save_code": False, "disable_job_creation": True},
    **{"x_disable_meta": True, "x_disable_stats": True, "x_disable_machine_info": True, "x_save_requirements": False},
}
"""Of W&B's client: no network, and nothing of the machine or of the folder that the command runs in."""


def open_project(address: str) -> Mirror:
    """Opens the folder of a project, named like the project; W&B's service is started, which takes a second."""
    folder = Path(address)
    check_shared(folder, option="--to")
    project = folder.absolute().name
    if not project:
        raise ConfigError(f"wandb:{address} names no project. Expected wandb:PROJECT, or a folder named like it.")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its makers are told of nothing
    import wandb  # pyright: ignore[reportMissingImports]

    wandb.setup(wandb.Settings(**_SETTINGS))

    def mirror(record: Record) -> bool:
        run_folder = folder / f"{_OF_OFFLINE_RUNS}{record.run_id}"
        mark = run_folder / _MARK
        if mark.is_file() and mark.read_text(encoding="utf-8") == record.fingerprint:
            return False
        folder.mkdir(parents=True, exist_ok=True)
        with staged_folder(run_folder) as staged:
            _write(staged, project, record)
            (staged / _MARK).write_text(record.fingerprint, encoding="utf-8")
        return True

    return mirror


def _write(folder: Path, project: str, record: Record) -> None:
    """Leaves the file of an offline run in a folder; its logs, which name folders of the machine, are removed."""
    import wandb  # pyright: ignore[reportMissingImports]

    run = wandb.init(
        dir=folder,
        project=project,
        id=record.run_id,
        name=record.run_id,
        resume="allow",  # a run that was sent before is brought up to date
        config={**record.parameters, **record.tags, FINGERPRINT: record.fingerprint},
        settings=wandb.Settings(**_SETTINGS),
    )
    own = Path(run.settings.sync_file)
    run.summary.update(dict(record.metrics))
    run.finish()
    own.rename(folder / own.name)
    shutil.rmtree(folder / "wandb")
