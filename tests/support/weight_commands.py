"""The `weights` commands against the imitation of a hub."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from fake_hub import FakeHub


def cytolora(
    *arguments: str, endpoint: str, home: Path, stall_seconds: float = 600, **environment: str
) -> subprocess.CompletedProcess[str]:
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


def fetch(hub: FakeHub, tmp_path: Path, name: str = "uni", **environment: Any) -> subprocess.CompletedProcess[str]:
    to = str(tmp_path / "carried")
    return cytolora("weights", "fetch", name, "--to", to, endpoint=hub.url, home=tmp_path / "home", **environment)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]
