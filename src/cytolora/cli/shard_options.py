"""Options of the commands that work in shards, and what they open with them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from cytolora.errors import ConfigError

if TYPE_CHECKING:
    from cytolora.sharding.run import Sharding


@Parameter(name="*", group="Shards")
@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """Work in shards, each written whole and skipped when it exists; --out is then a folder of Parquet files."""

    engine: str | None = None
    """Who computes shards: inline (this process), processes (several of this machine) or ray. Without it, processes
    where --workers is given, ray with --address, else inline."""
    workers: int | None = None
    """Shards at a time with processes or ray; without it, one a GPU, or as many as the CPUs hold at --threads."""
    address: str | None = None
    """HOST:PORT of a running Ray cluster."""
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
        from cytolora.experiments.engines.workers import Workers

        workers = Workers(address=self.address, count=self.workers)
        try:
            from cytolora.sharding.run import Sharding
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise ConfigError(
                "Shards need torch, which is not installed. Leave out --engine, --workers and --shard-size."
            ) from error
        given = Sharding(shard_size=self.shard_size, engine=self.engine, workers=workers)
        given.chosen()
        return given


ONE_FILE = ShardOptions()


def refuse_with_shards(options: ShardOptions, **given: Any) -> None:
    """Raises a ConfigError if an option is given that needs all images in one process."""
    named = [f"--{name.replace('_', '-')}" for name, value in given.items() if value not in (None, False)]
    if options.is_asked and named:
        raise ConfigError(
            f"{named[0]} needs all images in one process; leave it out, or leave out --engine, --workers and "
            "--shard-size."
        )
