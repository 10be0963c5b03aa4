"""Files that cannot be read are not called damaged, and no message about them advises to remove anything."""

import errno
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_store import FakeData, write_runs

from cytolora.errors import CytoloraError
from cytolora.experiments.names import read_names
from cytolora.experiments.store import Store
from cytolora.models.checkpoints.checkpoint import read_state
from cytolora.models.checkpoints.offline_folder import MANIFEST, read_manifest

FAULTS = [
    PermissionError(errno.EACCES, "Permission denied"),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ESTALE, "Stale file handle"),
]
SMALL = FakeData(num_groups=4)
ADVICE = re.compile(
    r"\b(remove|delete|move .* (away|out)|get .* again|fetch it again|(?<!that it )is damaged)", re.IGNORECASE
)


def _names(folder: Path) -> object:
    (folder / "names.json").write_text("{}", encoding="utf-8")
    return read_names(folder)


def _manifest(folder: Path) -> object:
    (folder / MANIFEST).write_text("{}", encoding="utf-8")
    return read_manifest(folder)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.strerror)
@pytest.mark.parametrize("read", [_names, _manifest])
def test_a_fault_of_the_disk_is_told_as_one(
    fault: OSError, read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object, **__: object) -> str:
        raise fault

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(CytoloraError, match=rf"Cannot read .*{fault.strerror}.*Nothing says") as caught:
        read(tmp_path)
    assert not ADVICE.search(str(caught.value))


@pytest.mark.parametrize(
    ("suffix", "fault"),
    [(".safetensors", fault) for fault in (*FAULTS, MemoryError())]
    + [(".bin", fault) for fault in (FAULTS[0], MemoryError())],  # of damaged files torch raises any other OSError
    ids=str,
)
def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(
    suffix: str, fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"content")

    def refuse(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("cytolora.models.checkpoints.checkpoint.load_file", refuse)
    monkeypatch.setattr("cytolora.models.checkpoints.checkpoint.torch.load", refuse)
    with pytest.raises(CytoloraError, match=r"(Cannot|Too little memory to) read .*weights") as caught:
        read_state(path)
    assert not ADVICE.search(str(caught.value))


@pytest.mark.parametrize(
    "fault", [pa.ArrowNotImplementedError("Support for codec 'zstd' not built"), pa.ArrowMemoryError("malloc failed")]
)
def test_predictions_that_this_installation_cannot_read_are_not_called_damaged(
    fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_runs(
        Store(tmp_path), data=FakeData(num_groups=4), models=("uni",), methods=("linear",), shots=(1,), seeds=(1,)
    )
    run = next(iter(Store(tmp_path).runs()))

    def refuse(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(pq, "read_table", refuse)
    with pytest.raises(CytoloraError, match=rf"with this installation: {fault}") as caught:
        run.predictions()
    assert not ADVICE.search(str(caught.value))
