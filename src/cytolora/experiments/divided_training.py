"""Training of one adapter run whose batches are divided; goes on where a process is lost or memory is too little."""

from typing import Any

from cytolora.config.run import RunSpec
from cytolora.errors import EngineError
from cytolora.experiments.failures import MAX_ATTEMPTS, free_memory, lacks_memory
from cytolora.experiments.store import Store
from cytolora.training.adapt import title, train_adapter
from cytolora.training.group import RankLostError
from cytolora.training.kept_state import state_of
from cytolora.training.passes import PassSize
from cytolora.training.session import Session
from cytolora.training.trained import Trained


def train_divided(session: Session, store: Store, run: RunSpec) -> Trained:
    """Trains an adapter run as the store's ``division`` says.

    Where memory is too little, it is tried again with half the images in one pass, down to one; where a process of the
    run is lost, with new ones, three times at most. Both go on from the last state of the training.

    Raises:
        EngineError: If processes are lost again and again.
        Exception: Whatever else ends the training; of too little memory, that of the last attempt.
    """
    size, num_lost = PassSize(at_most=store.division.micro_batch), 0
    while True:
        try:
            return _train(session, store, run, size)
        except RankLostError as error:
            num_lost += 1
            if num_lost == MAX_ATTEMPTS:
                raise EngineError(
                    f"Processes of {run.run_id} were lost {num_lost} times, the last time: {error} Often memory is "
                    "short: take --micro-batch, or fewer --gpus-per-run on a CPU. What was finished is kept; the same "
                    "command goes on from there."
                ) from error
            session.progress.say(f"{title(run)}: a process was lost; once more")
        except Exception as error:
            if not lacks_memory(error) or not size.halve():
                raise
            session.progress.say(f"{title(run)}: too little memory; once more with passes of {size.at_most} images")
        free_memory()  # here, where no error holds what the attempt had


def parts_of_provenance(trained: Trained) -> dict[str, Any]:
    """Returns how the batches of a run were divided; nothing for what trains on features."""
    if trained.images_per_pass is None:
        return {}
    return {"processes": trained.num_processes, "images_per_pass": trained.images_per_pass}


def _train(session: Session, store: Store, run: RunSpec, size: PassSize) -> Trained:
    count = store.division.processes
    with session.team.training(run, size.at_most) as connect:
        state = state_of(session, run, store.states, store.checkpoint_minutes, num_processes=count)
        return train_adapter(session, run, state, connect=connect, size=size)
