"""A labelling project in memory, for tests of its server and page: drawn cells whose classes can be seen."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cytolora.core.arguments import AnyPath
from cytolora.errors import ConfigError
from cytolora.labelling.board import BY_OTHERS
from cytolora.labelling.session import Labelling
from cytolora.labelling.turns import Turn

CLASSES = ("normal", "lsil", "hsil")
_SPECIAL = {"not a cell": -2, "unsure": -3}


class FakeLabelling(Labelling):
    """Answers as a project does; its classifier knows the classes and errs in every tenth cell."""

    def __init__(
        self,
        n_cells: int = 60,
        classes: Sequence[str] = CLASSES,
        *,
        has_features: bool = True,
        folder: Path | None = None,
    ) -> None:
        self._classes, self._n_cells, self.folder = list(classes), n_cells, folder
        self.lack = ""
        random = np.random.default_rng(0)
        self.truth = random.integers(0, len(classes), n_cells)
        self.guess = np.where(random.random(n_cells) < 0.1, (self.truth + 1) % len(classes), self.truth)
        centres = np.stack([np.cos(self.truth * 2.1), np.sin(self.truth * 2.1)], 1)
        self.places = (centres + random.normal(0, 0.35, (n_cells, 2))).astype(np.float32)
        self.group = np.arange(n_cells) // 10
        self.test = self.group % 4 == 3
        self.doubt = random.random(n_cells).astype(np.float32)
        self.entries: list[dict[str, Any]] = []
        self.answers: dict[str, dict[str, Any]] = {}
        self.undone: list[dict[str, Any]] = []
        self.has_features, self.number = has_features, 0
        self.is_closed = self.is_prepared = False
        self.mixture = {"doubt": 0.5, "diversity": 0.5, "mistakes": 0.1, "rare": 0.1, "test": 0.25}
        self.fail_with: Exception | None = None
        """Raised by the next entry, once."""
        self._lock, self.lora, self.may_train = Lock(), Turn("LoRA is being trained already."), Event()

    @property
    def classes(self) -> list[str]:
        return self._classes

    @property
    def encoder(self) -> str:
        return "frozen"

    def begin_lora(self) -> Callable[[], bool]:
        self.lora.take()

        def train() -> bool:
            self.may_train.wait(60)
            self.lora.give_back()
            return True

        return train

    @property
    def is_lora_new(self) -> bool:
        return False

    @property
    def n_cells(self) -> int:
        return self._n_cells

    def close(self) -> None:
        self.is_closed = True

    def prepare(self) -> None:
        self.is_prepared = True

    def start_features(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        self.has_features = True

    def labels_of(self, reader: str | None) -> dict[int, str]:
        """What a reader has said, an undone entry left out."""
        taken = {entry["undoes"] for entry in self.entries if entry["undoes"] is not None}
        found = {}
        for entry in self.entries:
            if entry["undoes"] is None and entry["entry"] not in taken and reader in (None, entry["reader"]):
                found.update(dict.fromkeys(entry["cells"], entry["value"]))
        return found

    def overview(self, reader: str) -> dict[str, Any]:
        labels = self.labels_of(reader)
        said, number = list(labels.values()), self.number
        keys = [*"123456789", *[""] * len(self.classes)]
        return {
            "project": str(self.folder or "project"), "version": 1, "n_cells": self.n_cells,
            "n_groups": int(self.group.max()) + 1, "groups_known": True,
            "classes": [
                {"name": name, "key": keys[index], "labels": said.count(name),
                 "test_labels": sum(self.test[cell] and value == name for cell, value in labels.items()),
                 "predicted": int((self.guess == index).sum()) if self.number else 0}
                for index, name in enumerate(self.classes)
            ],
            "not_a_cell": said.count("not a cell"), "unsure": said.count("unsure"),
            "features": {"done": self.n_cells * self.has_features, "total": self.n_cells, "error": None},
            "classifier": {"name": "ridge on nano", "labels": len(labels), "number": number} if number else None,
            "encoder": {"name": "frozen", "has_lora": False, "training": None},
            "mixture": dict(self.mixture), "estimate": self.estimates(),
            "can_undo": bool(self._open(reader)), "can_redo": bool(self.undone), "last_entry": len(self.entries),
        }  # fmt: skip

    def _row(self, cell: int) -> dict[str, Any]:
        is_blind = bool(self.test[cell]) or not self.number
        shares = np.full(len(self.classes), 0.2 / max(1, len(self.classes) - 1))
        shares[self.guess[cell]] = 0.8
        slide = self.group[cell]
        return {
            "cell": cell, "name": f"slide_{slide:02}/cell_{cell:05}.png", "group": f"slide {slide}",
            "share": "test" if self.test[cell] else "train",
            "why": "Drawn at random for the test." if self.test[cell] else "The classifier is in doubt.",
            "prediction": None if is_blind else self.classes[self.guess[cell]],
            "probabilities": None if is_blind else shares, "doubt": None if is_blind else float(self.doubt[cell]),
        }  # fmt: skip

    def queue(self, reader: str, n: int = 24, *, kind: str = "next") -> list[dict[str, Any]]:
        labels = self.labels_of(reader)
        left = [cell for cell in range(self.n_cells) if cell not in labels]
        if kind == "test":
            left = [cell for cell in left if self.test[cell]]
        elif kind == "second":
            left = [cell for cell in self.labels_of(None) if cell not in labels]
        return [self._row(cell) for cell in left[:n]]

    def cell(self, reader: str, cell: int) -> dict[str, Any]:
        if not 0 <= cell < self.n_cells:
            raise ConfigError(f"There is no cell {cell}; the project has {self.n_cells}.")
        near = np.argsort(((self.places - self.places[cell]) ** 2).sum(1))[1:13]
        history = [
            {
                "reader": entry["reader"],
                "value": entry["value"],
                "entry": entry["entry"],
                "how": entry["how"],
                "time": "2026-01-31T09:00:00.000+00:00",
                "undone": False,
            }
            for entry in self.entries
            if cell in entry["cells"] and entry["reader"] == reader and entry["undoes"] is None
        ]
        label = self.labels_of(reader).get(cell)
        return {**self._row(cell), "label": label, "history": history, "similar": near.tolist()}

    def label_of(self, reader: str, cell: int) -> str | None:
        return self.labels_of(reader).get(cell)

    def points(self, reader: str | None = None) -> dict[str, Any]:
        label = np.full(self.n_cells, -1, np.int16)
        label[list(self.labels_of(None))] = BY_OTHERS
        for cell, value in self.labels_of(reader).items():
            label[cell] = _SPECIAL[value] if value in _SPECIAL else self.classes.index(value)
        known = bool(self.number) & ~self.test
        x, y = self.places.T if self.has_features else (None, None)
        return {
            "x": x, "y": y,
            "label": label, "prediction": np.where(known, self.guess, -1).astype(np.int16),
            "doubt": np.where(known, self.doubt, np.nan).astype(np.float32), "group": self.group.astype(np.int32),
            "test": self.test.astype(np.uint8),
        }  # fmt: skip

    def picture(self, cell: int, size: int = 512) -> tuple[bytes, str]:
        random = np.random.default_rng(cell)
        edge = min(128, size)
        image = Image.new("RGB", (edge, edge), (236, 226, 236))
        draw = ImageDraw.Draw(image)
        shift = random.integers(-8, 9, 2)
        wide = edge / 128
        colours = ((214, 190, 214), (190, 205, 222), (222, 200, 190))
        for radius, colour in (
            (54, colours[self.truth[cell] % 3]),
            (14 + 9 * int(self.truth[cell] % 3), (92, 70, 130)),
        ):
            centre = 64 + shift
            draw.ellipse([*(wide * (centre - radius)), *(wide * (centre + radius))], fill=colour)
        sink = io.BytesIO()
        image.save(sink, "PNG")
        return sink.getvalue(), "image/png"

    def estimates(self) -> dict[str, Any]:
        n = sum(bool(self.test[cell]) for cell in self.labels_of(None))
        return {
            "n": n, "groups": n, "accuracy": [0.9, 0.8, 0.96] if n > 1 else None,
            "sensitivity": {name: [0.88, 0.7, 0.95] if n > 1 else None for name in self.classes},
            "method": "Hájek", "marks": [], "naive": None,
            "hint": {"stop": False, "sentence": f"{n} test labels: too few to say anything."},
        }  # fmt: skip

    def forecast(self) -> dict[str, Any]:
        return {"labels": 200, "now": 0.8, "expected": (0.85, 0.8, 0.9), "sentence": "With 200 labels about 85 %."}

    def disagreements(self) -> list[dict[str, Any]]:
        readers = sorted({entry["reader"] for entry in self.entries})
        by_reader = {reader: self.labels_of(reader) for reader in readers}
        found = []
        for cell in range(self.n_cells):
            said = {reader: labels[cell] for reader, labels in by_reader.items() if cell in labels}
            if len(set(said.values())) > 1:
                found.append({"cell": cell, "labels": said, "adjudicated": self._adjudicated(cell)})
        return found

    def _adjudicated(self, cell: int) -> str | None:
        said = [one["value"] for one in self.entries if one["how"] == "adjudication" and cell in one["cells"]]
        return said[-1] if said else None

    def agreement(self) -> dict[str, Any]:
        readers = sorted({entry["reader"] for entry in self.entries})
        pairs = [{"a": readers[0], "b": readers[1], "kappa": 0.71, "low": 0.5, "high": 0.9}] if len(readers) > 1 else []
        return {
            "readers": readers,
            "cells": len(self.disagreements()),
            "cohen": pairs,
            "fleiss": None,
            "weighted": False,
            "caution": "An interval of kappa rests on 6 groups; under about 30 it may be narrow." if pairs else None,
        }

    def _add(
        self, reader: str, cells: list[int], value: str, client_id: str, how: str, undoes: int | None = None
    ) -> Any:
        with self._lock:
            if client_id in self.answers:
                return self.answers[client_id]
            if self.fail_with is not None:
                error, self.fail_with = self.fail_with, None
                raise error
            entry = {"entry": len(self.entries), "reader": reader, "cells": list(cells), "value": value, "how": how,
                     "undoes": undoes}  # fmt: skip
            self.entries.append(entry)
        answer = {"entry": entry["entry"], "undone": [], "cells": entry["cells"], "overview": self.overview(reader)}
        self.answers[client_id] = answer
        return answer

    def label(self, reader: str, cells: list[int], value: str, *, client_id: str, how: str = "key") -> dict[str, Any]:
        if value not in self.classes and value not in _SPECIAL:
            raise ConfigError(f"{value!r} is no class of this project: {', '.join(self.classes)}.")
        kept = cells if how == "key" else [cell for cell in cells if not self.test[cell]]
        if not kept:
            raise ConfigError("All of these cells are of the test share, which are labelled one at a time.")
        if client_id not in self.answers:
            self.undone = []
        return {**self._add(reader, kept, value, client_id, how), "left_out": sorted(set(cells) - set(kept))}

    def _open(self, reader: str) -> list[dict[str, Any]]:
        taken = {entry["undoes"] for entry in self.entries if entry["undoes"] is not None}
        return [
            one
            for one in self.entries
            if one["undoes"] is None and one["entry"] not in taken and one["reader"] == reader
        ]

    def undo(self, reader: str, *, client_id: str) -> dict[str, Any]:
        if client_id in self.answers:
            return self.answers[client_id]
        if not (left := self._open(reader)):
            raise ConfigError("There is nothing to undo.")
        self.undone.append(left[-1])
        return self._add(reader, left[-1]["cells"], left[-1]["value"], client_id, "key", left[-1]["entry"])

    def redo(self, reader: str, *, client_id: str) -> dict[str, Any]:
        if client_id in self.answers:
            return self.answers[client_id]
        if not self.undone:
            raise ConfigError("There is nothing to redo.")
        last = self.undone.pop()
        return self._add(reader, last["cells"], last["value"], client_id, "key")

    def adjudicate(self, reader: str, cell: int, value: str, *, client_id: str) -> dict[str, Any]:
        return self._add(reader, [cell], value, client_id, "adjudication")

    def set_mixture(self, mixture: Mapping[str, float]) -> None:
        self.mixture = dict(mixture)

    def refit(self) -> dict[str, Any]:
        self.number += 1
        return {"number": self.number, "seconds": 0.0, "labels": len(self.labels_of(None))}

    def lacking(self) -> str:
        return self.lack

    def write_labels(self, path: AnyPath | None = None) -> Path:
        out = Path(path) if path is not None else (self.folder or Path()) / "labels.csv"
        rows = [f"{self._row(cell)['name']},{value}" for cell, value in sorted(self.labels_of(None).items())]
        out.write_text("\n".join(["path,label", *rows, ""]))
        return out
