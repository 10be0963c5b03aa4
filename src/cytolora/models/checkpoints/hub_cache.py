"""Hugging Face hub cache folders that a user names: from the cache or a repository in it to one snapshot."""

from pathlib import Path

from cytolora.errors import WeightsError
from cytolora.models.backbones.spec import BackboneSpec

_REPOSITORY = "models--"
_NUM_NAMED = 5


def snapshot_in(spec: BackboneSpec, path: Path) -> Path:
    """Returns the snapshot that a folder of the hub's cache means; any other folder as it is.

    The folder may be the cache (``hub``, or the one above it), a repository in it (``models--OWNER--NAME``) or that
    repository's ``snapshots``.

    Raises:
        WeightsError: If the cache has no repository of this backbone, or it is open which snapshot is meant.
    """
    if (path / "hub").is_dir() and _repositories(path / "hub"):
        path = path / "hub"
    if repositories := _repositories(path):
        return _snapshot(spec, _repository(spec, path, repositories))
    if path.name == "snapshots" and path.parent.name.startswith(_REPOSITORY):
        path = path.parent
    is_repository = (path / "snapshots").is_dir() and (
        path.name.startswith(_REPOSITORY) or (path / "blobs").is_dir() or (path / "refs").is_dir()
    )
    return _snapshot(spec, path) if is_repository else path


def _repositories(path: Path) -> list[Path]:
    return sorted(folder for folder in path.glob(f"{_REPOSITORY}*") if folder.is_dir())


def _repository(spec: BackboneSpec, path: Path, repositories: list[Path]) -> Path:
    own = "" if spec.hub is None else _REPOSITORY + spec.hub.repo.replace("/", "--")
    if (path / own) in repositories:
        return path / own
    repo = "" if spec.hub is None else f" {spec.hub.repo}"
    raise WeightsError(
        f"{path} is a cache of the hub without a repository{repo}; it holds {_names(repositories)}. "
        f"Name one of them if it is of {spec.name}: --weights {spec.name}={repositories[0]}."
    )


def _snapshot(spec: BackboneSpec, repository: Path) -> Path:
    snapshots = sorted(folder for folder in (repository / "snapshots").iterdir() if folder.is_dir())
    if len(snapshots) == 1:
        return snapshots[0]
    pinned = spec.hub.revision if spec.hub is not None else None
    for commit in (pinned, _main(repository)):
        if commit and repository / "snapshots" / commit in snapshots:
            return repository / "snapshots" / commit
    if not snapshots:
        raise WeightsError(
            f"{repository} holds no snapshot: its download was not finished. Fetch it again, or name another file: "
            f"--weights {spec.name}=PATH."
        )
    raise WeightsError(
        f"{repository} holds {len(snapshots)} snapshots ({_names(snapshots)}), and refs/main names none of them. "
        f"Name one: --weights {spec.name}={snapshots[0]}."
    )


def _main(repository: Path) -> str | None:
    """Returns the commit that the branch main was at when it was fetched."""
    try:
        commit = (repository / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return commit if commit.isalnum() else None


def _names(folders: list[Path]) -> str:
    return ", ".join(folder.name for folder in folders[:_NUM_NAMED]) + (", …" if len(folders) > _NUM_NAMED else "")


def commit_of(checkpoint: Path) -> str | None:
    """Returns the commit that a file of the hub's cache is of: it lies in ``snapshots/<commit>/``."""
    parents = [parent.name for parent in checkpoint.parents]
    return parents[parents.index("snapshots") - 1] if "snapshots" in parents[1:] else None
