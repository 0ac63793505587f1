"""Searching a part of the rows: those of given info_1 and info_2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from data.errors import InputError
from data.records import Row, normalised

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FIELDS = ("info_1", "info_2")
_MOST_NAMED = 5


@dataclass(frozen=True)
class RowFilter:
    """Which rows to search: the value of each field is one of those named; () leaves the field open.

    Values are compared as row ids are made: full-width and half-width, upper and lower case are the same.
    """

    info_1: tuple[str, ...] = ()
    info_2: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """The rows that a filter leaves.

    Attributes:
        mask: For each row whether it is among them, (number of rows,).
        num_rows: How many are; at least 1.
        values: Field to the values that they have there, as the workbook spells them.
    """

    mask: NDArray[np.bool_] = field(repr=False)
    num_rows: int
    values: Mapping[str, Sequence[str]]


class Parts:
    """Finds the part of the rows that a filter means; `rows` in the order of the index."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._places: dict[str, dict[str, list[int]]] = {name: {} for name in _FIELDS}
        for place, row in enumerate(rows):
            for name in _FIELDS:
                self._places[name].setdefault(normalised(getattr(row, name)), []).append(place)

    def part(self, chosen: RowFilter) -> Part | None:
        """Return the part; None for a filter that leaves every field open.

        Raises:
            InputError: no row has one of the values, or none has them together.
        """
        # Imported here: whoever only grounds questions has no use for it.
        import numpy as np

        mask = np.ones(len(self._rows), bool)
        values: dict[str, Any] = {}
        for name in _FIELDS:
            if wanted := getattr(chosen, name):
                places = [place for value in wanted for place in self._of(name, value)]
                here = np.zeros(len(self._rows), bool)
                here[places] = True
                mask &= here
                values[name] = sorted({str(getattr(self._rows[place], name)) for place in places})
        if not values:
            return None
        if not mask.any():
            raise InputError(f"filter: no row has this info_1 together with this info_2 ({chosen!r})")
        return Part(mask, int(mask.sum()), values)

    def _of(self, name: str, value: str) -> list[int]:
        known = self._places[name]
        if (places := known.get(normalised(value))) is None:
            largest = sorted((key for key in known if key), key=lambda key: -len(known[key]))[:_MOST_NAMED]
            raise InputError(f"filter: no row has {name} {value!r}; there are {', '.join(largest)} ...")
        return places
