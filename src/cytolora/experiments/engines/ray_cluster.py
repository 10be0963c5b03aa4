"""Ray clusters: one started on this machine alone, or a running one that refuses strangers."""

import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from ipaddress import ip_address
from threading import Event
from types import ModuleType
from typing import Any

from cytolora.errors import ConfigError, EngineError, missing_package
from cytolora.experiments.engines.ray_watch import leave, started, vital_children

_INLINE_BYTES = 256 * 2**20
"""Of arguments inside a message; Ray's messages have at most 512 MB."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # then Ray listens on 127.0.0.1 on Linux too, and nowhere else
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_max_direct_call_object_size": str(_INLINE_BYTES),
    "RAY_task_rpc_inlined_bytes_limit": str(_INLINE_BYTES),
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a call after the end must not start another cluster
}
_STORE_BYTES = 256 * 2**20
_PROBE_SECONDS = 120
"""Ray itself gives up after ten; the rest is loading it, which takes minutes on a machine that is busy."""
_KNOCK_SECONDS = 2
_LONGEST_FOLDER = 40
"""Ray puts sockets some 60 characters further down, and a socket's path has at most 107."""

_PROBE = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1]).internal_kv_keys(b"", namespace=None, timeout=10)
except AuthenticationError:
    sys.exit(3)
except Exception:
    sys.exit(4)
"""
_OPEN, _SHUT = 0, 3


@contextmanager
def local_cluster(*, num_cpus: int, num_gpus: int, safe: str = "") -> Iterator[ModuleType]:
    """Starts a cluster of this machine for the block, and ends all its processes.

    It listens on the loopback address only, for those who hold a token made for it; it has no dashboard, reports
    nothing, and keeps its files in a temporary folder.

    Args:
        safe: Sentence on what is kept, for the error where it does not start.

    Raises:
        EngineError: If a process of it dies while it starts, or it does not start in time.
    """
    require_ray()
    parent = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="cytolora-ray-", dir=parent if len(parent) <= _LONGEST_FOLDER else "/tmp")
    secret = {**_QUIET, "RAY_AUTH_TOKEN": _token()}
    if "ray" not in sys.modules:  # where it is loaded already it has read its settings, and turns tokens on by itself
        secret["RAY_AUTH_MODE"] = "token"
    try:
        with _environment(secret, without=("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS")):
            import ray

            _silence()
            ended, others = Event(), vital_children()
            try:
                started(lambda: _start(ray, folder, num_cpus=num_cpus, num_gpus=num_gpus), safe=safe, until=ended)
                yield ray
            finally:
                leave(ray, started=vital_children() - others)
                ended.set()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _silence() -> None:
    """Keeps Ray from printing what it hears of dead processes to standard output: some twenty lines of a raylet's log.

    ``log_to_driver`` is about the workers' output alone.
    """
    from ray._private import worker

    worker._worker_logs_enabled = False


def _start(ray: ModuleType, folder: str, *, num_cpus: int, num_gpus: int) -> None:
    ray.init(
        address="local",
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.CRITICAL,
        object_store_memory=_STORE_BYTES,
        _temp_dir=folder,
        _node_ip_address="127.0.0.1",
    )


@contextmanager
def running_cluster(address: str) -> Iterator[ModuleType]:
    """Joins a cluster for the block, if none but its owner can: it is loopback only, or it refuses who has no token.

    Raises:
        ConfigError: If the address is none, nobody answers there, or anyone could run programs there.
    """
    require_ray()
    is_local = check_address(address) and not _answers_from_outside(int(address.rpartition(":")[2]))
    answer = _without_token(address)
    if answer not in (_OPEN, _SHUT):
        raise ConfigError(f"No Ray cluster answers at {address}. Start one there, see docs/scale.md.")
    if answer == _OPEN and not is_local:
        raise _unprotected(address)
    # "1" makes Ray look for the cluster at this machine's network address, where one of loopback alone never answers
    with _environment(_QUIET | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0" if is_local else "1"}):
        import ray
        from ray.exceptions import AuthenticationError

        _silence()
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except AuthenticationError as error:
            raise ConfigError(f"{_set_the_token(address)}; what this process has is none of it.") from error
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _not_joined(address, error, is_shut=answer == _SHUT) from error
        try:
            nodes: list[Mapping[str, Any]] = ray.nodes()
            if answer == _OPEN and not all(_is_local_ip(str(node["NodeManagerAddress"])) for node in nodes):
                raise _unprotected(address)
            yield ray
        finally:
            leave(ray)


@cache
def _token() -> str:
    """Returns this process's token: Ray reads it once, so that every cluster started from here has the same."""
    return os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)


def require_ray() -> None:
    """Raises a ConfigError if Ray is not installed."""
    if find_spec("ray") is None:
        raise missing_package("The engine ray needs", "Ray", extra="ray")


def check_address(address: str) -> bool:
    """Returns whether an address HOST:PORT is of this machine alone; anything else is a ConfigError."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdigit() or "/" in host:
        raise ConfigError(f"--address expects HOST:PORT of a Ray cluster, got {address!r}.")
    return _is_local_ip(host.strip("[]"))


def free_resources(ray: ModuleType) -> tuple[int, int]:
    """Returns the CPUs and GPUs of all nodes."""
    resources = ray.cluster_resources()
    return int(resources.get("CPU", 0)), int(resources.get("GPU", 0))


def too_small(cpus: int, threads: int) -> EngineError:
    """Builds the error for a cluster that holds no worker."""
    return EngineError(f"The cluster has {cpus} CPUs, and one run takes {threads}. Give each run fewer: --threads 1.")


def _is_local_ip(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _without_token(address: str) -> int:
    """Knocks at a cluster without a token, in a process of its own: Ray reads its settings once."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    environment |= {"RAY_AUTH_MODE": "disabled"}
    try:
        command = [sys.executable, "-c", _PROBE, address]
        probe = subprocess.run(command, env=environment, capture_output=True, timeout=_PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return -1
    return probe.returncode


def _answers_from_outside(port: int) -> bool:
    """Whether a port of this machine can be reached by an address of its own that is not loopback."""
    return any(_answers(host, port) for host in _network_addresses())


def _network_addresses() -> set[str]:
    """This machine's own addresses, as its name and its default routes tell; asking for a route sends nothing."""
    addresses: set[str] = set()
    with suppress(OSError):
        addresses.update(str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None))
    for family, somewhere in ((socket.AF_INET, "8.8.8.8"), (socket.AF_INET6, "2001:4860:4860::8888")):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((somewhere, 53))
            addresses.add(probe.getsockname()[0])
    return {host for host in addresses if not _is_local_ip(host)}


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_KNOCK_SECONDS).close()
    except OSError:
        return False
    return True


def _not_joined(address: str, error: Exception, *, is_shut: bool) -> ConfigError:
    """The error for a cluster that answers and is not joined; of a wrong token Ray says as if nobody were there."""
    message = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    if is_shut:
        return ConfigError(f"{_set_the_token(address)}. If it is, run this on one of its nodes. Ray says: {message}.")
    return ConfigError(
        f"Cannot join the Ray cluster at {address} from this machine: {message}. Run this on one of its nodes."
    )


def _set_the_token(address: str) -> str:
    return (
        f"The cluster at {address} asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the one it was "
        "started with"
    )


def _unprotected(address: str) -> ConfigError:
    return ConfigError(
        f"The Ray cluster at {address} lets in anyone who reaches it, to run any program. Start it with "
        "RAY_AUTH_MODE=token and a RAY_AUTH_TOKEN, or on 127.0.0.1 alone: docs/scale.md says how."
    )


@contextmanager
def _environment(values: Mapping[str, str], without: tuple[str, ...] = ()) -> Iterator[None]:
    """Sets variables for a block: Ray and its processes can be told in no other way."""
    before = {name: os.environ.get(name) for name in (*values, *without)}
    for name in without:
        os.environ.pop(name, None)
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
