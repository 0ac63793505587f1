"""Safetensors files, written in bf16 a block of rows at a time, and read as far as their header.

The places of all tensors are settled before the first value is known. So a tensor is converted and written
block by block: what is in memory is a few blocks whatever the model's size, and threads write at the same
time. Knows nothing of models.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from data.artefacts import write_json
from data.errors import InputError
from data.models.progress import Advance, no_progress

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_BYTES_PER_VALUE = 2
# A block and its temporaries then stay in a core's cache; four times as many values take twice as long each.
_BLOCK_VALUES = 1 << 17
_MAX_HEADER_BYTES = 100_000_000

Rows = Callable[[int, int], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class RowSource:
    """One tensor to be written; `rows(first, last)` gives rows [first, last) of its first dimension."""

    name: str
    shape: tuple[int, ...]
    rows: Rows

    @property
    def num_values(self) -> int:
        """The product of the shape."""
        return math.prod(self.shape)


def to_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Return the bf16 bit patterns of finite `values`, rounded to nearest, ties to even.

    NumPy has no bf16, so the rounding is done on the bits of fp32: bf16 is its upper half.
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    return rounded.astype(np.uint16)


def write_weights(
    folder: Path,
    tensors: Sequence[RowSource],
    advance: Advance = no_progress,
    max_shard_bytes: int = 2_000_000_000,
    num_threads: int = 2,
) -> int:
    """Write `tensors` into `folder` as model.safetensors, or as numbered shards with an index.

    `advance` is told the number of values written since its last call; returns their sum.

    Raises:
        InputError: a tensor holds a value that is not a finite number.
    """
    shards = _share_out(tensors, max_shard_bytes)
    with _ShardFiles(folder, shards) as files, ThreadPoolExecutor(num_threads) as pool:
        for size in pool.map(lambda block: files.write_block(*block), _blocks(tensors)):
            advance(size)
    if len(shards) > 1:
        _write_index(folder, shards)
    return sum(tensor.num_values for tensor in tensors)


def _blocks(tensors: Sequence[RowSource]) -> Iterator[tuple[RowSource, int, int]]:
    for tensor in tensors:
        num_rows = tensor.shape[0]
        step = max(1, _BLOCK_VALUES * num_rows // tensor.num_values)
        for first in range(0, num_rows, step):
            yield tensor, first, min(num_rows, first + step)


def _share_out(tensors: Sequence[RowSource], max_shard_bytes: int) -> list[list[RowSource]]:
    shards: list[list[RowSource]] = [[]]
    filled = 0
    for tensor in tensors:
        size_bytes = tensor.num_values * _BYTES_PER_VALUE
        if shards[-1] and filled + size_bytes > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += size_bytes
    return shards


class _ShardFiles:
    """The open files of all shards, at their full size from the start."""

    def __init__(self, folder: Path, shards: Sequence[Sequence[RowSource]]) -> None:
        self._folder = folder
        self._shards = shards
        self._places: dict[str, tuple[int, int]] = {}
        self._descriptors: list[int] = []

    def __enter__(self) -> _ShardFiles:
        for number, shard in enumerate(self._shards):
            path = self._folder / _file_name(number, len(self._shards))
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            self._descriptors.append(descriptor)
            header = _header(shard)
            os.pwrite(descriptor, header, 0)
            offset = len(header)
            for tensor in shard:
                self._places[tensor.name] = (descriptor, offset)
                offset += tensor.num_values * _BYTES_PER_VALUE
            os.truncate(descriptor, offset)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    def write_block(self, tensor: RowSource, first: int, last: int) -> int:
        """Convert and write rows [first, last); returns how many values they are. Safe in threads."""
        values = tensor.rows(first, last)
        if not np.isfinite(values).all():
            raise InputError(
                f"tensor {tensor.name!r} holds a value that is not a finite number: the source is damaged"
            )
        descriptor, offset = self._places[tensor.name]
        offset += first * (tensor.num_values // tensor.shape[0]) * _BYTES_PER_VALUE
        data = memoryview(to_bfloat16(values).data).cast("B")
        while data:
            written = os.pwrite(descriptor, data, offset)
            data, offset = data[written:], offset + written
        return int(values.size)


def _file_name(number: int, num_shards: int) -> str:
    return SINGLE_FILE if num_shards == 1 else f"model-{number + 1:05d}-of-{num_shards:05d}.safetensors"


def _write_index(folder: Path, shards: Sequence[Sequence[RowSource]]) -> None:
    names = {
        tensor.name: _file_name(number, len(shards))
        for number, shard in enumerate(shards)
        for tensor in shard
    }
    total = sum(tensor.num_values * _BYTES_PER_VALUE for shard in shards for tensor in shard)
    write_json(
        folder / INDEX_FILE,
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(names.items()))},
    )


def _header(shard: Sequence[RowSource]) -> bytes:
    # transformers refuses a file that does not say which library's layout it has; "pt" is plain row-major.
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in shard:
        end = offset + tensor.num_values * _BYTES_PER_VALUE
        entries[tensor.name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def read_header(path: Path) -> Mapping[str, Any]:
    """Return the tensors that a safetensors file declares: name to its dtype, shape and data_offsets.

    Raises:
        InputError: not a safetensors file, or cut short.
    """
    size_bytes = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size_bytes, _MAX_HEADER_BYTES):
                raise ValueError(f"its header claims {length} bytes")
            entries = json.loads(file.read(length))
            entries.pop("__metadata__", None)
            declared = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: not a safetensors file ({error}); fetch or copy it again") from error
    if size_bytes != 8 + length + declared:
        raise InputError(
            f"{path}: {size_bytes:,} bytes where its header declares {8 + length + declared:,}: the file is "
            "cut short or damaged; fetch or copy it again"
        )
    return dict(entries)
