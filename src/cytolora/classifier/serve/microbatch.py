"""Micro-batching: requests of many clients computed in batches by one thread."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import monotonic
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class QueueFullError(Exception):
    """More questions wait than may; the client is to ask again later."""


class MicroBatcher(Generic[Question, Answer]):
    """Collects questions for a few milliseconds, answers them together; bounded, and empty when it has stopped."""

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], Sequence[Answer]],
        *,
        max_batch: int = 32,
        max_wait_seconds: float = 0.005,
        max_queue: int = 256,
    ) -> None:
        """Starts the thread.

        Args:
            answer: Called by one thread only; gives one answer for each question, in their order.
            max_wait_seconds: How long the first question of a batch waits for others.
            max_queue: Questions waiting, at most.
        """
        self._answer = answer
        self._max_batch = max_batch
        self._max_wait = max_wait_seconds
        self._queue: queue.Queue[tuple[Question, Future[Answer]] | None] = queue.Queue()
        self._max_queue = max_queue
        self._lock = threading.Lock()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._work, name="cytolora-batches", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether questions are taken."""
        return self._thread.is_alive() and not self._is_stopped

    def submit(self, question: Question) -> Future[Answer]:
        """Queues one question.

        Raises:
            QueueFullError: If too many wait already, or the batcher has stopped.
        """
        future: Future[Answer] = Future()
        with self._lock:  # so that nothing is queued behind the end
            if self._is_stopped or self._queue.qsize() >= self._max_queue:
                raise QueueFullError
            self._queue.put((question, future))
        return future

    def stop(self) -> None:
        """Takes no more questions, answers all that were taken, then returns."""
        with self._lock:
            if not self._is_stopped:
                self._is_stopped = True
                self._queue.put(None)
        self._thread.join()  # no deadline: it computes what was taken, and is asked nothing more

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:  # no deadline: nothing to do until somebody asks
            batch, ended = self._collect(first)
            self._reply([one for one in batch if one[1].set_running_or_notify_cancel()])
            if ended:
                return

    def _collect(self, first: tuple[Question, Future[Answer]]) -> tuple[list[tuple[Question, Future[Answer]]], bool]:
        """Returns a batch, and whether the end of all questions came behind it."""
        batch, until = [first], monotonic() + self._max_wait
        while len(batch) < self._max_batch:
            wait = 0.0 if self._is_stopped else max(0.0, until - monotonic())
            try:
                following = self._queue.get(timeout=wait) if wait else self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return batch, True
            batch.append(following)
        return batch, False

    def _reply(self, batch: list[tuple[Question, Future[Answer]]]) -> None:
        if not batch:
            return
        try:
            answers = self._answer([question for question, _ in batch])
            if len(answers) != len(batch):
                raise ValueError(f"{len(answers)} answers to {len(batch)} questions")
        except Exception as error:  # whatever it is, nobody may wait for ever
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), found in zip(batch, answers, strict=True):
            future.set_result(found)
