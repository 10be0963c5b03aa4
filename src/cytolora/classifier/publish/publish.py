"""Publishing of a bundle: its repository into a folder, or to the Hugging Face hub in one commit."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeVar

from cytolora.classifier.bundle.files import CONTENTS, HUB_CARD, Files, write_files
from cytolora.classifier.bundle.hub import is_address, name_of, transport_errors
from cytolora.classifier.publish.repository import repository
from cytolora.core.arguments import AnyPath, as_path
from cytolora.data.targets import looks_like_address
from cytolora.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_HUBS_OWN = (".gitattributes", HUB_CARD)
_RIGHTS = "A token that may write there is needed: HF_TOKEN, or `hf auth login` (huggingface.co/settings/tokens)."
Answer = TypeVar("Answer")


def publish(bundle: AnyPath, to: AnyPath, *, private: bool = False, licence_permits: bool = False) -> str:
    """Writes the repository of a bundle into a folder, or pushes it to the hub; what was there of a bundle is replaced.

    Args:
        bundle: Folder or zip file, or ``hf:OWNER/NAME``.
        to: Folder, or ``hf:OWNER/NAME``.
        private: Makes the repository private, where it is new; one that is there and public is refused.
        licence_permits: Says that somebody has read the backbone's licence, where its terms are not known here.

    Returns:
        The folder, or the address on the hub with the commit: ``hf:OWNER/NAME@COMMIT``.

    Raises:
        BundleError: If it is no bundle, or a byte of it has changed.
        ConfigError: If the backbone's licence forbids it, something else is there, somebody else commits meanwhile, or
            the hub refuses.
    """
    if not is_address(to):
        if private:
            raise ConfigError("private is for a repository on the hub, and a folder is as private as its place is.")
        if looks_like_address(to):
            raise ConfigError(f"{to} is an address that nothing is published to. Expected a folder, or hf:OWNER/NAME.")
        folder = as_path(to, "to")
        if folder.suffix == ".zip":
            raise ConfigError(
                f"{folder} ends in .zip; publish writes a folder. `fit --out` writes bundles of one file."
            )
        if not is_address(bundle) and as_path(bundle).resolve() in (folder.resolve(), *folder.resolve().parents):
            raise ConfigError(f"{folder} is the bundle itself, or lies in it. Choose another --to.")
        write_files(folder, repository(bundle, licence_permits=licence_permits), option="--to")
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


def _push(name: str, files: Files, *, private: bool) -> str:
    """Commits the files as a whole: the repository is as before, or holds the bundle and nothing of an older one."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(library_name="cytolora")
    _asked(name, lambda: api.create_repo(name, private=private, exist_ok=True))
    found = _asked(name, lambda: api.model_info(name))
    there = {one.rfilename for one in found.siblings or ()}
    _check_repository(name, found, there, private=private)
    operations: list[Any] = [CommitOperationAdd(path, content) for path, content in sorted(files.items())]
    operations += [CommitOperationDelete(path) for path in sorted(there - set(_HUBS_OWN) - files.keys())]
    message, seen = "Publish the classifier", found.sha  # refused where somebody else has committed since
    made = _asked(name, lambda: api.create_commit(name, operations, commit_message=message, parent_commit=seen))
    return made.oid


def _check_repository(name: str, found: "ModelInfo", there: Collection[str], *, private: bool) -> None:
    """Raises a ConfigError if a repository holds something else, or everybody would read what is to be private."""
    foreign = sorted(set(there) - set(_HUBS_OWN))
    if foreign and CONTENTS not in there:
        raise ConfigError(
            f"hf:{name} holds {foreign[0]!r} and no bundle; it would be mixed up. Name another repository."
        )
    if private and found.private is False:
        raise ConfigError(
            f"hf:{name} is there and is public: --private is for one that is new. Nothing was published. Make it "
            "private on the hub, or name another repository."
        )


def _asked(name: str, ask: Callable[[], Answer]) -> Answer:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    try:
        return ask()
    except HFValidationError as error:
        raise ConfigError(f"hf:{name} is no name on the hub: {_one_line(error)}") from error
    except LocalTokenNotFoundError as error:
        raise ConfigError(f"hf:{name} was not published. {_RIGHTS}") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise ConfigError(f"The hub refuses hf:{name} (HTTP {status}); nothing was published. {_RIGHTS}") from error
        said = _one_line(error.server_message or error)
        raise ConfigError(f"The hub answered hf:{name} with HTTP {status}: {said}. Nothing was published.") from error
    except (OSError, *transport_errors()) as error:
        raise ConfigError(
            f"The hub cannot be reached for hf:{name}: {_one_line(error)[:200]}. Publish to a folder "
            "(--to FOLDER), and upload that from a machine with a network."
        ) from error
    except ValueError as error:  # the hub checks the head of the card, which people edit, before it takes files
        raise ConfigError(f"hf:{name} was not published: {_one_line(error)}") from error


def _one_line(said: object) -> str:
    return " ".join(str(said).split())
