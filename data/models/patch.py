"""What is added to a catalogue model's weights, kept in data/models/patches: the model adapted, in a small file.

A matrix is changed by the product of two thin ones, NAME.left (rows, rank) and NAME.right (rank, columns), a vector by
NAME.added; NAME is the tensor's in the folder that is written. benchmarks.adapt.learn makes such files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.errors import InputError
from data.models.weights import Rows, RowSource

FOLDER = Path(__file__).with_name("patches")


def patch_digest(path: Path) -> str:
    """Return the SHA-256 of a patch, by which folders made with another one are known.

    Raises:
        InputError: it is not there.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: the patch is not there ({error}); install GroundTune again") from error


def patched(sources: Sequence[RowSource], path: Path) -> list[RowSource]:
    """Return `sources` with what the patch at `path` adds.

    Raises:
        InputError: it is not there, is no patch, or is that of another model.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable patch ({error}); install GroundTune again") from error
    found = [_patched(source, tensors, path) for source in sources]
    if tensors:
        raise InputError(f"{path}: changes {min(tensors)!r}, which this model does not have")
    return found


def _patched(source: RowSource, tensors: dict[str, npt.NDArray[np.float16]], path: Path) -> RowSource:
    """Take what is the source's out of `tensors`."""
    added = tensors.pop(f"{source.name}.added", None)
    left, right = (tensors.pop(f"{source.name}.{side}", None) for side in ("left", "right"))
    if added is not None and added.shape == source.shape:
        return RowSource(source.name, source.shape, _plus(source.rows, added))
    if left is not None and right is not None and (left.shape[0], *right.shape[1:]) == source.shape:
        return RowSource(source.name, source.shape, _plus_product(source.rows, left, right))
    if added is not None or left is not None or right is not None:
        raise InputError(f"{path}: what it adds to {source.name!r} has another shape than {source.shape}")
    return source


def _plus(rows: Rows, added: npt.NDArray[np.float16]) -> Rows:
    return lambda first, last: rows(first, last) + added[first:last].astype(np.float32)


def _plus_product(rows: Rows, left: npt.NDArray[np.float16], right: npt.NDArray[np.float16]) -> Rows:
    exact = right.astype(np.float32)
    return lambda first, last: rows(first, last) + left[first:last].astype(np.float32) @ exact
