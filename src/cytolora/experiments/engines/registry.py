"""Which engines exist; importing this loads neither torch nor Ray."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cytolora.core.registry import Registry
from cytolora.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from cytolora.core.progress import Progress
    from cytolora.experiments.plan import Group
    from cytolora.experiments.store import Store
    from cytolora.training.resources import Inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Over what an engine spreads the runs."""

    address: str | None = None
    """HOST:PORT of a cluster that runs already; None starts one on this machine."""
    workers: int | None = None
    """Processes that run at a time, at least 1; None: one a GPU, or as many as the CPUs hold at the threads set."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"--workers is at least 1, got {self.workers}.")


HERE = Spread()


class RunGroups(Protocol):
    """Executes every group; what is finished is stored at once, so that whoever starts again goes on."""

    def __call__(
        self,
        groups: "Sequence[Group]",
        inputs: "Inputs",
        store: "Store",
        *,
        device: "torch.device",
        progress: "Progress",
        spread: Spread,
    ) -> None:
        """Does it, on ``device``, telling ``progress``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Where groups of runs are executed: same plan, same store, same numbers."""

    name: str
    description: str
    run_groups: RunGroups
    spreads: bool = False
    """Whether it makes anything of ``Spread``."""

    def check(self, spread: Spread) -> None:
        """Raises a ConfigError if something is asked for that this engine does not do."""
        if spread != HERE and not self.spreads:
            able = ", ".join(engine.name for engine in ENGINES if engine.spreads)
            raise ConfigError(f"--address and --workers are for --engine {able}; {self.name} is this process alone.")


ENGINES: Registry[Engine] = Registry("engine")


def _inline(
    groups: "Sequence[Group]",
    inputs: "Inputs",
    store: "Store",
    *,
    device: "torch.device",
    progress: "Progress",
    spread: Spread,
) -> None:
    from cytolora.experiments.engines.inline import run_groups

    run_groups(groups, inputs, store, device=device, progress=progress)


def _ray(
    groups: "Sequence[Group]",
    inputs: "Inputs",
    store: "Store",
    *,
    device: "torch.device",
    progress: "Progress",
    spread: Spread,
) -> None:
    from cytolora.experiments.engines.ray_driver import run_groups

    run_groups(groups, inputs, store, device=device, progress=progress, spread=spread)


ENGINES.add(Engine(name="inline", description="One run after the other, in this process.", run_groups=_inline))
ENGINES.add(
    Engine(
        name="ray",
        description="Many workers of a Ray cluster, on this machine or others; needs cytolora[ray].",
        run_groups=_ray,
        spreads=True,
    )
)
