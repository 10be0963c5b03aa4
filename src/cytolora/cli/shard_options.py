"""Options of the commands that work in shards, and what they open with them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from cytolora.cli.command_line import same_command
from cytolora.cli.options import MachineOptions, Several, sbatch_options
from cytolora.errors import ConfigError
from cytolora.experiments.engines.workers import THIS_PROCESS, Workers

if TYPE_CHECKING:
    from cytolora.sharding.run import Sharding


@Parameter(name="*", group="Shards")
@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """Work in shards, each written whole and skipped when it exists; --out is then a folder of Parquet files."""

    engine: str | None = None
    """Who computes shards: inline (this process), processes (several of this machine), ray, or slurm (jobs of a SLURM
    cluster). Without it, processes where --workers is given, ray with --address, slurm with --slurm, else inline."""
    workers: int | None = None
    """Shards at a time with processes or ray; without it, one a GPU, or as many as the CPUs hold at --threads. With
    slurm, the number of jobs, which has to be given."""
    address: str | None = None
    """HOST:PORT of a running Ray cluster."""
    slurm: Annotated[Sequence[str], Several] = ()
    """Options of sbatch for each job, as for `cytolora run`: partition=gpu gres=gpu:1 time=04:00:00."""
    slurm_worker: Annotated[bool, Parameter(show=False, negative="")] = False
    """Works as one of the jobs, which is how they are started."""
    shard_size: int | None = None
    """Images of a shard, rounded up to whole batches of 64; 50,000 if not given. A killed command loses at most the
    shards that its workers were at."""

    @property
    def is_asked(self) -> bool:
        """Whether any of them is given."""
        return self != ONE_FILE

    def sharding(self) -> "Sharding":
        """Returns them as the driver takes them.

        Raises:
            ConfigError: If one is out of range, the engine cannot do it, or torch is not installed.
        """
        command = same_command("--slurm-worker")
        workers = Workers(address=self.address, count=self.workers, batch=sbatch_options(self.slurm), command=command)
        try:
            from cytolora.sharding.run import Sharding
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise ConfigError(
                "Shards need torch, which is not installed. Leave out --engine, --workers and --shard-size."
            ) from error
        given = Sharding(shard_size=self.shard_size, engine=self.engine, workers=workers)
        engine = given.chosen()
        if self.slurm_worker:  # on a node, which may have no sbatch
            return replace(given, engine="inline", workers=THIS_PROCESS, is_job=True)
        engine.check_ready(workers)
        return given


ONE_FILE = ShardOptions()


def machine_of_driver(machine: MachineOptions, how: "Sharding") -> MachineOptions:
    """Returns where this process computes: a device is asked of the jobs, not of the machine that submits them."""
    return replace(machine, device="cpu") if how.chosen().has_batch else machine


def refuse_with_shards(options: ShardOptions, **given: Any) -> None:
    """Raises a ConfigError if an option is given that needs all images in one process."""
    named = [f"--{name.replace('_', '-')}" for name, value in given.items() if value not in (None, False)]
    if options.is_asked and named:
        raise ConfigError(
            f"{named[0]} needs all images in one process; leave it out, or leave out --engine, --workers and "
            "--shard-size."
        )
