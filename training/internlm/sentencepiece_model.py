"""tokenizer.model read as data: the pieces and the normaliser's settings of a SentencePiece model.

The file is a protocol buffer (sentencepiece_model.proto of google/sentencepiece). Its wire format is a list of
(field number, kind, value); the few fields that make a tokenizer are picked out, the rest is passed over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from data.errors import InputError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_BPE = 2


class PieceKind(IntEnum):
    """SentencePiece's kinds of piece."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary; its place in the list is its id."""

    text: str
    score: float
    kind: PieceKind


@dataclass(frozen=True)
class SentencePieceModel:
    """A BPE model without a table of character replacements."""

    pieces: tuple[Piece, ...]
    add_dummy_prefix: bool
    byte_fallback: bool

    def id_of(self, text: str) -> int | None:
        """Return the id of a piece, None where there is none."""
        return next((i for i, piece in enumerate(self.pieces) if piece.text == text), None)


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Read tokenizer.model.

    Raises:
        InputError: not there, damaged, not BPE, or it rewrites characters, which is not built here.
    """
    pieces = []
    settings: dict[str, int] = {}
    try:
        for number, value in _fields(path.read_bytes()):
            if number == 1 and isinstance(value, bytes):
                pieces.append(_piece(value))
            elif number == 2 and isinstance(value, bytes):
                trainer = {n: v for n, v in _fields(value) if isinstance(v, int)}
                settings |= {"type": trainer.get(3, 1), "byte_fallback": trainer.get(35, 0)}
            elif number == 3 and isinstance(value, bytes):
                normaliser = dict(_fields(value))
                settings["prefix"] = int(normaliser.get(3, 1))
                settings["spaces"] = int(normaliser.get(4, 1))
                settings["escape"] = int(normaliser.get(5, 1))
                settings["map"] = len(bytes(normaliser.get(2, b"")))
    except FileNotFoundError:
        raise InputError(f"{path}: not there; copy the model's tokenizer.model into its folder") from None
    except (OSError, ValueError, IndexError, struct.error, TypeError) as error:
        raise InputError(f"{path}: not a SentencePiece model ({error}); fetch or copy it again") from error
    if settings.get("type") != _BPE or not pieces:
        raise InputError(f"{path}: not a BPE model; only those of InternLM and Llama are converted")
    if settings.get("map") or settings.get("spaces", 1) or not settings.get("escape", 1):
        raise InputError(
            f"{path}: rewrites characters or spaces before it splits; such a model is not converted"
        )
    return SentencePieceModel(tuple(pieces), bool(settings.get("prefix", 1)), bool(settings["byte_fallback"]))


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    text, score = fields.get(1, b""), fields.get(2, b"\0\0\0\0")
    if not isinstance(text, bytes) or not isinstance(score, bytes):
        raise ValueError("a piece without text or score")
    return Piece(text.decode("utf-8"), struct.unpack("<f", score)[0], PieceKind(int(fields.get(3, 1))))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a message; numbers of fixed width stay bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        if kind == _VARINT:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, place = _varint(data, place)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"unknown wire type {kind}")
        if place + size > len(data):
            raise ValueError("cut short")
        yield key >> 3, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
