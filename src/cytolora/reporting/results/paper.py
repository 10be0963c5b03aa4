"""Settings of the paper's experiments, as the shipped grids state them: all others are experiments of one's own."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from cytolora.config.run import PAPER, AdapterSpec, Budget, RunSpec
from cytolora.config.yaml import load_grid

_GRIDS: Mapping[str, str] = {"all": "exp1", "shots": "exp2", "fraction": "exp3"}
"""By what the amount of training images is told in: Table 1, Figure 1 and Figure 2."""


def is_of_paper(spec: RunSpec) -> bool:
    """Whether a setting has the method, the adapter and the budget of the paper's experiment of its kind.

    Datasets and models may be others; a cut budget is marked as such. Of another preset, which changes budgets and
    views as a whole, method and adapter decide.
    """
    if not has_adapter_of_paper(spec):
        return False
    _, budget = _methods(_kind(spec))[spec.method]
    same_budget = spec.preset != PAPER or replace(spec.train.budget, max_steps=None) == budget
    return same_budget and spec.head_start == "random"


def has_adapter_of_paper(spec: RunSpec) -> bool:
    """Whether the paper has the method, with this rank and these targets: else its number is of something else."""
    known = _methods(_kind(spec)).get(spec.method)
    return known is not None and _plain(spec.adapter) == known[0] and not spec.transductive


def _kind(spec: RunSpec) -> str:
    if spec.sampling.shots is not None:
        return "shots"
    return "all" if spec.sampling.fraction is None else "fraction"


@cache
def _methods(kind: str) -> Mapping[str, tuple[AdapterSpec | None, Budget | None]]:
    return {name: (method.adapter, method.budget) for name, method in load_grid(_GRIDS[kind]).methods.items()}


def _plain(adapter: AdapterSpec | None) -> AdapterSpec | None:
    """The public code's wrong attention is marked wherever it stands, in the paper's experiments too."""
    return adapter and replace(adapter, reference_attention_bug=False)
