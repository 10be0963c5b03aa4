"""Publishing of a bundle: its repository into a folder, or to the Hugging Face hub in one commit."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cytolora.classifier.bundle.files import CONTENTS, HUB_CARD, Files, check_free
from cytolora.classifier.bundle.hub import is_address, name_of
from cytolora.classifier.publish.repository import repository
from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.files import write_bytes
from cytolora.core.folders import staged_folder
from cytolora.errors import BundleError, ConfigError

if TYPE_CHECKING:
    pass

_HUBS_OWN = (".gitattributes", HUB_CARD)
_RIGHTS = "A token that may write there is needed: HF_TOKEN, or `hf auth login` (huggingface.co/settings/tokens)."
Answer = TypeVar("Answer")


def publish(bundle: AnyPath, to: AnyPath, *, private: bool = False, licence_permits: bool = False) -> str:
    """Writes the repository of a bundle into a folder, or pushes it to the hub; what was there of a bundle is replaced.

    Args:
        bundle: Folder or zip file, or ``hf:OWNER/NAME``.
        to: Folder, or ``hf:OWNER/NAME``.
        private: Makes the repository private, where it is new.
        licence_permits: Says that somebody has read the backbone's licence, where its terms are not known here.

    Returns:
        The folder, or the address on the hub with the commit: ``hf:OWNER/NAME@COMMIT``.

    Raises:
        BundleError: If it is no bundle, or a byte of it has changed.
        ConfigError: If the backbone's licence forbids it, something else is there, or the hub refuses.
    """
    if not is_address(to):
        if private:
            raise ConfigError("private is for a repository on the hub, and a folder is as private as its place is.")
        folder = as_path(to, "to")
        if folder.suffix == ".zip":
            raise ConfigError(
                f"{folder} ends in .zip; publish writes a folder. `fit --out` writes bundles of one file."
            )
        _write(folder, repository(bundle, licence_permits=licence_permits))
        return str(folder)
    name = _target(to)
    files = repository(bundle, f"hf:{name}", licence_permits=licence_permits)
    return f"hf:{name}@{_push(name, files, private=private)}"


def _target(to: AnyPath) -> str:
    try:
        name, revision = name_of(to)
    except BundleError as error:
        raise ConfigError(f"{to} names no repository to publish to. Expected a folder, or hf:OWNER/NAME.") from error
    if revision is not None:
        raise ConfigError(f"{to} names a revision; publishing makes a new one. Expected hf:{name}.")
    return name


def _write(out: Path, files: Files) -> None:
    check_free(out)
    try:
        with staged_folder(out) as staging:
            for name, content in files.items():
                write_bytes(staging / name, content)
    except OSError as error:
        raise ConfigError(
            f"Cannot write {out}: {error.strerror or error}. Make room, or choose another --to."
        ) from error


def _push(name: str, files: Files, *, private: bool) -> str:
    """Commits the files as a whole: the repository is as before, or holds the bundle and nothing of an older one."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(library_name="cytolora")
    _asked(name, lambda: api.create_repo(name, private=private, exist_ok=True))
    there = set(_asked(name, lambda: api.list_repo_files(name)))
    foreign = sorted(there - set(_HUBS_OWN))
    if foreign and CONTENTS not in there:
        raise ConfigError(
            f"hf:{name} holds {foreign[0]!r} and no bundle; it would be mixed up. Name another repository."
        )
    operations: list[Any] = [CommitOperationAdd(path, content) for path, content in sorted(files.items())]
    operations += [CommitOperationDelete(path) for path in foreign if path not in files]
    made = _asked(name, lambda: api.create_commit(name, operations, commit_message="Publish the classifier"))
    return made.oid


def _asked(name: str, ask: Callable[[], Answer]) -> Answer:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    try:
        return ask()
    except HFValidationError as error:
        raise ConfigError(f"hf:{name} is no name on the hub: {' '.join(str(error).split())}") from error
    except LocalTokenNotFoundError as error:
        raise ConfigError(f"hf:{name} was not published. {_RIGHTS}") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise ConfigError(f"The hub refuses hf:{name} (HTTP {status}); nothing was published. {_RIGHTS}") from error
        said = " ".join(str(error.server_message or error).split())
        raise ConfigError(f"The hub answered hf:{name} with HTTP {status}: {said}. Nothing was published.") from error
    except (OSError, *_transport_errors()) as error:
        raise ConfigError(
            f"The hub cannot be reached for hf:{name}: {' '.join(str(error).split())[:200]}. Publish to a folder "
            "(--to FOLDER), and upload that from a machine with a network."
        ) from error


def _transport_errors() -> tuple[type[Exception], ...]:
    """Errors of the HTTP client below the hub's (httpx, or its successor), from which the hub's own inherit."""
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(one for one in HfHubHTTPError.__mro__ if one.__name__ == "HTTPError" and issubclass(one, Exception))
