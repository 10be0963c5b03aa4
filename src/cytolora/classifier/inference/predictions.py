"""Predictions of several images as one value: a sequence, and a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from cytolora.classifier.decision.decide import Prediction, class_columns, transductive_columns
from cytolora.core.tables import html_table, to_pandas
from cytolora.core.text import counted

if TYPE_CHECKING:
    import pyarrow as pa

_BOOLEANS = ("positive", "referred", "unfamiliar")


@dataclass(frozen=True)
class Predictions(Sequence[Prediction]):
    """One ``Prediction`` per image, in the order of the images.

    Example::

        predictions = cytolora.load("model1").predict("new_cells")
        print(predictions[0].predicted, predictions[0].probabilities)
        predictions.to_pandas()
    """

    values: tuple[Prediction, ...]
    classes: tuple[str, ...]
    """The classes, in the order of the probabilities."""

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> "Predictions": ...
    def __getitem__(self, index: int | slice) -> "Prediction | Predictions":
        if isinstance(index, slice):
            return Predictions(self.values[index], self.classes)
        return self.values[index]

    def to_arrow(self, *, with_transductive: bool = False) -> "pa.Table":
        """Returns the columns that ``cytolora predict`` writes: one row per image, one column per class."""
        import pyarrow as pa

        rows = [value.row(self.classes, with_transductive=with_transductive) for value in self.values]
        return pa.Table.from_pylist(rows, schema=schema(self.classes, with_transductive=with_transductive))

    def to_pandas(self) -> Any:
        """Returns ``to_arrow`` as a pandas DataFrame.

        Raises:
            ConfigError: If pandas is not installed.
        """
        return to_pandas(self.to_arrow())

    def __repr__(self) -> str:
        counts = [f"{label} {sum(one.predicted == label for one in self.values)}" for label in self.classes]
        return f"Predictions({self._title()}: {', '.join(counts)})"

    def _title(self) -> str:
        num_referred = sum(bool(one.is_referred) for one in self.values)
        num_errors = sum(bool(one.error) for one in self.values)
        unreadable = f", {num_errors} unreadable" if num_errors else ""
        return f"{counted(len(self.values), 'image')}, {num_referred} referred{unreadable}"

    def _repr_html_(self) -> str:
        rows = [value.row(self.classes) for value in self.values]
        header = list(Prediction(name="").row(self.classes))
        return html_table(header, [list(row.values()) for row in rows], caption=self._title())


def schema(classes: Sequence[str], *, with_transductive: bool = False) -> "pa.Schema":
    """Returns the columns of a table of predictions with their types."""
    import pyarrow as pa

    kinds = {name: pa.float64() for name in class_columns(classes)} | {name: pa.bool_() for name in _BOOLEANS}
    _, *by_class, _, applied = transductive_columns(classes)
    kinds |= {name: pa.float64() for name in by_class} | {applied: pa.bool_()}
    names = Prediction(name="").row(classes, with_transductive=with_transductive)
    return pa.schema([(name, kinds.get(name, pa.string())) for name in names])
