"""API keys: made at random, shown once, kept as SHA-256.

A key has 256 random bits, so a plain hash of it cannot be searched for; a slow password hash would only cost
time on every request. The file is JSON, one entry a key, readable by its owner alone.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from data.config import Section
from data.errors import InputError, UsageError

_PREFIX = "gt-"
_RANDOM_BYTES = 32
_RELOAD_S = 1.0


class ApiKey(Section):
    """What is kept of a key; None as a limit is no limit."""

    name: Annotated[str, Field(pattern=r"^[\w][\w.@-]{0,63}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: str
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    tokens_per_day: Annotated[int, Field(ge=1)] | None = None


_KEYS = TypeAdapter(list[ApiKey])


def read_keys(path: Path) -> list[ApiKey]:
    """Return the keys of the file.

    Raises:
        InputError: there is no such file, or it is not one of keys.
    """
    try:
        return _KEYS.validate_python(json.loads(path.read_bytes())["keys"])
    except FileNotFoundError:
        raise InputError(f"{path}: no such key file; make it with `groundtune serve keys add NAME`") from None
    except ValidationError as error:
        detail = error.errors()[0]
        place = ".".join(str(part) for part in detail["loc"])
        raise InputError(f"{path}: keys.{place}: {detail['msg']}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not readable as a key file ({type(error).__name__}: {error})") from error


def add_key(
    path: Path, name: str, *, requests_per_minute: int | None = None, tokens_per_day: int | None = None
) -> str:
    """Add a key to the file, which is made where there is none; returns the key, which is kept nowhere.

    Raises:
        UsageError: a key of that name is there already, or a value cannot be one.
        InputError: the file cannot be read or written.
    """
    keys = read_keys(path) if path.exists() else []
    if any(key.name == name for key in keys):
        raise UsageError(f"there is a key {name!r} already; choose another name, or remove that one first")
    secret = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    try:
        added = ApiKey(
            name=name,
            sha256=hash_key(secret),
            created=today,
            requests_per_minute=requests_per_minute,
            tokens_per_day=tokens_per_day,
        )
    except ValidationError as error:
        detail = error.errors()[0]
        raise UsageError(f"{detail['loc'][0]} {detail['input']!r}: {detail['msg']}") from None
    _write_keys(path, [*keys, added])
    return secret


def remove_key(path: Path, name: str) -> None:
    """Remove the key `name`; a running server refuses it a second later.

    Raises:
        UsageError: there is no such key.
        InputError: the file cannot be read or written.
    """
    keys = read_keys(path)
    kept = [key for key in keys if key.name != name]
    if len(kept) == len(keys):
        raise UsageError(f"no key {name!r} in {path}; there is: {', '.join(key.name for key in keys) or '-'}")
    _write_keys(path, kept)


def hash_key(secret: str) -> str:
    """Return what is kept of a key: 64 hex digits."""
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


def _write_keys(path: Path, keys: Sequence[ApiKey]) -> None:
    text = json.dumps({"keys": [key.model_dump(exclude_none=True) for key in keys]}, indent=2) + "\n"
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Never readable by others, not even for a moment.
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
            file.write(text)
        beside.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


class KeyRing:
    """The keys of a file, as of at most a second ago: adding and removing needs no restart."""

    def __init__(self, path: Path, elapsed_s: Callable[[], float]) -> None:
        """Read the file.

        Raises:
            InputError: it is not there, or not a file of keys.
        """
        self._path = path
        self._elapsed_s = elapsed_s
        self._keys = read_keys(path)
        self._stamp = self._file_stamp()
        self._looked_s = elapsed_s()

    def find(self, presented: str) -> ApiKey | None:
        """Return the key that `presented` is, or None.

        Every kept hash is compared, each in constant time, so that the time taken tells nothing of them.
        """
        self._reload()
        digest = hash_key(presented)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def _reload(self) -> None:
        now_s = self._elapsed_s()
        if now_s - self._looked_s < _RELOAD_S:
            return
        self._looked_s = now_s
        stamp = self._file_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = read_keys(self._path)
        except InputError:
            # A file that was removed or broken opens nothing to anyone.
            self._keys = []

    def _file_stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
