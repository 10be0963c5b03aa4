"""Reliability diagram of a setting on its test set, all seeds together."""

from statistics import fmean

from cytolora.display import format as words
from cytolora.display.reliability import ReliabilityDiagram
from cytolora.metrics.calibration import NUM_BINS
from cytolora.reporting.results.flags import caution, in_caption, in_file
from cytolora.reporting.results.settings import Setting


def reliability_diagram(setting: Setting, slug: str) -> ReliabilityDiagram:
    """Makes the figure of a tested setting.

    Args:
        slug: Names the setting in file names.
    """
    evaluation = setting.evaluation
    if evaluation is None:
        raise ValueError(f"{setting.setting_id} has no test score to draw.")
    caption = (
        f"{setting.dataset}, {setting.model}, {setting.method}, {words.amount(setting.shots, setting.fraction)}: "
        "reliability diagram, accuracy of test images against the probability of their predicted class, in "
        f"{NUM_BINS} bins of equal width; below, how many images each bin holds. Points below the diagonal: "
        f"overconfident. Expected calibration error {words.percent(fmean(evaluation.ece))} %, Brier score "
        f"{fmean(evaluation.brier):.3f} (0 to 2), means over seeds.{in_caption([setting])}"
    )
    return ReliabilityDiagram(
        name=f"{slug}_reliability",
        caption=caption,
        bins=evaluation.bins,
        flags=in_file(setting),
        caution=caution([setting]),
    )
