"""cache: lists, bounds and clears what is kept to be read again."""

import json
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from cytolora.cli.cache_options import parse_size
from cytolora.cli.console import PlainTable, make_console
from cytolora.cli.log_lines import amount
from cytolora.cli.options import Several
from cytolora.core.cache_entries import KINDS, Entry, claim, entries, older, remove, remove_abandoned
from cytolora.core.cache_folder import bound, default_cache, is_cache, limit_of, set_limit
from cytolora.core.text import counted
from cytolora.errors import ConfigError

app = App(name="cache", help="Lists, bounds and clears what is kept to be read again: all of it can be made anew.")

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


@app.command
def ls(folder: Path | None = None, /, *, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """Lists the kinds of a cache with their entries, size and last use, and the limit of the folder.

    Examples:

        cytolora cache ls
        cytolora cache ls runs/.cache --json

    Parameters
    ----------
    folder
        A cache: `.cache` of a folder of runs, or what --cache named; the user's cache folder if not given.
    json_
        Prints one object: `folder`, `num_bytes`, `limit_bytes` (null: none), and `kinds`, a list of objects.
    """
    root = _opened(folder)
    kinds = [_row(kind, entries(root, [kind])) for kind in KINDS]
    total, limit = sum(row["num_bytes"] for row in kinds), limit_of(root)
    if json_:
        plain = {"folder": str(root), "num_bytes": total, "limit_bytes": limit, "kinds": kinds}
        sys.stdout.write(json.dumps(plain, indent=2) + "\n")
        return
    table = PlainTable("kind", "entries", "size", "last use", "holds", no_wrap="kind")
    for row in kinds:
        table.add_row(
            row["kind"],
            f"{row['num_entries']:,}",
            amount(row["num_bytes"], "bytes"),
            (row["last_used"] or "").replace("T", " ").removesuffix("Z"),
            KINDS[row["kind"]],
        )
    console = make_console()
    console.print(table)
    allowed = "without limit" if limit is None else f"of at most {amount(limit, 'bytes')}"
    console.print(f"{root}: {amount(total, 'bytes')} {allowed}.")
    if linked := [kind for kind in KINDS if (root / kind).is_symlink()]:
        one_or_more = "is a link: what it leads" if len(linked) == 1 else "are links: what they lead"
        make_console(stderr=True).print(
            f"{', '.join(linked)} {one_or_more} to is used, but neither counted, bounded nor cleared."
        )


@app.command
def clear(
    folder: Path | None = None,
    /,
    *,
    kind: Annotated[tuple[str, ...], Several] = (),
    older_than: str | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Removes entries of a cache; what is needed again is made anew. Stored runs and other files are never touched.

    Archives that a running command uses are left.

    Examples:

        cytolora cache clear
        cytolora cache clear runs/.cache --kind pixels figures
        cytolora cache clear --older-than 30d

    Parameters
    ----------
    folder
        A cache: `.cache` of a folder of runs, or what --cache named; the user's cache folder if not given.
    kind
        Kinds to remove (`cytolora cache ls`); all if not given.
    older_than
        Removes only what was last used so long ago: 12h, 30d, 8w.
    dry_run
        Says what would be removed, and removes nothing.
    """
    age = 0.0 if older_than is None else _seconds(older_than)
    for name in kind:
        if name not in KINDS:
            raise ConfigError(f"--kind {name} is none; known: {', '.join(KINDS)}.")
    root = _opened(folder)
    found = older(entries(root, kind or KINDS), age) if age else list(entries(root, kind or KINDS))
    if not dry_run:
        remove_abandoned(root)
    gone = found if dry_run else [entry for entry in found if remove(entry)]
    verb = "Would remove" if dry_run else "Removed"
    size = amount(sum(entry.num_bytes for entry in gone), "bytes")
    make_console().print(f"{verb} {counted(len(gone), 'entry', 'entries')} ({size}) from {root}.")
    if left := len(found) - len(gone):
        make_console(stderr=True).print(f"{counted(left, 'entry is', 'entries are')} in use, or not ours to remove.")


@app.command
def limit(size: str, folder: Path | None = None, /) -> None:
    """Sets the bytes that a cache may take, and removes the least recently used entries beyond it.

    Examples:

        cytolora cache limit 20GB
        cytolora cache limit none runs/.cache

    Parameters
    ----------
    size
        20GB, 500MB, or none.
    folder
        A cache: `.cache` of a folder of runs, or what --cache named; the user's cache folder if not given.
    """
    root = _opened(folder)
    try:
        set_limit(root, parse_size(size, "cytolora cache limit"))
    except OSError as error:
        raise ConfigError(
            f"Cannot keep the limit of {root}: {error.strerror or error}. Make it writable, or name another cache."
        ) from error
    bound(root)  # an equal limit removes nothing
    ls(root)


def _opened(folder: Path | None) -> Path:
    """Returns the folder; a ConfigError if it was named and is no cache."""
    if folder is None:
        root = default_cache()
        if root.is_dir():
            claim(root, is_ours=True)  # of an earlier version, without a mark
        return root
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder. Name a cache, such as RUNS/.cache.")
    if not is_cache(folder):
        inside = folder / ".cache"
        hint = f"Its cache is {inside}." if is_cache(inside) else "Name `.cache` of a folder of runs, or a --cache."
        raise ConfigError(f"{folder} is no cache of cytolora: it holds none of {', '.join(KINDS)}. {hint}")
    return folder


def _row(kind: str, found: Iterable[Entry]) -> dict[str, Any]:
    sizes, times = [], []
    for entry in found:
        sizes.append(entry.num_bytes)
        times.append(entry.last_used)
    last = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(times))) if times else None
    return {"kind": kind, "num_entries": len(sizes), "num_bytes": sum(sizes), "last_used": last}


def _seconds(text: str) -> float:
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"--older-than expects a time such as 12h, 30d or 8w, got {text!r}.")
    return float(match[1]) * _SECONDS[match[2].lower()]
