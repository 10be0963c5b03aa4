"""Trained adapters: what was trained is returned, whether it can be kept or not."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cytolora.classifier.fit import adapter

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3)}


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EIO, errno.EFBIG]
)
def test_a_trained_adapter_is_returned_with_one_line_where_it_cannot_be_kept(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    trained = SimpleNamespace(state=STATE)
    monkeypatch.setattr("cytolora.core.cache_folder.write_bytes", refuse)
    monkeypatch.setattr(adapter, "train_adapter", lambda session, run: trained)
    monkeypatch.setattr(adapter, "_key", lambda *_: "0" * 32)
    started: list[int] = []
    session = SimpleNamespace(cache=tmp_path)
    state = adapter._trained(session, None, None, lambda: started.append(1))  # pyright: ignore[reportArgumentType]
    assert torch.equal(state["layer.weight"], STATE["layer.weight"])
    assert started == [1]
    assert [record.getMessage() for record in caplog.records] == [
        f"Cannot keep values in {tmp_path / 'adapters'}: {os.strerror(number)}. They are made anew next time."
    ]
