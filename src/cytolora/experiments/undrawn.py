"""Settings whose draw lacks a class that their method needs: known before anything runs, and left out by name."""

from collections.abc import Sequence

from cytolora.config.run import RunSpec
from cytolora.core.progress import Progress
from cytolora.core.text import counted
from cytolora.errors import StoreError
from cytolora.experiments.claim_owner import Owner
from cytolora.experiments.failures import Failure, forget, record
from cytolora.experiments.plan import Job
from cytolora.experiments.store import Store
from cytolora.training.absent_classes import absent_class, in_words, needs_every_class
from cytolora.training.resources import Inputs


def undrawn(jobs: Sequence[Job], inputs: Inputs, store: Store, progress: Progress) -> list[Failure]:
    """Records and reports the settings whose draw lacks a class that they need; forgets what was so before.

    All seeds of a setting are left out where one is: a mean over lucky draws is no result.
    """
    failed = []
    for setting in (one for job in jobs for one in job.settings if needs_every_class(one[0])):
        name, reason = f"draw_{setting[0].setting_id}", _reason(setting, inputs)
        if reason is None:
            forget(store.root, name)
            continue
        owner = Owner.this_process()
        failure = Failure(
            name=name,
            runs=tuple(run.run_id for run in setting),
            reason=reason,
            at=owner.since,
            by=str(owner),
            attempts=1,
            is_lasting=False,  # looked at again each time, which takes no hash
        )
        record(store.root, failure)
        progress.finding(f"Left out: {failure.reason}")
        failed.append(failure)
    return failed


def left_undrawn(failed: Sequence[Failure]) -> StoreError:
    """The error for settings that were left out, when all others are done."""
    return StoreError(
        f"{counted(len(failed), 'setting was', 'settings were')} left out, and all else is done: {failed[0].reason}"
    )


def _reason(setting: Sequence[RunSpec], inputs: Inputs) -> str | None:
    for run in setting:
        classes, train = inputs.manifest(run.dataset, run.split).classes, inputs.split(run).train
        if (label := absent_class(classes, train)) is not None:
            return in_words(run, label)
    return None
