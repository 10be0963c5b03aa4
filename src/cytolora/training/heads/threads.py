"""As many threads for the linear algebra of NumPy and SciPy as torch has."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import RLock
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


_inside = RLock()
"""One at a time: the pools are the process's, and two threads would give them back each other's numbers."""


@contextmanager
def numpys_threads() -> Iterator[None]:
    """Has NumPy and SciPy compute with ``torch.get_num_threads()`` threads, and gives them back what they had.

    They bring pools of their own, of one thread a core whatever ``--threads`` says, whose threads wait by spinning: on
    two cores `ridge` took three times the CPU seconds, and every one of several workers would take all cores.
    """
    with _inside, _pools().limit(limits=torch.get_num_threads(), user_api="blas"):
        yield


@cache
def _pools() -> "ThreadpoolController":
    import scipy.linalg  # its pool is found only once it is loaded
    from threadpoolctl import ThreadpoolController

    del scipy
    return ThreadpoolController()
