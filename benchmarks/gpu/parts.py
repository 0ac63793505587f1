"""Large files in parts that a narrow way takes: packed here, put together and checked there.

    python -m benchmarks.gpu.parts pack FOLDER OUT --part-mib 57      OUT/FOLDER.json and OUT/FOLDER.part-00 ...
    python -m benchmarks.gpu.parts unpack DIR OUT                     every set of parts in DIR into OUT/FOLDER

A file is cut in blocks of 8 MiB, and each block is stored as it is, deflated, or, if it is bf16 (--bf16, or a
.safetensors file), as two planes: the exponents, which take a third of their room, and signs with mantissas, which
hold nothing to spare. The smallest wins. Blocks are unpacked by all cores; every part and every file has its SHA-256
in the JSON, and what does not have it is named. Needs numpy and the standard library; knows nothing of models.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_BLOCK_BYTES = 8 << 20
_SLICE_BYTES = 4 << 20


@dataclass(frozen=True)
class Block:
    """A stretch of a file, and where its bytes lie in the parts laid end to end.

    `planes`: the stored length of the exponents where the block is bf16 in two planes, else None. `deflated`: whether
    the stored bytes (for planes: the exponents) are.
    """

    file: str
    offset: int
    size: int
    at: int
    stored: int
    deflated: bool
    planes: int | None = None


class PartError(Exception):
    """A part or a file is not what was packed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Pack or unpack; returns 1 and says why where a digest is another one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("folder", type=Path)
    packing.add_argument("out", type=Path)
    packing.add_argument("--part-mib", type=int, default=57)
    packing.add_argument("--bf16", action="store_true", help="try two planes on every file")
    unpacking = commands.add_parser("unpack")
    unpacking.add_argument("parts", type=Path)
    unpacking.add_argument("out", type=Path)
    options = parser.parse_args(argv)
    try:
        if options.command == "pack":
            pack(options.folder, options.out, options.part_mib << 20, all_bf16=options.bf16)
        else:
            for index in sorted(options.parts.glob("*.json")):
                print(unpack(index, options.out))
    except PartError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def pack(folder: Path, out: Path, part_bytes: int, *, all_bf16: bool = False) -> None:
    """Write the parts of every file below `folder`, none longer than `part_bytes`."""
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    places = [
        (path, start, all_bf16 or path.suffix == ".safetensors")
        for path in files
        for start in range(0, max(1, path.stat().st_size), _BLOCK_BYTES)
    ]
    blocks: list[Block] = []
    at = 0
    with ProcessPoolExecutor(mp_context=_context()) as pool, _Parts(out, folder.name, part_bytes) as parts:
        packed = pool.map(_packed, *zip(*places, strict=True), chunksize=2) if places else ()
        for (path, start, _), (size, planes, deflated, data) in zip(places, packed, strict=True):
            name = path.relative_to(folder).as_posix()
            blocks.append(Block(name, start, size, at, len(data), deflated, planes))
            parts.write(data)
            at += len(data)
    index = {
        "folder": folder.name,
        "files": {
            path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": _sha256(path)}
            for path in files
        },
        "parts": parts.facts,
        "blocks": [asdict(block) for block in blocks],
    }
    (out / f"{folder.name}.json").write_text(json.dumps(index), encoding="utf-8")
    total = sum(path.stat().st_size for path in files)
    print(
        f"{folder.name}: {total} bytes in {len(parts.facts)} parts of {at} bytes ({at / max(1, total):.3f})"
    )


def unpack(index_path: Path, out: Path) -> Path:
    """Write the folder of one set of parts; returns it.

    Raises:
        PartError: a part is missing, or a part or file has another digest than was packed.
    """
    index: dict[str, Any] = json.loads(index_path.read_text(encoding="utf-8"))
    parts = [index_path.parent / name for name in index["parts"]]
    missing = [path.name for path in parts if not path.is_file()]
    if missing:
        raise PartError(f"{index_path.parent}: {', '.join(missing)} not there")
    folder: Path = out / index["folder"]
    for name, facts in index["files"].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(facts["size"])
    sizes = [facts["size"] for facts in index["parts"].values()]
    with ProcessPoolExecutor(mp_context=_context()) as pool:
        digests = pool.map(_sha256, parts)
        blocks = [Block(**block) for block in index["blocks"]]
        list(pool.map(_unpack_block, [(parts, sizes, folder, block) for block in blocks], chunksize=1))
        for path, found in zip(parts, digests, strict=True):
            if found != index["parts"][path.name]["sha256"]:
                raise PartError(f"{path}: sha256 {found}, packed was {index['parts'][path.name]['sha256']}")
        names = list(index["files"])
        for name, found in zip(names, pool.map(_sha256, [folder / name for name in names]), strict=True):
            if found != index["files"][name]["sha256"]:
                raise PartError(
                    f"{folder / name}: sha256 {found}, packed was {index['files'][name]['sha256']}"
                )
    return folder


def _packed(path: Path, start: int, is_bf16: bool) -> tuple[int, int | None, bool, bytes]:
    """Return a block's size, its planes' border, whether it is deflated, and its stored bytes."""
    with path.open("rb") as file:
        file.seek(start)
        raw = file.read(_BLOCK_BYTES)
    found: list[tuple[int | None, bool, bytes]] = [(None, False, raw), (None, True, _deflated(raw))]
    if is_bf16 and len(raw) % 2 == 0:
        values = np.frombuffer(raw, "<u2")
        exponents = _deflated(((values >> 7) & 0xFF).astype(np.uint8).tobytes(), only_huffman=True)
        rest = (((values >> 8) & 0x80) | (values & 0x7F)).astype(np.uint8).tobytes()
        found.append((len(exponents), True, exponents + rest))
    planes, is_deflated, data = min(found, key=lambda one: len(one[2]))
    return len(raw), planes, is_deflated, data


def _deflated(raw: bytes, *, only_huffman: bool = False) -> bytes:
    strategy = zlib.Z_HUFFMAN_ONLY if only_huffman else zlib.Z_DEFAULT_STRATEGY
    # Weights have no repetitions to look for; the first level finds what there is.
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
    return packer.compress(raw) + packer.flush()


def _unpack_block(work: tuple[Sequence[Path], Sequence[int], Path, Block]) -> None:
    parts, sizes, folder, block = work
    data = b"".join(_stretches(parts, sizes, block.at, block.stored))
    if block.planes is not None:
        exponents = np.frombuffer(zlib.decompress(data[: block.planes]), np.uint8).astype(np.uint16)
        rest = np.frombuffer(data[block.planes :], np.uint8).astype(np.uint16)
        data = (((rest & 0x80) << 8) | (exponents << 7) | (rest & 0x7F)).astype("<u2").tobytes()
    elif block.deflated:
        data = zlib.decompress(data)
    with (folder / block.file).open("r+b") as file:
        file.seek(block.offset)
        file.write(data)


def _stretches(parts: Sequence[Path], sizes: Sequence[int], at: int, length: int) -> Iterator[bytes]:
    """Yield the bytes of the parts, laid end to end, from `at` on."""
    for path, size in zip(parts, sizes, strict=True):
        if at < size and length > 0:
            with path.open("rb") as file:
                file.seek(at)
                found = file.read(min(length, size - at))
            yield found
            length -= len(found)
            at = 0
        else:
            at = max(0, at - size)


class _Parts:
    """Files of at most `limit` bytes, one after the other."""

    def __init__(self, out: Path, name: str, limit: int) -> None:
        self.facts: dict[str, dict[str, Any]] = {}
        self._out, self._name, self._limit = out, name, limit
        self._file: BinaryIO | None = None
        self._left = 0

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        for name in self.facts:
            path = self._out / name
            self.facts[name] = {"size": path.stat().st_size, "sha256": _sha256(path)}

    def write(self, data: bytes) -> None:
        while data:
            if self._left == 0:
                if self._file is not None:
                    self._file.close()
                name = f"{self._name}.part-{len(self.facts):02d}"
                self.facts[name] = {}
                self._file = (self._out / name).open("wb")
                self._left = self._limit
            assert self._file is not None
            self._file.write(data[: self._left])
            taken = min(len(data), self._left)
            data, self._left = data[taken:], self._left - taken


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_SLICE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _context() -> multiprocessing.context.BaseContext:
    # A worker begun by fork would have the caller's threads' locks as they stood.
    return multiprocessing.get_context("spawn" if sys.platform == "darwin" else "forkserver")


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main())
