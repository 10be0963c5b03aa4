"""The `weights` commands against the imitation of a hub."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fake_hub import FakeHub
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from cytolora.cli.app import main


def cytolora(
    *arguments: str, endpoint: str, home: Path, stall_seconds: float = 600, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command in a new Python, with the hub's settings in its environment as users have them."""
    code = (
        "from cytolora.models.checkpoints import hub; from cytolora.cli.app import main; "
        f"hub.STALL_SECONDS = {stall_seconds}; main()"
    )
    hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_ETAG_TIMEOUT": "2", "HF_HUB_DOWNLOAD_TIMEOUT": "2"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**kept, **hub, "NO_PROXY": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def cytolora_here(
    *arguments: str, endpoint: str, home: Path, offline: bool = False
) -> subprocess.CompletedProcess[str]:
    """Runs a command in this process, which starts no Python; the hub's client has the settings instead."""
    settings = {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_HUB_OFFLINE": offline,
    }
    out, err, code = io.StringIO(), io.StringIO(), 0
    close_session()  # the client of another test may go through a proxy, or may not go at all
    with (
        patch.multiple(constants, **settings),
        patch.dict(os.environ, {"NO_PROXY": "127.0.0.1"}),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            close_session()
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def fetch(hub: FakeHub, tmp_path: Path, name: str = "uni", **environment: Any) -> subprocess.CompletedProcess[str]:
    to = str(tmp_path / "carried")
    return cytolora("weights", "fetch", name, "--to", to, endpoint=hub.url, home=tmp_path / "home", **environment)


def fetch_here(
    hub: FakeHub, tmp_path: Path, name: str = "uni", *, offline: bool = False
) -> subprocess.CompletedProcess[str]:
    to = str(tmp_path / "carried")
    return cytolora_here(
        "weights", "fetch", name, "--to", to, endpoint=hub.url, home=tmp_path / "home", offline=offline
    )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]
