"""Answers go to their own questions, whatever is computed together."""

import threading
from collections.abc import Sequence

import pytest

from cytolora.classifier.serve.microbatch import MicroBatcher, QueueFullError

_PATIENCE_SECONDS = 60
"""More than a busy machine takes for any of this."""
_FOR_EVER_SECONDS = 24 * 3600


def test_batches_hold_what_waits_together_and_answers_go_to_their_questions():
    sizes, at_work, gate = [], threading.Event(), threading.Event()

    def double(numbers: Sequence[int]) -> list[int]:
        at_work.set()
        gate.wait(_PATIENCE_SECONDS)
        sizes.append(len(numbers))
        return [2 * number for number in numbers]

    batcher: MicroBatcher[int, int] = MicroBatcher(double, max_batch=8, max_wait_seconds=0.05)
    futures = [batcher.submit(0)]
    assert at_work.wait(_PATIENCE_SECONDS)  # from here on whatever is asked waits together, however slow the machine
    futures += [batcher.submit(number) for number in range(1, 21)]
    gate.set()
    assert [future.result(_PATIENCE_SECONDS) for future in futures] == [2 * number for number in range(21)]
    assert sizes == [1, 8, 8, 4]
    batcher.stop()


def test_stopping_answers_everything_that_was_taken_at_once_and_takes_no_more():
    batcher: MicroBatcher[int, int] = MicroBatcher(list, max_batch=100, max_wait_seconds=_FOR_EVER_SECONDS)
    futures = [batcher.submit(number) for number in range(5)]
    batcher.stop()  # a batch that was waited for would outlast the limit of every test
    assert [future.result(0) for future in futures] == list(range(5))
    with pytest.raises(QueueFullError):
        batcher.submit(1)


def test_an_error_reaches_everybody_in_the_batch_and_the_next_batch_is_answered():
    def picky(numbers: Sequence[int]) -> list[int]:
        if 0 in numbers:
            raise ZeroDivisionError
        return list(numbers)

    batcher: MicroBatcher[int, int] = MicroBatcher(picky, max_wait_seconds=0)
    with pytest.raises(ZeroDivisionError):
        batcher.submit(0).result(_PATIENCE_SECONDS)
    assert batcher.submit(1).result(_PATIENCE_SECONDS) == 1
    batcher.stop()
