"""Vectors of texts, kept by content: a text is embedded once, however often the rows are indexed.

A key is the digest of the text and of all that its vector depends on; an edited row has other keys. Knows
neither rows nor views.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

# Texts embedded between two writes: what a killed run has to embed again, a few seconds' work.
_CHUNK = 256
# Below the number of parameters that any SQLite takes.
_ASKED_AT_ONCE = 500


def embed_cached(
    path: Path,
    texts: Sequence[str],
    recipe: str,
    embed: Callable[[Sequence[str], int, int], Vectors],
) -> tuple[Vectors, int]:
    """Return float32 vectors (len(texts), dims) and how many texts had to be embedded for them.

    `recipe` is the digest of what else decides a vector (model, prompt, limit). `embed` gets texts, how many
    were embedded before them, and how many there are in all to embed. `path` is the database, made if need be.
    """
    keys = [hashlib.sha256(f"{recipe}\n{text}".encode()).digest() for text in texts]
    text_of = dict(zip(keys, texts, strict=True))
    with closing(_open(path)) as database:
        known = _read(database, text_of)
        # By length, so that little of a batch is padding.
        missing = sorted((key for key in text_of if key not in known), key=lambda key: len(text_of[key]))
        for start in range(0, len(missing), _CHUNK):
            part = missing[start : start + _CHUNK]
            vectors = embed([text_of[key] for key in part], start, len(missing))
            made = {
                key: np.asarray(vector, "<f4").tobytes() for key, vector in zip(part, vectors, strict=True)
            }
            with database:
                database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", made.items())
            known |= made
    joined = b"".join(known[key] for key in keys)
    return np.frombuffer(joined, "<f4").reshape(len(keys), -1), len(missing)


def forget_unused(path: Path, texts: Iterable[str], recipe: str, *, at_most: int) -> None:
    """Once the database holds over `at_most` vectors, drop all but those of `texts`."""
    with closing(_open(path)) as database:
        (held,) = database.execute("SELECT count(*) FROM vectors").fetchone()
        if held <= at_most:
            return
        keys = ((hashlib.sha256(f"{recipe}\n{text}".encode()).digest(),) for text in texts)
        with database:
            database.execute("CREATE TEMP TABLE used (key BLOB PRIMARY KEY)")
            database.executemany("INSERT OR IGNORE INTO used VALUES (?)", keys)
            database.execute("DELETE FROM vectors WHERE key NOT IN (SELECT key FROM used)")
        database.execute("VACUUM")


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _prepared(path)
    except sqlite3.DatabaseError:
        # Not a database: it holds nothing that cannot be made again.
        path.unlink()
        return _prepared(path)


def _prepared(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    try:
        database.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
    except BaseException:
        database.close()
        raise
    return database


def _read(database: sqlite3.Connection, wanted: Mapping[bytes, str]) -> dict[bytes, bytes]:
    keys = list(wanted)
    known: dict[bytes, bytes] = {}
    for start in range(0, len(keys), _ASKED_AT_ONCE):
        part = keys[start : start + _ASKED_AT_ONCE]
        marks = ",".join("?" * len(part))
        known.update(database.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part))
    return known
