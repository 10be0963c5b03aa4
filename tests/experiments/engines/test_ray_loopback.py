"""A cluster of the loopback address alone, started by hand, is joined by a process that has not loaded Ray before."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TOKEN = secrets.token_hex(32)
JOIN = """
import sys
from cytolora.experiments.engines.ray_cluster import running_cluster
with running_cluster(sys.argv[1]) as ray:
    print([node["NodeManagerAddress"] for node in ray.nodes()])
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A head with a token, as docs/scale.md says to start one of this machine alone."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = ["start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=1"]
    options = ["--include-dashboard=false", f"--object-store-memory={80 * 2**20}"]
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:  # a socket's path must be short
        command = [str(Path(sys.executable).with_name("ray")), *start, *options, f"--temp-dir={folder}"]
        here = environment(TOKEN) | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
        head = subprocess.Popen(command, env=here, start_new_session=True, stdout=subprocess.DEVNULL)
        try:
            _wait_for(port)
            yield f"127.0.0.1:{port}"
        finally:
            head.send_signal(signal.SIGTERM)  # with --block it ends what it started
            try:
                head.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(head.pid, signal.SIGKILL)


def environment(token: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}


def _wait_for(port: int) -> None:
    for _ in range(240):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                time.sleep(5)  # the port opens before the node is known
                return
        time.sleep(0.5)
    pytest.fail("The head did not start within two minutes.")


def join(address: str, token: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", JOIN, address]
    return subprocess.run(command, env=environment(token), capture_output=True, text=True, timeout=400, check=False)


def test_a_cluster_of_loopback_alone_is_joined_at_its_own_address(address: str):
    done = join(address, TOKEN)
    assert done.stdout.strip().splitlines()[-1:] == ["['127.0.0.1']"], done.stderr[-500:]


def test_a_wrong_token_is_told_by_name(address: str):
    done = join(address, secrets.token_hex(32))
    assert "ConfigError" in done.stderr
    assert "RAY_AUTH_TOKEN" in done.stderr.splitlines()[-1]
