"""A real SLURM of this machine, for tests and benchmarks: a controller and two nodes of one CPU on loopback."""

import os
import platform
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/spool/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=1,sched_interval=2
ReturnToService=2
KillWait=10
MpiDefault=none
NodeName=n1 NodeHostName={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=1000
NodeName=n2 NodeHostName={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=1000
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there can be no cluster here; None where there can."""
    if getattr(os, "geteuid", lambda: 1)() != 0:
        return "slurmd starts jobs as root alone"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"{', '.join(absent)} not installed (apt-get install slurm-wlm munge)" if absent else None


@contextmanager
def slurm_cluster() -> Iterator[dict[str, str]]:
    """Starts a cluster; yields the environment in which its commands find it.

    Raises:
        RuntimeError: If its nodes are not idle within two minutes.
    """
    with tempfile.TemporaryDirectory(prefix="slurm-") as name:
        folder = Path(name)
        for part in ("munge", "state", "spool"):
            (folder / part).mkdir(mode=0o700)
        (folder / "munge" / "key").write_bytes(secrets.token_bytes(128))
        (folder / "munge" / "key").chmod(0o600)
        host, ports = platform.node().partition(".")[0], _free_ports(3)
        (folder / "slurm.conf").write_text(_CONFIGURATION.format(host=host, folder=folder, ports=ports))
        environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        daemons = [_started(_munged(folder / "munge"), environment)]
        try:
            _wait(lambda: (folder / "munge" / "socket").exists(), folder)
            daemons += [_started(["slurmctld", "-D"], environment)]
            daemons += [_started(["slurmd", "-D", "-N", node], environment) for node in ("n1", "n2")]
            _wait(lambda: ask(["sinfo", "-h", "-o", "%T %D"], environment).strip() == "idle 2", folder)
            yield environment
        finally:
            ask(["scancel", "--user=root"], environment)
            _wait(lambda: not ask(["squeue", "-h"], environment).strip(), folder, is_required=False)
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait(60)


def ask(command: Sequence[str], environment: dict[str, str]) -> str:
    """Returns what a command of SLURM prints."""
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False).stdout


def states(environment: dict[str, str]) -> dict[str, str]:
    """Returns the state of every task of the cluster: ``12_0``."""
    lines = ask(["squeue", "-h", "-r", "--states=all", "-o", "%i %T"], environment).splitlines()
    return dict(line.split() for line in lines)


def _munged(folder: Path) -> list[str]:
    named = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    files = [f"--{option}={folder / name}" for option, name in named.items()]
    return ["munged", "--foreground", "--force", "--num-threads=1", *files]


def _started(command: Sequence[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _wait(is_so: Callable[[], bool], folder: Path, *, is_required: bool = True) -> None:
    until = time.monotonic() + 120
    while not is_so():
        if time.monotonic() > until:
            if not is_required:
                return
            logs = [path.read_text(errors="replace")[-500:] for path in folder.glob("*.log")]
            raise RuntimeError(f"The SLURM cluster did not get ready: {logs}")
        time.sleep(0.2)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
