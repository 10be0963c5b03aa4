"""TensorBoard mirror: an event file for each run, by TensorBoard's own writer; TensorFlow and torch are not loaded."""

import io
from contextlib import suppress
from pathlib import Path

from cytolora.core.files import write_bytes
from cytolora.data.targets import check_shared
from cytolora.experiments.tracking.record import Record
from cytolora.experiments.tracking.registry import Mirror

_PREFIX, _SUFFIX = "events.out.tfevents.", ".cytolora"
"""TensorBoard reads files with ``tfevents`` in the name; the end says which are ours."""
_VERSION = "brain.Event:2"
"""First record of an event file (tensorboard/summary/writer/event_file_writer.py)."""


def open_folder(address: str) -> Mirror:
    """Opens a folder that TensorBoard shows: ``tensorboard --logdir FOLDER``."""
    root = Path(address)
    check_shared(root, option="--to")

    def mirror(record: Record) -> bool:
        folder = root / record.run_id
        path = folder / f"{_PREFIX}{record.fingerprint}{_SUFFIX}"  # no name of a host, unlike the writer's own
        if path.exists():
            return False
        content = event_file(record)
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
        for earlier in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
            if earlier != path:
                with suppress(FileNotFoundError):
                    earlier.unlink()
        return True

    return mirror


def event_file(record: Record) -> bytes:
    """Returns an event file: metrics as scalars at step 0, parameters for the page HParams, tags as a text.

    Equal records give equal bytes.
    """
    from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.plugins.text.summary_v2 import text_pb
    from tensorboard.summary.writer.record_writer import RecordWriter

    scalars = [Summary.Value(tag=name.replace(".", "/"), simple_value=value) for name, value in _sorted(record)]
    tags = "\n".join(
        ["| tag | value |", "| --- | --- |", *(f"| {name} | {tag} |" for name, tag in record.tags.items())]
    )
    parameters = dict(record.parameters)
    at = record.stored_at
    events = [
        Event(wall_time=at, file_version=_VERSION),
        Event(wall_time=at, summary=hparams_pb(parameters, trial_id=record.run_id, start_time_secs=at)),
        Event(wall_time=at, summary=text_pb("tags", tags)),
        Event(wall_time=at, summary=Summary(value=scalars)),
    ]
    written = io.BytesIO()
    writer = RecordWriter(written)
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
    return written.getvalue()


def _sorted(record: Record) -> list[tuple[str, float]]:
    return sorted(record.metrics.items())
