"""Time left of jobs: their work by kind, rates known before, and rates measured since; loads no torch."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import exp

from cytolora.config.run import RunSpec
from cytolora.core.progress import SILENT, Progress
from cytolora.display.format import about
from cytolora.experiments.cost import num_training_passes, prompts_a_step, scored_prompts
from cytolora.experiments.plan import Job
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import StoredRun
from cytolora.training.protocol import PASSES_OF_TRAINING
from cytolora.training.resources import Inputs

Kind = tuple[str, ...]
"""What is done, and what its speed depends on, such as the backbone."""
Work = Mapping[Kind, float]
"""Units by kind: images, steps, pairs of images, image passes, runs."""
Rates = Mapping[Kind, float]
"""Seconds a unit, by kind."""

STORING: Kind = ("results",)
_STORE_SECONDS = 0.1
"""Writing, and scoring, one result where nothing was measured yet."""
_TRIED = ("heads", "nearest neighbours", "prompts")
"""Kinds whose speed is nothing like that of others: not known before a trial, or they themselves, have told it."""
_FITTED_SECONDS = 1e-3
"""A training image of a head without steps, likewise."""
_TRUST_SECONDS = 0.3
"""A rate known before counts as much as one measured for so long."""
_SURE_SECONDS, _SURE_SHARE = 3.0, 0.01
"""Of measuring, and of the work: what was known before counts no more then."""
_FORGET_SECONDS = 600.0
"""Time over which speed is averaged: runs of one grid differ in theirs, and so does what else a machine does."""
_ENOUGH_SECONDS = 0.3
"""Of measuring, before anything is said, and where nothing was known before."""
_KEPT_SECONDS = 1e-4
"""An image that takes less was read from the cache."""


def features(backbone: str) -> Kind:
    """Reading images, and their frozen features."""
    return ("features", backbone)


def heads(setting: Sequence[RunSpec]) -> Kind:
    """Steps of the heads of a setting, all at once."""
    return ("heads", setting[0].dataset, setting[0].backbone, str(len(setting)))


def neighbours(run: RunSpec) -> Kind:
    """Pairs of images that are compared beside linear heads."""
    return ("nearest neighbours", run.dataset, run.backbone)


def fitted(run: RunSpec) -> Kind:
    """Training images of heads without steps."""
    return (run.method, run.dataset, run.backbone)


def prompts(run: RunSpec) -> Kind:
    """Prompts that go through the text encoder in training, with the work back."""
    return ("prompts", run.backbone, run.method)


def step_work(run: RunSpec, num_classes: int) -> Work:
    """Returns the work of one step of prompt learning."""
    return {prompts(run): prompts_a_step(run, num_classes)}


def scoring_work(run: RunSpec, num_images: int, num_classes: int) -> Work:
    """Returns the work of scoring images that takes prompts through the text encoder; of most methods none."""
    number = scored_prompts(run, num_images, num_classes)
    return {prompts(run): number / PASSES_OF_TRAINING} if number else {}


def on_frozen(setting: Sequence[RunSpec]) -> Kind:
    """What a setting on frozen features does."""
    if setting[0].kind == "linear":
        return heads(setting)
    return prompts(setting[0]) if setting[0].kind == "prompt" else fitted(setting[0])


def adapters(run: RunSpec) -> Kind:
    """Image passes of training and scoring."""
    return ("adapters", run.backbone, run.method)


def work_of(job: Job, inputs: Inputs, store: Store, *, num_missing_features: int) -> Counter[Kind]:
    """Counts what is left of a job."""
    work: Counter[Kind] = Counter()
    if num_missing_features:
        work[features(job.backbone)] += num_missing_features
    for setting in job.settings:
        first, split = setting[0], inputs.split(setting[0])
        found = {run.run_id: store.find(run.run_id) for run in setting}
        missing = [run for run in setting if found[run.run_id] is None]
        tested = {run.seed for run in setting if (one := found[run.run_id]) and one.metrics["test"] is not None}
        num_tests = len({run.seed for run in setting} - tested)
        work[STORING] += len(missing) + num_tests
        if first.kind == "adapter":
            work[adapters(first)] += num_training_passes(missing, inputs) + num_tests * len(split.test)
        elif first.kind == "linear" and missing:
            draws = [inputs.split(run) for run in {inputs.split(run).fingerprint: run for run in missing}.values()]
            work[heads(setting)] += first.num_steps(len(split.train))
            work[neighbours(first)] += sum(len(one.train) * (2 * len(one.val) + len(one.test)) for one in draws)
        elif first.kind == "prompt":
            num_classes = len(inputs.manifest(first.dataset, first.split).classes)
            steps = sum(run.num_steps(len(inputs.split(run).train)) for run in missing)
            num_scored = len(missing) * len(split.val) + num_tests * len(split.test)
            work.update(scoring_work(first, num_scored, num_classes))  # pyright: ignore[reportArgumentType, reportCallIssue]
            work[prompts(first)] += steps * prompts_a_step(first, num_classes)
        elif first.kind == "head":
            work[fitted(first)] += sum(len(inputs.split(run).train) for run in missing)
    return +work


def num_frozen_steps(setting: Sequence[RunSpec], missing: Sequence[RunSpec], inputs: Inputs) -> int:
    """Counts steps of all heads at once, and those of each prompt; a head without steps is one."""
    if missing and setting[0].kind == "prompt":
        return sum(run.num_steps(len(inputs.split(run).train)) for run in missing)
    if not missing or setting[0].kind != "linear":
        return len(missing)
    return setting[0].num_steps(len(inputs.split(setting[0]).train))


def num_test_passes(setting: Sequence[RunSpec], inputs: Inputs, stored: Mapping[str, StoredRun | None]) -> int:
    """Counts the test images that are scored when a setting is complete, for every seed that has no score of its rate.

    Should another rate be chosen then, all seeds are scored anew, and more is done than was counted.
    """
    tested = {run.seed for run in setting if (found := stored[run.run_id]) and found.metrics["test"] is not None}
    return len({run.seed for run in setting} - tested) * len(inputs.split(setting[0]).test)


class Tracker:
    """Counts work off as it is done, and reports the time left of all jobs.

    The time since the last report counts as that of the work reported: every rate comes from this process as soon as
    there is one. A kind not begun yet is slower than known before by as much as the others were.
    """

    def __init__(
        self,
        progress: Progress = SILENT,
        jobs: Sequence[Work] = (),
        rates: Rates | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Takes what each job is left with.

        Args:
            rates: Those that are known already; they are no fallback of each other.
        """
        self.kind: Kind = STORING
        """What ``progress.done`` counts."""
        self.title = ""
        """Of the stage, for the lines of a log."""
        self.progress = replace(progress, done=self._done)
        """Reports on, and counts."""
        self._shown, self._clock = progress, clock
        self._jobs = [Counter(job) for job in jobs]
        self._known = {STORING: _STORE_SECONDS, **(rates or {})}
        self._seconds: Counter[Kind] = Counter()
        self._units: Counter[Kind] = Counter()
        self._is_announced = not jobs
        self._at = clock()
        self._report()

    def begin(self, kind: Kind, title: str, total: int, unit: str) -> None:
        """Begins a stage of one kind of work."""
        self.kind, self.title = kind, title
        self._shown.begin(title, total, unit)
        self._report()

    def lap(self) -> None:
        """Leaves out the time since the last report: reading and loading, which no unit of work takes again."""
        self._at = self._clock()

    def count(self, number: int, work: Work) -> None:
        """Counts units of the stage, and the work that they were."""
        self._shown.done(number)
        for kind, units in work.items():
            self.did(kind, units)

    def know(self, rates: Rates) -> None:
        """Takes rates that are found out on the way, which is no work; those known before stay."""
        self._known = {**rates, **self._known}
        self.lap()
        self._shown.status(self.title)
        self._report()

    def did(self, kind: Kind, units: float) -> None:
        """Counts work off."""
        now = self._clock()
        seconds, self._at = now - self._at, now
        if kind[0] == "features" and seconds < units * _KEPT_SECONDS:
            return
        fade = exp(-seconds / _FORGET_SECONDS)
        self._seconds[kind] = self._seconds[kind] * fade + seconds  # pyright: ignore[reportArgumentType]
        self._units[kind] = self._units[kind] * fade + units  # pyright: ignore[reportArgumentType]
        for job in self._jobs[:1]:
            job[kind] = max(0, job[kind] - units)  # pyright: ignore[reportArgumentType]
        self._report()

    def end_job(self) -> None:
        """Ends the first job that is left, whatever was counted of it."""
        self._jobs = self._jobs[1:]
        self._report()

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes; None where the speed of a part is not known."""
        parts = self._parts()
        return None if None in parts.values() else sum(filter(None, parts.values()))

    def _done(self, number: int) -> None:
        self._shown.done(number)
        self.did(self.kind, number)

    def _parts(self) -> dict[Kind, float | None]:
        left = sum(self._jobs, Counter())
        rates = {kind: self._rate(kind) for kind in left}
        return {kind: None if (rate := rates[kind]) is None else rate * units for kind, units in left.items()}

    def _rate(self, kind: Kind) -> float | None:
        seconds, units, known = self._seconds[kind], self._units[kind], self._known.get(kind)
        if known is not None and not self._is_sure(kind):
            known *= self._slowdown(kind)
            return (_TRUST_SECONDS + seconds) / (_TRUST_SECONDS / known + units)
        if units and seconds >= _ENOUGH_SECONDS:
            return seconds / units
        if kind[0] == "features":
            return None  # backbones differ too much
        if kind[0] == "adapters":  # an image pass is what a feature takes
            return self._rate(features(kind[1]))
        alike = [other for other in {*self._known, *self._seconds} if other[0] == kind[0] and other != kind]
        rates = [rate for other in alike if other in self._known and (rate := self._rate(other)) is not None]
        if rates:
            return sum(rates) / len(rates)
        return None if kind[0] in _TRIED else _FITTED_SECONDS

    def _is_sure(self, kind: Kind) -> bool:
        units, left = self._units[kind], sum(job[kind] for job in self._jobs)
        return self._seconds[kind] >= _SURE_SECONDS and units >= _SURE_SHARE * (units + left)

    def _slowdown(self, of: Kind) -> float:
        """Returns how much slower work of other kinds was than known before."""
        timed = [kind for kind in self._seconds if kind in self._known and kind not in (STORING, of)]
        expected = sum(self._units[kind] * self._known[kind] for kind in timed)
        measured = sum(self._seconds[kind] for kind in timed)
        return (_TRUST_SECONDS + measured) / (_TRUST_SECONDS + expected)

    def _report(self) -> None:
        seconds = self.seconds_left if self._jobs else None
        if seconds is None:
            self._shown.left(None)
            return
        if not self._is_announced and self._seconds.total() >= _ENOUGH_SECONDS:
            self._is_announced = True
            self._shown.say(f"On this machine, one at a time: {self.in_words()}.")
            self._shown.status(self.title)
        self._shown.left(seconds)

    def in_words(self) -> str:
        """Says how long the rest takes, by kind where there are several."""
        seconds: Counter[str] = Counter()
        images = 0
        for kind, part in self._parts().items():
            name = kind[-1] if kind[0] == "adapters" else kind[0]
            seconds[name] += part or 0  # pyright: ignore[reportArgumentType]
        images = sum(round(units) for job in self._jobs for kind, units in job.items() if kind[0] == "features")
        named = {name: f"features of {images:,} images" if name == "features" else name for name in seconds}
        whole = about(sum(seconds.values()))
        parts = [f"{named[name]} {about(part)}" for name, part in seconds.most_common() if part >= 1]
        return f"{whole}: {', '.join(parts)}" if len(parts) > 1 else whole
