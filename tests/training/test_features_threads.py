"""Number of torch's threads around the computing of features, which is one for the whole process."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from typing import Any

import pytest
import torch

from cytolora.training import features
from cytolora.training.features import side_by_side

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def _number_of_a_new_thread() -> int:
    """What every thread to come is given."""
    numbers: list[int] = []
    asking = Thread(target=lambda: numbers.append(torch.get_num_threads()))
    asking.start()
    asking.join()
    return numbers[0]


def test_an_interruption_while_the_threads_end_leaves_torch_its_number(monkeypatch: pytest.MonkeyPatch):
    class Interrupted(ThreadPoolExecutor):
        def shutdown(self, *arguments: Any, **options: Any) -> None:
            super().shutdown(*arguments, **options)
            raise KeyboardInterrupt

    monkeypatch.setattr(features, "ThreadPoolExecutor", Interrupted)
    with pytest.raises(KeyboardInterrupt), side_by_side(CPU) as mapped:
        list(mapped(lambda image: image, range(9)))
    assert torch.get_num_threads() == 3
    assert _number_of_a_new_thread() == 3
    monkeypatch.undo()
    with side_by_side(CPU) as mapped:  # and nobody holds the lock
        assert list(mapped(lambda image: image, range(9))) == list(range(9))


def test_of_two_threads_that_compute_features_each_has_the_whole_number_before_and_after():
    """One that began while the other computed took the 1 of its threads for its own, and kept it."""
    is_computing, goes_on, inside, numbers = Event(), Event(), list[Any](), list[int]()

    def first() -> None:
        with side_by_side(CPU) as mapped:
            list(mapped(lambda image: torch.get_num_threads(), range(9)))
            is_computing.set()
            goes_on.wait(30)
        numbers.append(torch.get_num_threads())

    def second() -> None:
        is_computing.wait(30)
        with side_by_side(CPU) as mapped:
            inside.extend(mapped(lambda image: torch.get_num_threads(), range(9)))
        numbers.append(torch.get_num_threads())

    threads = [Thread(target=first, daemon=True), Thread(target=second, daemon=True)]
    for thread in threads:
        thread.start()
    is_computing.wait(30)
    threads[1].join(0.2)  # without a lock it ends here
    goes_on.set()
    for thread in threads:
        thread.join(30)
    assert numbers == [3, 3]
    assert set(inside) == {1}
    assert _number_of_a_new_thread() == 3


@pytest.mark.parametrize("number", [1, 3])
def test_whatever_fails_within_nobody_holds_the_lock_and_the_number_is_back(number: int):
    torch.set_num_threads(number)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), side_by_side(CPU) as mapped:
            list(mapped(lambda image: 1 // image, [1, 2, 0, 3]))
        assert torch.get_num_threads() == _number_of_a_new_thread() == number
