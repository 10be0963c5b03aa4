"""Bundle files on disk: a folder, or one zip file of it; read whole into memory, written whole or not at all."""

import hashlib
import io
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cytolora.classifier.bundle.manifest import BundleManifest, from_text, to_text
from cytolora.core.files import write_bytes
from cytolora.core.folders import read_unreplaced, recover_folder, staged_folder
from cytolora.core.litter import is_litter
from cytolora.core.strict_json import read_json
from cytolora.core.zip_members import MAX_RATIO, read_member, undated, unpacks_too_far
from cytolora.data.targets import check_target
from cytolora.errors import BundleError, ConfigError

CONTENTS = "bundle.json"
CARD = "card.md"
"""The one file that people edit: not hashed."""
HUB_CARD = "README.md"
"""The card, as the Hugging Face hub calls it: beside or instead of the other."""
HEAD = "head.safetensors"
SEEN = "seen.json"
REPORT = "report.html"
BANK = "unfamiliar.safetensors"
ANCHORS = "anchors.safetensors"
"""Of transductive prediction; bundles of before have none."""
OPENED = "encoder.safetensors"
"""What methods that are not PEFT's have trained."""
PEFT_WEIGHTS = "adapter/adapter_model.safetensors"
PEFT_CONFIG = "adapter/adapter_config.json"

Files = dict[str, bytes]
"""Content by path in the bundle, with forward slashes."""


def read_bundle(path: Path) -> tuple[BundleManifest, Files]:
    """Reads a bundle and compares every file with its hash.

    The bytes that were compared are the bytes that are used: nothing is read a second time, nothing is unpacked. A
    bundle that another process replaces meanwhile is read again.

    Raises:
        BundleError: If it is no bundle, a file is missing, changed or not listed, or a path leaves the bundle.
    """
    try:
        return read_unreplaced(path, lambda here: _checked_files(path, here))
    except OSError as error:
        raise BundleError(f"Cannot read {error.filename or path}: {error.strerror or error}.") from error


def read_card(path: Path) -> str:
    """Returns the model card of a bundle that was read, with the line ends of Unix; empty where it has none.

    Raises:
        BundleError: If it cannot be read, or is no text.
    """
    try:
        files = read_unreplaced(path, lambda here: dict(_folder_files(here)) if here.is_dir() else _zip_files(here))
    except OSError as error:
        raise BundleError(f"Cannot read {error.filename or path}: {error.strerror or error}.") from error
    name = next((name for name in (CARD, HUB_CARD) if name in files), None)
    try:
        text = "" if name is None else files[name].decode("utf-8-sig")  # an editor may have begun it with a mark
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: {name} is not UTF-8 text: {error.reason}. Save it as UTF-8.") from error
    return text.replace("\r\n", "\n")


def _checked_files(path: Path, here: Path) -> tuple[BundleManifest, Files]:
    """Reads the bundle ``path``, which stands at ``here`` now."""
    if not here.exists():
        raise BundleError(
            f"{path} does not exist; expected a bundle, the folder or zip file that `cytolora fit` wrote."
        )
    files = dict(_folder_files(here)) if here.is_dir() else _zip_files(here)
    if CONTENTS not in files:
        raise BundleError(f"{path} is no bundle: it has no {CONTENTS}. Name what `cytolora fit --out` wrote.")
    manifest = from_text(files.pop(CONTENTS), f"{path}: {CONTENTS}")
    for card in (CARD, HUB_CARD):
        files.pop(card, None)
    for name in sorted(manifest.files.keys() | files.keys()):
        if name not in manifest.files:
            raise BundleError(f"{path}: {name} is no part of this bundle. Take it away, or get the bundle again.")
        if name not in files:
            raise BundleError(f"{path}: {name} is missing. Get the bundle again.")
        if _sha256(files[name]) != manifest.files[name]:
            raise BundleError(f"{path}: {name} is not as it was written: its SHA-256 differs. Get the bundle again.")
    return manifest, files


def write_bundle(out: Path, manifest: BundleManifest, files: Mapping[str, bytes], card: str) -> None:
    """Writes a bundle, a folder or a zip file by the name of ``out``; an older bundle there is replaced whole.

    A zip file is there to be handed on: it names no path of this machine.

    Raises:
        ConfigError: If something else is at ``out``.
    """
    manifest = replace(manifest, files={name: _sha256(content) for name, content in sorted(files.items())})
    text = to_text(manifest, stays_here=out.suffix != ".zip")
    write_files(out, {**files, CARD: card.encode(), CONTENTS: text.encode()})


def write_files(out: Path, files: Files, *, option: str = "--out") -> None:
    """Writes the files of a bundle, its description and card among them; see ``write_bundle``.

    Args:
        option: Of the command line, for errors.
    """
    check_free(out, option=option)
    try:
        if out.suffix == ".zip":
            return write_bytes(out, _zipped(files))
        with staged_folder(out) as staging:
            for name, content in files.items():
                write_bytes(staging / name, content)
    except OSError as error:
        raise _cannot_write(out, error, option) from error


def check_free(out: Path, *, option: str = "--out") -> None:
    """Raises a ConfigError if ``out`` cannot be written, or is something that a bundle must not replace."""
    check_target(out, option=option)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise _cannot_write(out, error, option) from error
    recover_folder(out)
    another = f"Choose another {option}."
    if out.is_dir():
        check_replaceable(out, CONTENTS, CARD, HUB_CARD, option=option)
    elif out.is_file() and out.suffix != ".zip":
        raise ConfigError(f"{out} is a file; a bundle is a folder, or a file that ends in .zip. {another}")
    elif out.is_file() and not _is_zipped_bundle(out):
        raise ConfigError(f"{out} is there and is no bundle; it would be lost. {another}")


def check_replaceable(folder: Path, description: str, *others: str, option: str = "--out") -> None:
    """Raises a ConfigError if a folder holds anything but what its own description lists: it would be lost.

    Args:
        description: Name of the JSON file in it whose ``files`` are the paths of all others but ``others``.
        option: Of the command line, for the error.
    """
    strange = read_unreplaced(folder, lambda here: _strange_files(here, description, others))
    if strange:
        raise ConfigError(
            f"{folder} holds {strange[0]}, which would be lost. Move it away, or choose another {option}."
        )


def _strange_files(folder: Path, description: str, others: Iterable[str]) -> list[str]:
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    try:
        content = (folder / description).read_bytes()
    except OSError:
        content = b""
    return _not_listed(found, content, (description, *others))


def _not_listed(found: Iterable[str], description: bytes, others: Iterable[str]) -> list[str]:
    """Returns the files that neither a description in JSON lists nor ``others``; all where it is none."""
    try:
        known = {*read_json(description)["files"], *others}
    except (ValueError, KeyError, TypeError):
        known = set[str]()
    return [name for name in found if name not in known and not is_litter(name)]


def _is_zipped_bundle(path: Path) -> bool:
    """Whether a zip file holds a bundle and nothing else, which would be lost."""
    try:
        with zipfile.ZipFile(path) as packed:
            names = [name for name in packed.namelist() if not name.endswith("/")]
            contents = next((name for name in names if PurePosixPath(name).name == CONTENTS), CONTENTS)
            description = read_member(packed, packed.getinfo(contents))
    except (zipfile.BadZipFile, OSError, ValueError, LookupError, EOFError, RuntimeError):
        return False
    found = [name.removeprefix(contents.removesuffix(CONTENTS)) for name in names]  # the folder itself may be packed
    return not _not_listed(found, description, (CONTENTS, CARD, HUB_CARD))


def _cannot_write(out: Path, error: OSError, option: str) -> ConfigError:
    return ConfigError(f"Cannot write {out}: {error.strerror or error}. Choose another {option}, or make room there.")


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """Packs files so that equal files give equal bytes: no compression, one date."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as packed:
        for name, content in sorted(files.items()):
            packed.writestr(undated(name), content)
    return sink.getvalue()


def _folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if _is_hidden(name):
            continue
        if path.is_symlink() and not _is_of_hub(path, folder):
            raise BundleError(f"{folder}: {name} is a symbolic link, which may lead anywhere. Get the bundle again.")
        if path.is_file():
            yield name, path.read_bytes()


def _is_of_hub(link: Path, folder: Path) -> bool:
    """Whether a link is one of the hub's cache: from ``REPOSITORY/snapshots/COMMIT`` into ``REPOSITORY/blobs``."""
    snapshots = folder.absolute().parent
    blobs = (snapshots.parent / "blobs").resolve()
    return snapshots.name == "snapshots" and link.resolve().parent == blobs


def _zip_files(path: Path) -> Files:
    try:
        with zipfile.ZipFile(path) as packed:
            members = _checked(path, packed.infolist())
            files = {name: read_member(packed, member) for name, member in members.items()}
    except NotImplementedError as error:
        raise BundleError(
            f"{path} is packed by a method that is not read here ({error}). Pack its folder again, by plain zip."
        ) from error
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError) as error:
        raise BundleError(f"{path} is no zip file of a bundle, or damaged: {error}. Get it again.") from error
    tops = {name.partition("/")[0] for name in files}
    if CONTENTS not in files and len(tops) == 1:  # the folder itself was packed
        return {name.partition("/")[2]: content for name, content in files.items()}
    return files


def _checked(path: Path, members: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        inside, kind = PurePosixPath(member.filename.replace("\\", "/")), stat.S_IFMT(member.external_attr >> 16)
        name = inside.as_posix()
        if inside.is_absolute() or ".." in inside.parts or ":" in name:
            raise BundleError(f"{path}: entry {member.filename!r} leaves the bundle; nothing was read.")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise BundleError(f"{path}: entry {member.filename!r} is a link or a special file; nothing was read.")
        if name in found:
            raise BundleError(f"{path}: entry {member.filename!r} stands there twice; nothing was read.")
        if not member.is_dir() and not _is_hidden(name):
            found[name] = member
    total, packed = (sum(getattr(one, size) for one in found.values()) for size in ("file_size", "compress_size"))
    if unpacks_too_far(total, packed):
        raise BundleError(f"{path} would unpack to {total:,} bytes, more than {MAX_RATIO} times its size; refused.")
    return found


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_hidden(name: str) -> bool:
    """File systems and file managers leave such files everywhere; nothing of a bundle is one."""
    return is_litter(name) or any(part.startswith(".") for part in PurePosixPath(name).parts)
