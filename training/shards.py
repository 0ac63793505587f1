"""Writing safetensors shards tensor by tensor, without holding a shard in memory.

The format: 8 bytes of header length (little endian), a JSON header of name -> dtype, shape, byte range, then
the tensors' bytes (https://github.com/huggingface/safetensors#format). The library's own writer wants all
tensors of a file at once; here the data goes to disk as it comes and the header is put before it at the end.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

import torch

from data.artefacts import write_json

_DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip
# Space kept for the header at a file's start; a name and its entry take some 150 bytes.
_HEADER_ROOM = 1 << 20


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
        self._file: BinaryIO | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of a file left open by an error; what was written stays under a name that nothing reads."""
        if self._file is not None:
            self._file.close()

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Append one tensor (any device, made contiguous) to the current shard or the next."""
        data = tensor.detach().cpu().contiguous()
        size = data.numel() * data.element_size()
        if self._file is None or (self._sizes[-1] and self._sizes[-1] + size > self._max_bytes):
            self._open()
        assert self._file is not None
        start = self._sizes[-1]
        self._shards[-1][name] = {
            "dtype": _DTYPES[data.dtype],
            "shape": list(data.shape),
            "data_offsets": [start, start + size],
        }
        self._file.write(data.view(-1).view(torch.uint8).numpy().data if size else b"")
        self._sizes[-1] += size

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

    def _part(self, number: int) -> Path:
        return self._folder / f".shard-{number}.partial"

    def _open(self) -> None:
        self._close()
        self._shards.append({})
        self._sizes.append(0)
        self._file = self._part(len(self._shards)).open("wb")
        self._file.seek(_HEADER_ROOM)

    def _close(self) -> None:
        if self._file is None:
            return
        header = json.dumps(
            {"__metadata__": {"format": "pt"}, **self._shards[-1]}, separators=(",", ":")
        ).encode()
        room = _HEADER_ROOM - 8
        if len(header) > room:
            raise ValueError(f"a shard's header takes {len(header)} bytes, more than the {room} kept for it")
        # The format allows a header padded with spaces.
        self._file.seek(0)
        self._file.write(room.to_bytes(8, "little") + header.ljust(room))
        self._file.close()
        self._file = None
