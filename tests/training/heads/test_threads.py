"""Heads on frozen features compute with the threads that the user gave."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from cytolora.config.run import HeadSpec
from cytolora.training.heads import fitted
from cytolora.training.heads.labelled import Labelled


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize("number", [1, 2])
def test_a_head_computes_with_the_threads_of_torch_and_gives_back_what_there_was(
    number: int, monkeypatch: pytest.MonkeyPatch
):
    seen = list[set[int]]()

    def ridge(*_: object, seed: int) -> SimpleNamespace:
        scipy.linalg.solve(np.eye(2), np.ones(2))
        seen.append(blas_threads())
        return SimpleNamespace(state=dict)

    monkeypatch.setattr(fitted, "ridge", ridge)
    known = Labelled(features=torch.eye(2), labels=torch.arange(2), num_classes=2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(number)
        with threadpool_limits(3, user_api="blas"):
            fitted.head_of("ridge").fit(known, known, HeadSpec(), 0)
            assert seen == [{number}]
            assert blas_threads() == {3}
    finally:
        torch.set_num_threads(before)
