"""Settings that were run on several divisions of one dataset, gathered to one row each."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cytolora.config.leave_out import column_and_value
from cytolora.config.run import RunSpec
from cytolora.metrics.divisions import OverDivisions, over_divisions
from cytolora.reporting.results.flags import GRAVE, flags
from cytolora.reporting.results.settings import Metric, Setting


@dataclass(frozen=True, kw_only=True)
class Divided:
    """One setting on two divisions or more: equal in everything but ``split.seed``."""

    settings: tuple[Setting, ...]
    """Tested, one for each division, by split seed and value left out."""
    num_unfinished: int = 0
    """Divisions without a test score: not finished, or diverged, so that the mean is over the others."""

    @property
    def first(self) -> Setting:
        """That of the lowest split seed: names and amounts are those of all."""
        return self.settings[0]

    @property
    def divisions(self) -> tuple[str, ...]:
        """Names of the divisions: the values left out, or the split seeds."""
        splits = [setting.spec.split for setting in self.settings]
        return tuple(split.leave_out or str(split.seed) for split in splits)

    @property
    def test_over_train(self) -> float | None:
        """Test groups over training groups of a division, on average; None with few shots, and of sites left out.

        Sites are no random divisions, and few-shot runs see a few of the training groups: what another draw of them
        does is not in this ratio.
        """
        if self.first.shots is not None or self.first.spec.split.leave_out is not None:
            return None
        return sum(map(_test_over_train, self.settings)) / len(self.settings)

    @property
    def flags(self) -> tuple[str, ...]:
        """Grave tags of any of its settings, each once, the gravest first."""
        found = {tag for setting in self.settings for tag in flags(setting)}
        found |= {"incomplete"} if self.num_unfinished else set()
        return tuple(tag for tag in GRAVE if tag in found)

    def over(self, metric: Metric) -> OverDivisions:
        """Summarises a metric on the test sets."""
        values = [[run.metrics["test"][metric] for run in setting.tested] for setting in self.settings]
        return over_divisions(values, test_over_train=self.test_over_train)


def divided(settings: Iterable[Setting]) -> list[Divided]:
    """Gathers the tested settings that were run on several test sets, in the order of the settings.

    Split seeds that leave the test set as it is, where a dataset names its own, are one division.
    """
    families: dict[str, dict[str, Setting]] = defaultdict(dict)
    unfinished: Counter[str] = Counter()
    for setting in sorted(settings, key=lambda one: (one.spec.split.seed, one.spec.split.leave_out or "")):
        if setting.spec.split.file_sha256 is not None:
            continue
        family = _family(setting.spec)
        if setting.evaluation is None:
            unfinished[family] += 1
        else:
            families[family].setdefault(setting.evaluation.test_set, setting)
    found = [
        Divided(settings=tuple(members.values()), num_unfinished=unfinished[family])
        for family, members in families.items()
        if len(members) > 1
    ]
    return sorted(found, key=lambda one: (one.first.dataset, one.first.model, one.first.label, one.first.amount_key))


def undivided(settings: Sequence[Setting], families: Iterable[Divided]) -> list[Setting]:
    """Returns the settings that stand in no family."""
    gathered = {setting.setting_id for family in families for setting in family.settings}
    return [setting for setting in settings if setting.setting_id not in gathered]


def _family(spec: RunSpec) -> str:
    """Names what divisions share: random ones, or the values of one column left out."""
    column = "" if spec.split.leave_out is None else column_and_value(spec.split.leave_out)[0]
    return column + "=" + replace(spec, split=replace(spec.split, seed=0, leave_out=None)).setting_id


def _test_over_train(setting: Setting) -> float:
    """Of runs that did not count their division: as its ratios say."""
    counts = setting.tested[0].provenance.get("division_counts")
    if counts:
        return counts["test"]["units"] / counts["train"]["units"]
    train, _, test = setting.spec.split.ratios
    return test / train
