"""Modules that commands load: each command runs in a process forked from one that has loaded the command line alone."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = """
import importlib, json, os, sys, traceback
from cytolora.cli.app import main

commands, preloaded, images = json.loads(sys.argv[1])
for name in preloaded:
    importlib.import_module(name)


def run(command, out):
    first = []

    def watch(event, arguments):
        if event == "open" and not first and os.path.realpath(str(arguments[0])).startswith(images):
            first.extend(sys.modules)

    sys.addaudithook(watch)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    code = None
    try:
        main(command)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    with os.fdopen(out, "w") as file:
        json.dump({"code": code, "first": first, "end": list(sys.modules)}, file)


found = []
for command in commands:
    here, there = os.pipe()
    if os.fork():
        os.close(there)
        with os.fdopen(here) as file:
            found.append(json.load(file))
        os.wait()
    else:
        try:
            run(command, there)
        finally:
            os._exit(0)
print(json.dumps(found))
"""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Modules in a process that ran one command."""

    code: int
    before_images: frozenset[str]
    """When the first image was opened; empty where none was."""
    at_end: frozenset[str]


def loaded_by(
    commands: Sequence[Sequence[str]], folder: Path, *, preloaded: Sequence[str] = (), images: Path | None = None
) -> list[Loaded]:
    """Runs the commands one after the other, in ``folder``, and returns what each has loaded.

    Args:
        preloaded: Modules that all of them may load, and that are loaded once: a command shows what these bring along.
        images: Folder of the images to look out for.
    """
    seen = os.path.realpath(images or folder / "none")
    arguments = json.dumps([[list(command) for command in commands], list(preloaded), seen])
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, arguments], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    texts = json.loads(done.stdout)
    assert all(text["code"] is not None for text in texts), done.stderr[-2000:]
    return [
        Loaded(code=text["code"], before_images=frozenset(text["first"]), at_end=frozenset(text["end"]))
        for text in texts
    ]
