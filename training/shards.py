"""Safetensors shards read and written a block at a time, without holding a tensor or mapping a file.

The format: 8 bytes of header length (little endian), a JSON header of name -> dtype, shape, byte range, then
the tensors' bytes (https://github.com/huggingface/safetensors#format). The library's own writer wants all
tensors of a file at once; here every tensor's place is settled first, and threads fill the places in any order.
Files are read with pread: pages of a mapped file count as the process's memory, pages of the cache do not.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data.artefacts import write_json
from data.errors import InputError
from data.models.folder import weight_files
from data.models.weights import INDEX_FILE, SINGLE_FILE, read_header

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
# A block and its part of the product then stay in a core's cache.
_BLOCK_BYTES = 1 << 20
_HASHED_AT_ONCE = 4 << 20
_NOT_OFFERED = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


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


@dataclass(frozen=True)
class TensorSpec:
    """A tensor to be written: its name, dtype (as safetensors writes it) and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """What its values take on disk."""
        return math.prod(self.shape) * _DTYPES[self.dtype].itemsize


class ShardWriter:
    """Writes model-0000K-of-0000N.safetensors (or model.safetensors where one is enough) and the index.

    A shard is closed when the next tensor would take it past `max_bytes`; a tensor larger than that has a
    shard of its own. The methods that write may be called from several threads, once for each tensor.
    """

    def __init__(self, folder: Path, tensors: Sequence[TensorSpec | StoredTensor], max_bytes: int) -> None:
        self._folder = folder
        self._shards = _share_out(tensors, max_bytes)
        self._places: dict[str, tuple[int, int]] = {}
        self._descriptors: list[int] = []
        self._hashes = [(hashlib.sha256(), 0) for _ in self._shards]
        self._ends: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> ShardWriter:
        for number, shard in enumerate(self._shards):
            path = self._folder / self._file_name(number)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            self._descriptors.append(descriptor)
            header = _header(shard)
            os.pwrite(descriptor, header, 0)
            offset = len(header)
            for tensor in shard:
                self._places[tensor.name] = (descriptor, offset)
                offset += tensor.size_bytes
                self._ends[tensor.name] = (number, offset)
            os.truncate(descriptor, offset)
        if len(self._shards) > 1:
            self._write_index()
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Write a whole tensor (any device, made contiguous) to its place."""
        descriptor, offset = self._places[name]
        _write_at(descriptor, tensor.detach().cpu().contiguous(), offset)

    def copy(self, tensor: StoredTensor) -> None:
        """Write a tensor as it is stored: the kernel copies its bytes from file to file."""
        descriptor, offset = self._places[tensor.name]
        with tensor.path.open("rb", buffering=0) as source:
            _copy_bytes(source.fileno(), tensor.offset, descriptor, offset, tensor.size_bytes, tensor.path)

    def change(self, tensor: StoredTensor, change: Callable[[int, torch.Tensor], None]) -> None:
        """Write a stored matrix after `change(first row, rows)` has changed each block of it in place."""
        descriptor, offset = self._places[tensor.name]
        for first, rows in tensor.row_blocks():
            change(first, rows)
            _write_at(descriptor, rows, offset)
            offset += rows.numel() * rows.element_size()

    def hash_through(self, name: str) -> None:
        """Hash the shards as far as tensor `name`; it and all before it must have been written.

        Called as tensors are done, it hashes bytes that are still in the cache, beside the writing of others.
        """
        last, end = self._ends[name]
        for number in range(last + 1):
            digest, start = self._hashes[number]
            stop = end if number == last else os.fstat(self._descriptors[number]).st_size
            for place in range(start, stop, _HASHED_AT_ONCE):
                digest.update(os.pread(self._descriptors[number], min(_HASHED_AT_ONCE, stop - place), place))
            self._hashes[number] = (digest, max(start, stop))

    def digests(self) -> dict[str, str]:
        """Return each shard's SHA-256 by its file's name; `hash_through` has been called with the last tensor."""
        return {
            self._file_name(number): digest.hexdigest() for number, (digest, _) in enumerate(self._hashes)
        }

    def _file_name(self, number: int) -> str:
        count = len(self._shards)
        return SINGLE_FILE if count == 1 else f"model-{number + 1:05d}-of-{count:05d}.safetensors"

    def _write_index(self) -> None:
        names = {
            tensor.name: self._file_name(number)
            for number, shard in enumerate(self._shards)
            for tensor in shard
        }
        total = sum(tensor.size_bytes for shard in self._shards for tensor in shard)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(names.items()))}
        write_json(self._folder / INDEX_FILE, index)


def _share_out(
    tensors: Sequence[TensorSpec | StoredTensor], max_bytes: int
) -> list[list[TensorSpec | StoredTensor]]:
    shards: list[list[TensorSpec | StoredTensor]] = [[]]
    filled = 0
    for tensor in tensors:
        if shards[-1] and filled + tensor.size_bytes > max_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.size_bytes
    return shards


def _header(shard: Sequence[TensorSpec | StoredTensor]) -> bytes:
    # transformers refuses a file that does not say which library's layout it has; "pt" is plain row-major.
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in shard:
        place = [offset, offset + tensor.size_bytes]
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": place}
        offset += tensor.size_bytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_at(descriptor: int, data: torch.Tensor, offset: int) -> None:
    if not data.numel():
        return
    view = memoryview(data.reshape(-1).view(torch.uint8).numpy().data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _copy_bytes(
    source: int, source_offset: int, target: int, target_offset: int, size_bytes: int, path: Path
) -> None:
    """Copy `size_bytes` from a place in one open file to a place in another.

    Raises:
        InputError: `path`, the source, ends too early.
    """
    done, in_kernel = 0, hasattr(os, "copy_file_range")
    while done < size_bytes:
        place, left = source_offset + done, size_bytes - done
        if in_kernel:
            try:
                copied = os.copy_file_range(source, target, left, place, target_offset + done)
            except OSError as error:
                # Between some file systems, and on old kernels, it is not offered.
                if error.errno not in _NOT_OFFERED:
                    raise
                in_kernel = False
                continue
        else:
            copied = os.pwrite(target, os.pread(source, min(left, _BLOCK_BYTES), place), target_offset + done)
        if copied == 0:
            raise InputError(f"{path}: cut short; fetch or copy it again")
        done += copied
