"""Reads GGUF files: metadata values and tensors, mapped, not loaded.

gguf's own reader makes a NumPy array of every string of the vocabulary, which takes seconds for a large
one; this reads the same layout with struct. De-quantising is gguf's. Little-endian files of versions 2
and 3, the only ones in circulation.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from gguf.quants import dequantize

from data.errors import InputError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_SCALARS: Mapping[int, str] = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}


@dataclass(frozen=True)
class GgufTensor:
    """A tensor as it lies in the file: `shape` as PyTorch has it, `data` its bytes."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    data: npt.NDArray[np.uint8]

    def rows(
        self, first: int, last: int, order: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return rows [first, last) of the first dimension as fp32; `order` is the file's row of each row."""
        by_row = self.data.reshape(self.shape[0], -1) if len(self.shape) > 1 else self.data.reshape(1, -1)
        if len(self.shape) == 1:
            return self._values(by_row).reshape(-1)[first:last]
        chosen: Any = slice(first, last) if order is None else order[first:last]
        return self._values(by_row[chosen]).reshape(-1, *self.shape[1:])

    def _values(self, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        values: npt.NDArray[np.float32] = dequantize(data, self.kind)
        return values


class GgufFile:
    """One GGUF file.

    Raises:
        InputError: not a GGUF file, of a version or tensor type not known, or cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._place = 0
            magic, version = self._take("4sI")
            if magic != _MAGIC or version not in _VERSIONS:
                raise ValueError(f"it begins with {magic!r}, version {version}")
            num_tensors, num_values = self._take("QQ")
            self._metadata: dict[str, Any] = {}
            for _ in range(num_values):
                key = self._string()
                self._metadata[key] = self._value(self._take("I")[0])
            self.tensors = self._read_tensors(num_tensors)
        except (ValueError, struct.error, OSError) as error:
            raise InputError(f"{path}: not a readable GGUF file ({error}); fetch it again") from error

    def value(self, key: str, default: Any = None) -> Any:
        """Return a metadata value, or `default` where the file has none."""
        return self._metadata.get(key, default)

    def required(self, key: str) -> Any:
        """Return a metadata value.

        Raises:
            InputError: the file does not say.
        """
        if key not in self._metadata:
            raise InputError(f"{self.path}: the metadata {key!r} is missing")
        return self._metadata[key]

    def _take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self._data, self._place)
        self._place += struct.calcsize("<" + layout)
        return values

    def _string(self) -> str:
        (length,) = self._take("Q")
        start, self._place = self._place, self._place + length
        if self._place > len(self._data):
            raise ValueError("a string goes past its end")
        return self._data[start : self._place].decode()

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self._take(_SCALARS[kind])[0]
        if kind == GGUFValueType.STRING:
            return self._string()
        if kind != GGUFValueType.ARRAY:
            raise ValueError(f"metadata of unknown type {kind}")
        item_kind, count = self._take("IQ")
        if item_kind in _SCALARS:
            return list(self._take(f"{count}{_SCALARS[item_kind]}"))
        return [self._value(item_kind) for _ in range(count)]

    def _read_tensors(self, count: int) -> dict[str, GgufTensor]:
        described = []
        for _ in range(count):
            name = self._string()
            (num_dimensions,) = self._take("I")
            shape = tuple(reversed(self._take(f"{num_dimensions}Q")))
            kind, offset = self._take("IQ")
            described.append((name, shape, GGMLQuantizationType(kind), offset))
        alignment = self.value("general.alignment", _DEFAULT_ALIGNMENT)
        start = -(-self._place // alignment) * alignment
        tensors = {}
        for name, shape, quantisation, offset in described:
            block_values, block_bytes = GGML_QUANT_SIZES[quantisation]
            size_bytes = math.prod(shape) // block_values * block_bytes
            if start + offset + size_bytes > len(self._data):
                raise ValueError(f"tensor {name!r} goes past its end: the file is cut short")
            data = np.frombuffer(self._data, np.uint8, size_bytes, start + offset)
            tensors[name] = GgufTensor(name, shape, quantisation, data)
        return tensors
