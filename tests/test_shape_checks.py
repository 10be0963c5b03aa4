"""Shapes and dtypes in signatures are checked while tests run."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from cytolora.config.run import Budget, TrainSpec
from cytolora.metrics.agreement import class_scores
from cytolora.models.encoder_with_head import head_state
from cytolora.models.pooling import QueryPool
from cytolora.training.estimator import LinearHead
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.linear import fit_heads


def test_a_method_refuses_an_array_of_another_rank():
    with pytest.raises(TypeCheckError, match="batch tokens context_width"):
        QueryPool(context_width=16, width=8)(torch.randn(2, 16))


def test_two_arguments_must_agree_in_a_dimension_of_one_name():
    with pytest.raises(TypeCheckError, match=r"classes"):
        head_state(torch.randn(3, 16), torch.randn(4))
    assert head_state(torch.randn(3, 16), torch.randn(3))


def test_a_keyword_only_function_refuses_another_dtype():
    train = TrainSpec(budget=Budget(amount=1, unit="epochs"))
    with pytest.raises(TypeCheckError, match="draws images"):
        fit_heads(
            torch.randn(1, 8, 4),
            torch.zeros(1, 8),
            train,
            num_classes=2,
            learning_rates=[0.1],
            seeds=[0],
            num_steps=1,
        )


def test_a_dataclass_refuses_fields_that_disagree():
    with pytest.raises(TypeCheckError, match="images"):
        Labelled(features=torch.randn(5, 4), labels=torch.zeros(6, dtype=torch.int64), num_classes=2)


def test_a_matrix_of_counts_is_square():
    with pytest.raises(TypeCheckError, match="classes classes"):
        class_scores(np.ones((2, 3)))


def test_a_wrong_return_value_is_refused(monkeypatch: pytest.MonkeyPatch):
    head = LinearHead(num_epochs=1).fit(np.eye(4), [0, 1, 2, 2])
    head.coef_ = head.coef_.astype(np.float32)
    head.intercept_ = head.intercept_.astype(np.float32)
    monkeypatch.setattr(
        "cytolora.training.estimator.validate_data", lambda *args, **options: np.eye(4, dtype=np.float32)
    )
    with pytest.raises(TypeCheckError, match="return value"):
        head.predict_proba(np.eye(4))


@pytest.mark.slow
def test_without_the_check_no_function_is_wrapped():
    """Shapes cost users nothing: the check is installed by tests/conftest.py alone."""
    code = "from cytolora.models.pooling import QueryPool as q; raise SystemExit(hasattr(q.forward, '__wrapped__'))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert hasattr(QueryPool.forward, "__wrapped__")


def test_a_module_imported_too_early_is_an_error_and_not_left_unchecked():
    support = Path(__file__).parent / "support"
    code = (
        f"import sys; sys.path.insert(0, {str(support)!r}); import cytolora.metrics.scores, shape_checks; "
        "shape_checks.install(['cytolora.metrics'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert re.search(r"cytolora\.metrics\.\w+ was imported before its shapes could be checked", done.stderr)


def test_an_adapted_encoder_still_exports_with_a_free_batch_size():
    """The wrappers of the check do not fix the number of images while torch traces."""
    pool = QueryPool(context_width=16, width=8).eval()
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(pool, (torch.randn(2, 5, 16),), dynamic_shapes=({0: batch},)).module()
    tokens = torch.randn(7, 5, 16)
    torch.testing.assert_close(exported(tokens), pool(tokens))
    assert isinstance(pool, nn.Module)
