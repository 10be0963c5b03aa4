"""trackio mirror: a run of a local project for each run, by trackio's own client."""

from typing import Any

from cytolora.experiments.tracking.record import FINGERPRINT, RUN_ID, Record
from cytolora.experiments.tracking.registry import Mirror


def open_project(address: str) -> Mirror:
    """Opens a project in trackio's folder (``TRACKIO_DIR``); it is made with its first run."""
    import trackio  # pyright: ignore[reportMissingImports]
    from trackio import run, utils  # pyright: ignore[reportMissingImports]

    for module in (trackio, run, utils):  # they print how to open the dashboard, where runs may be printing a document
        vars(module)["print"] = _print_nothing
    known: dict[str, list[Any]] = {}
    for one in _runs(address):
        known.setdefault(one.name, []).append(one)

    def mirror(record: Record) -> bool:
        there = known.get(record.run_id, [])
        if any((one.config or {}).get(FINGERPRINT) == record.fingerprint for one in there):
            return False
        _log(address, record)
        for one in there:
            one.delete()  # by its own id, after the newer one is whole
        known[record.run_id] = [one for one in _runs(address) if one.name == record.run_id]
        return True

    return mirror


def _runs(project: str) -> list[Any]:
    """Returns the runs of a project that were mirrored; none where there is no such project."""
    from trackio.api import Api  # pyright: ignore[reportMissingImports]

    try:
        found = list(Api().runs(project))
    except ValueError:  # of a project that does not exist
        return []
    return [run for run in found if RUN_ID in (run.config or {})]


def _log(project: str, record: Record) -> None:
    import trackio  # pyright: ignore[reportMissingImports]

    trackio.init(
        project=project,
        name=record.run_id,
        config={**record.parameters, **record.tags, FINGERPRINT: record.fingerprint},
        resume="never",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    try:
        trackio.log(dict(record.metrics), step=0)
    finally:
        trackio.finish()


def _print_nothing(*_: object, **__: object) -> None:
    """Stands in the place of ``print``, in trackio's modules alone."""
