"""Large images are decoded alone, small ones together, and nobody waits for ever."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from peak_memory import peak_of
from PIL import Image

from cytolora.data.imaging.decode import decode
from cytolora.data.imaging.room import Room, one_image, take_room


class _Watched:
    """Threads that take room, and how many bytes were taken at once."""

    def __init__(self, room: Room) -> None:
        self._room, self._lock = room, threading.Lock()
        self.now: list[int] = []
        self.seen: list[list[int]] = []

    def hold(self, num_bytes: int) -> None:
        self._room.take(num_bytes)
        with self._lock:
            self.now.append(num_bytes)
            self.seen.append(sorted(self.now))
        time.sleep(0.002)
        with self._lock:
            self.now.remove(num_bytes)
        self._room.give_back(num_bytes)


def test_a_large_image_is_alone_and_small_ones_are_together():
    watched = _Watched(Room(100))
    sizes = [10, 20, 500, 30, 10, 101, 60, 60, 5, 100, 1] * 4
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(watched.hold, sizes))
    assert len(watched.seen) == len(sizes)
    assert all(len(held) == 1 or sum(held) <= 100 for held in watched.seen)
    assert any(len(held) > 1 for held in watched.seen)


def test_a_large_image_gets_its_turn_while_small_ones_keep_coming():
    room, is_done = Room(100), threading.Event()

    def small() -> None:
        while not is_done.is_set():
            room.take(40)
            time.sleep(0.001)
            room.give_back(40)

    threads = [threading.Thread(target=small) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(room.take, 500).result(timeout=20)
    finally:
        room.give_back(500)
        is_done.set()
        for thread in threads:
            thread.join()


def test_two_threads_that_each_read_several_large_images_do_not_wait_for_each_other():
    def read(_: int) -> int:
        with one_image():
            for _ in range(5):
                take_room(2**30)
        return 1

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(8), timeout=20)) == [1] * 8


def test_room_is_given_back_where_an_image_cannot_be_read():
    def fail() -> None:
        with one_image():
            take_room(2**40)
            raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        fail()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(decode, io.BytesIO(_png(8)), "a.png").result(timeout=20).shape == (8, 8, 3)


def _png(edge: int) -> bytes:
    sink = io.BytesIO()
    Image.new("L", (edge, edge), 77).convert("RGB").save(sink, "PNG", compress_level=1)
    return sink.getvalue()


@pytest.mark.slow
def test_predicting_images_of_8192_pixels_takes_less_than_512_mb(tmp_path: Path):
    from small_bundle import write_small_bundle

    from cytolora.classifier.inference.classifier import Classifier
    from cytolora.classifier.inference.image_sources import find_images
    from cytolora.classifier.inference.table import predict_table

    bundle = Classifier.load(write_small_bundle(tmp_path / "bundle"))
    bundle.warm_up()
    images = tmp_path / "images"
    images.mkdir()
    content, _ = peak_of(lambda: _png(8192))
    for number in range(3):
        (images / f"{number}.png").write_bytes(content)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(images / "small.png")
    summary, num_bytes = peak_of(lambda: predict_table(bundle, find_images(images), tmp_path / "out.csv"))
    assert (summary.num_images, summary.num_errors) == (4, 0)
    assert num_bytes < 512 * 2**20
