"""Safetensors shards read and written a block at a time, without holding a tensor or mapping a file.

The format: 8 bytes of header length (little endian), a JSON header of name -> dtype, shape, byte range, then
the tensors' bytes (https://github.com/huggingface/safetensors#format). The library's own writer wants all
tensors of a file at once; here the data goes to disk as it comes and the header is put before it at the end.
Files are read with pread: pages of a mapped file count as the process's memory, pages of the cache do not.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data.artefacts import write_json
from data.errors import InputError
from data.models.folder import weight_files
from data.models.weights import read_header

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# Space kept for the header at a file's start; a name and its entry take some 150 bytes.
_HEADER_ROOM = 1 << 20
_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True)
class StoredTensor:
    """A tensor's place on disk: `size_bytes` from `offset` (from the file's first byte) of `path`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    size_bytes: int

    def row_blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (first row, rows) of a matrix, some megabytes at a time.

        The rows are a buffer that the next block overwrites; the consumer may change it.

        Raises:
            InputError: the file ends too early.
        """
        num_rows, num_columns = self.shape
        row_bytes = self.size_bytes // max(1, num_rows)
        step = max(1, min(num_rows, _BLOCK_BYTES // max(1, row_bytes)))
        buffer = torch.empty((step, num_columns), dtype=_DTYPES[self.dtype])
        with self.path.open("rb", buffering=0) as file:
            for first in range(0, num_rows, step):
                rows = buffer[: min(step, num_rows - first)]
                view = rows.view(-1).view(torch.uint8).numpy()
                if os.preadv(file.fileno(), [view.data], self.offset + first * row_bytes) != len(view):
                    raise InputError(f"{self.path}: cut short; fetch or copy it again")
                yield first, rows


def stored_tensors(folder: Path) -> list[StoredTensor]:
    """Return all tensors of a model folder, in the order of its files and of their place in them.

    Raises:
        InputError: a file is missing, cut short, or not safetensors.
    """
    found = []
    for path in weight_files(folder):
        with path.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
        for name, entry in sorted(read_header(path).items(), key=lambda item: item[1]["data_offsets"]):
            first, end = entry["data_offsets"]
            found.append(
                StoredTensor(name, entry["dtype"], tuple(entry["shape"]), path, start + first, end - first)
            )
    return found


class ShardWriter:
    """Writes model-0000K-of-0000N.safetensors (or model.safetensors where one is enough) and the index.

    A shard is closed when the next tensor would take it past `max_bytes`; a tensor larger than that has a
    shard of its own.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._shards: list[dict[str, Any]] = []
        self._sizes: list[int] = []
        self._descriptor: int | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of a file left open by an error; what was written stays under a name that nothing reads."""
        if self._descriptor is not None:
            os.close(self._descriptor)

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Append one tensor (any device, made contiguous) to the current shard or the next."""
        data = tensor.detach().cpu().contiguous()
        size_bytes = data.numel() * data.element_size()
        self._enter(name, _DTYPE_NAMES[data.dtype], tuple(data.shape), size_bytes)
        self._write(data)

    def copy(self, tensor: StoredTensor) -> None:
        """Append a tensor as it is: the kernel copies its bytes from file to file."""
        self._enter(tensor.name, tensor.dtype, tensor.shape, tensor.size_bytes)
        assert self._descriptor is not None
        with tensor.path.open("rb", buffering=0) as source:
            _copy_bytes(source.fileno(), tensor.offset, self._descriptor, tensor.size_bytes, tensor.path)

    def change(self, tensor: StoredTensor, change: Callable[[int, torch.Tensor], None]) -> None:
        """Append a matrix after `change(first row, rows)` has changed each block of it in place."""
        self._enter(tensor.name, tensor.dtype, tensor.shape, tensor.size_bytes)
        for first, rows in tensor.row_blocks():
            change(first, rows)
            self._write(rows)

    def finish(self) -> None:
        """Write the headers, give the shards their final names, write the index where there are several."""
        self._close()
        count = len(self._shards)
        weight_map = {}
        for number, entries in enumerate(self._shards, start=1):
            name = "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"
            self._part(number).replace(self._folder / name)
            weight_map.update(dict.fromkeys(entries, name))
        if count > 1:
            index = {
                "metadata": {"total_size": sum(self._sizes)},
                "weight_map": dict(sorted(weight_map.items())),
            }
            write_json(self._folder / "model.safetensors.index.json", index)

    def _enter(self, name: str, dtype: str, shape: tuple[int, ...], size_bytes: int) -> None:
        if self._descriptor is None or (self._sizes[-1] and self._sizes[-1] + size_bytes > self._max_bytes):
            self._open()
        start = self._sizes[-1]
        entry = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, start + size_bytes]}
        self._shards[-1][name] = entry
        self._sizes[-1] += size_bytes

    def _write(self, data: torch.Tensor) -> None:
        assert self._descriptor is not None
        if not data.numel():
            return
        view = memoryview(data.reshape(-1).view(torch.uint8).numpy().data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _part(self, number: int) -> Path:
        return self._folder / f".shard-{number}.partial"

    def _open(self) -> None:
        self._close()
        self._shards.append({})
        self._sizes.append(0)
        self._descriptor = os.open(
            self._part(len(self._shards)), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644
        )
        os.lseek(self._descriptor, _HEADER_ROOM, os.SEEK_SET)

    def _close(self) -> None:
        if self._descriptor is None:
            return
        header = json.dumps(
            {"__metadata__": {"format": "pt"}, **self._shards[-1]}, separators=(",", ":")
        ).encode()
        room = _HEADER_ROOM - 8
        if len(header) > room:
            raise ValueError(f"a shard's header takes {len(header)} bytes, more than the {room} kept for it")
        # The format allows a header padded with spaces.
        os.pwrite(self._descriptor, room.to_bytes(8, "little") + header.ljust(room), 0)
        os.close(self._descriptor)
        self._descriptor = None


def _copy_bytes(source: int, offset: int, target: int, size_bytes: int, path: Path) -> None:
    """Append `size_bytes` from `offset` of one open file to another at its position.

    Raises:
        InputError: `path`, the source, ends too early.
    """
    left, in_kernel = size_bytes, hasattr(os, "copy_file_range")
    while left:
        if in_kernel:
            try:
                copied = os.copy_file_range(source, target, left, offset)
            except OSError as error:
                # Between some file systems, and on old kernels, it is not offered.
                if error.errno not in (
                    errno.EXDEV,
                    errno.EINVAL,
                    errno.ENOSYS,
                    errno.EOPNOTSUPP,
                    errno.EPERM,
                ):
                    raise
                in_kernel = False
                continue
        else:
            copied = os.write(target, os.pread(source, min(left, _BLOCK_BYTES), offset))
        if copied == 0:
            raise InputError(f"{path}: cut short; fetch or copy it again")
        offset += copied
        left -= copied
