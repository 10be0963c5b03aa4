"""Heads on frozen features: what each needs, how it is solved, and its hyper-parameters with their sources, as data.

Importing it loads no torch. The solutions are in training/heads/.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Solution = Literal["closed form", "iterative", "batched"]
"""closed form: linear algebra once; iterative: an optimiser run to convergence; batched: gradient steps, all learning
rates and seeds in one pass, ``HeadSpec.step_limit`` of them at most."""
_BENCHMARK = "public code of Dausort et al.'s later benchmark (mdausort/Cytology_Benchmark)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """Default of a hyper-parameter, and where it is from."""

    default: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadFacts:
    """One head on frozen features."""

    description: str
    solution: Solution
    needs_text: bool = False
    """Whether it reads the text embeddings of the class names."""
    needs_tree: bool = False
    """Whether it reads the tree that the classes hang on."""
    needs_validation: bool = False
    """Whether it reads the validation images: those of a run, beside the training images of each class."""
    chosen_on_validation: tuple[str, ...] = ()
    """Fields of HeadSpec that the validation images choose where they are not set, ``rates`` if several are the
    default. Of any head they choose among several ``rates`` that are set."""
    is_affine: bool = True
    """Whether its logits are an affine map of the features scaled to length 1, so that it can stand in a bundle."""
    reads_text_lengths: bool = False
    """Whether it needs the length of text embeddings too, for which its authors' values are."""
    needs_every_class: bool = False
    """Whether it says nothing sensible of a class without a training image, and is refused there."""
    values: Mapping[str, Value] = field(default_factory=dict)
    """By field of HeadSpec; any other that is set is an error, but for ``step_limit`` of a batched solution."""

    @property
    def settings(self) -> tuple[str, ...]:
        """Fields of HeadSpec that it reads."""
        return (*self.values, *(("step_limit",) if self.solution == "batched" else ()))


_PENALTY = Value(
    default="of 100, 10, ..., 0.0001 the one with the lowest cross-entropy in cross-validation over groups (5 folds at "
    "most); 1 where a class comes from one group only, as with 1 shot",
    source="1: scikit-learn's default; the range is ours, and holds the 1 / 0.316 of the CLIP repository's example",
)


def _steps(rates: str, epochs: str, source: str, **others: Value) -> dict[str, Value]:
    """Hyper-parameters of a head that is trained by steps."""
    return {"rates": Value(default=rates, source=source), "epochs": Value(default=epochs, source=source), **others}


_TREE = _steps(
    "0.01, 0.03, 0.1, 0.3 in batches of 32, cosine; of several the one with the highest validation accuracy",
    "100",
    "AdamW, weight decay 0.01, as the linear heads of the shipped grids; the rates are ours",
)

LINEAR_FACTS = HeadFacts(description="Linear classifier on frozen features.", solution="batched", needs_validation=True)
"""Validation chooses its learning rate."""

FITTED: Mapping[str, HeadFacts] = {
    "gda": HeadFacts(
        description="Gaussian discriminant analysis with a shrunken shared covariance, uniform priors "
        "(Wang et al. 2024); with 1 shot the nearest class mean.",
        solution="closed form",
        values={
            "shrinkage": Value(
                default="d / (N - 1 + d), d features of N images",
                source="Wang et al. 2024, arXiv:2402.04087; public code, main_few_shots.py:58-64",
            )
        },
    ),
    "logistic": HeadFacts(
        description="Logistic regression, its penalty by cross-validation over groups (the objective of scikit-learn).",
        solution="iterative",
        values={"penalty": _PENALTY},
    ),
    "ridge": HeadFacts(
        description="Ridge regression of the classes, +1 and -1, its penalty and temperature by cross-validation over "
        "groups (scikit-learn).",
        solution="closed form",
        values={"penalty": _PENALTY},
    ),
    "knn": HeadFacts(
        description="Vote of the nearest training images by cosine, one vote each; their number by validation.",
        solution="closed form",
        needs_validation=True,
        chosen_on_validation=("neighbours",),
        is_affine=False,
        values={
            "neighbours": Value(
                default="of 1, 3, 5, 10 and 20 the one with the highest validation accuracy, of equals the smallest",
                source="ours, as the stored `neighbours` of linear heads; votes as scikit-learn's KNeighborsClassifier",
            )
        },
    ),
    "nearest-mean": HeadFacts(
        description="Nearest class mean of features scaled to length 1 (SimpleShot, Wang et al. 2019).",
        solution="closed form",
        values={
            "centre": Value(
                default="false: L2N; true: CL2N with the mean of the training features, where the paper has that of a "
                "base set",
                source="Wang et al. 2019, arXiv:1911.04623",
            )
        },
    ),
    "prototypes": HeadFacts(
        description="Softmax over squared distances to class means, its temperature by cross-validation over groups "
        "(Snell et al. 2017).",
        solution="closed form",
    ),
    "mlp": HeadFacts(
        description="Multilayer perceptron with one hidden layer, its learning rate by validation.",
        solution="batched",
        needs_validation=True,
        chosen_on_validation=("rates",),
        is_affine=False,
        values=_steps(
            "0.001, 0.003, 0.01 in batches of 32, cosine; of several the one with the highest validation accuracy",
            "100",
            "AdamW, weight decay 0.01, as the linear heads of the shipped grids; rates and width are ours",
            hidden=Value(default="256", source="ours"),
        ),
    ),
    "tree-softmax": HeadFacts(
        description="Linear classifier among the children of every node of the class tree, a class the product along "
        "its path (Redmon & Farhadi 2017).",
        solution="batched",
        needs_tree=True,
        needs_validation=True,
        chosen_on_validation=("rates",),
        is_affine=False,
        values=_TREE,
    ),
    "hxe": HeadFacts(
        description="Linear classifier by hierarchical cross-entropy: of the levels of the class tree the coarsest "
        "weighs most (Bertinetto et al. 2020).",
        solution="batched",
        needs_tree=True,
        needs_validation=True,
        chosen_on_validation=("rates",),
        values={
            **_TREE,
            "alpha": Value(
                default="0.5",
                source="Bertinetto et al. 2020, arXiv:1912.09393; the scripts of its public code run 0.1 to 0.9",
            ),
        },
    ),
    "ss-text": HeadFacts(
        description="Text embeddings of the classes moved towards their images and away from each other (SS-Text+, "
        "Silva-Rodríguez et al. 2025).",
        solution="closed form",
        needs_text=True,
    ),
    "lp++": HeadFacts(
        description="Linear classifier and a factor of each class's text, by gradient steps of computed size (Huang et "
        "al. 2024).",
        solution="batched",
        needs_text=True,
        needs_validation=True,
    ),
    "tip-adapter": HeadFacts(
        description="Zero-shot logits and votes of all training images by likeness, without training (Zhang et al. "
        "2022).",
        solution="closed form",
        needs_text=True,
        needs_validation=True,
        chosen_on_validation=("alpha", "beta"),
        is_affine=False,
        needs_every_class=True,
        values={
            "alpha": Value(
                default="of 2 and 20 values from 0.1 to 10 the one with the highest validation accuracy",
                source="Zhang et al. 2022, arXiv:2207.09519; range and start of the public code of Dausort et al.'s "
                "later benchmark",
            ),
            "beta": Value(
                default="of 1 and 200 values from 0.1 to 12, chosen with alpha",
                source="as alpha",
            ),
        },
    ),
    "tip-adapter-f": HeadFacts(
        description="Tip-Adapter with its keys trained, epoch by validation (Zhang et al. 2022).",
        solution="batched",
        needs_text=True,
        needs_validation=True,
        chosen_on_validation=("alpha", "beta"),
        is_affine=False,
        needs_every_class=True,
        values=_steps(
            "0.001 in batches of 256, cosine",
            "100, the best of them and the start by validation accuracy; without validation images the last",
            f"AdamW, epsilon 0.0001: Zhang et al. 2022, arXiv:2207.09519, main.py:66-141; epochs: {_BENCHMARK}",
            alpha=Value(default="2 in training, then as tip-adapter", source="as tip-adapter"),
            beta=Value(default="1 in training, then as tip-adapter", source="as tip-adapter"),
        ),
    ),
    "clip-adapter": HeadFacts(
        description="Bottleneck of two layers beside the feature, compared with the text (Gao et al. 2021).",
        solution="batched",
        needs_text=True,
        is_affine=False,
        values=_steps(
            "0.001 in batches of 8, 10 epochs of linear warm-up, cosine",
            "100",
            f"SGD, momentum 0.9, weight decay 0.0005: {_BENCHMARK}, and the defaults of Dassl",
            ratio=Value(default="0.2", source="Gao et al. 2021, arXiv:2110.04544; public code, clip_adapter.py"),
        ),
    ),
    "task-residual": HeadFacts(
        description="Text embeddings of the classes with a trained residual (Yu et al. 2023).",
        solution="batched",
        needs_text=True,
        reads_text_lengths=True,
        values=_steps(
            "0.002 in batches of 256, 1 warm-up epoch, cosine",
            "100; 200 from 8 images of each class on",
            "Adam, weight decay 0.0005: Yu et al. 2023, arXiv:2211.10277; public code, configs/trainers/TaskRes",
            scale=Value(default="0.5", source="Yu et al. 2023; 1.0 for one of their eleven datasets"),
        ),
    ),
    "clap": HeadFacts(
        description="Linear probe from the text embeddings, held near them class by class (Silva-Rodríguez et al. "
        "2024).",
        solution="batched",
        needs_text=True,
        reads_text_lengths=True,
        values=_steps(
            "0.1 in batches of 256, 1 warm-up epoch, cosine",
            "300",
            "SGD, momentum 0.9: Silva-Rodríguez et al. 2024, arXiv:2312.12730; public code, SGD_lr1e-1_B256_ep300.yaml",
        ),
    ),
    "proker": HeadFacts(
        description="Kernel ridge regression of what zero-shot leaves (Bendou et al. 2025).",
        solution="closed form",
        needs_text=True,
        is_affine=False,
        values={
            "beta": Value(
                default="3, 2.6, 1.5, 1.66, 1.7 at 1, 2, 4, 8, 16 images of each class; rounded down between",
                source="Bendou et al. 2025, arXiv:2501.11175; public fork of its code, hyperparameters.json",
            ),
            "lam": Value(
                default="0.05, 0.05, 0.05, 0.07, 0.1 at the same numbers of images",
                source="as beta",
            ),
        },
    ),
}
"""By method."""
