from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.errors import InputError, UsageError
from serving.access.keys import KeyRing, add_key, hash_key, read_keys, remove_key


def test_only_the_hash_is_kept_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.json"
    secret = add_key(path, "ward-3", requests_per_minute=5)
    assert secret not in path.read_text()
    assert hash_key(secret) in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert add_key(path, "ward-4") != secret
    assert [(key.name, key.requests_per_minute) for key in read_keys(path)] == [
        ("ward-3", 5),
        ("ward-4", None),
    ]


def test_keys_are_found_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secrets = {name: add_key(path, name) for name in ("a", "b")}
    ring = KeyRing(path, lambda: 0.0)
    for name, secret in secrets.items():
        found = ring.find(secret)
        assert found is not None
        assert found.name == name
        assert ring.find(secret[:-1]) is None
        assert ring.find(hash_key(secret)) is None
    assert ring.find("") is None
    assert ring.find("é\udcff") is None


def test_running_ring_follows_the_file_and_closes_when_it_is_gone(tmp_path: Path) -> None:
    path, now_s = tmp_path / "keys.json", 0.0
    first = add_key(path, "a")
    ring = KeyRing(path, lambda: now_s)
    second = add_key(path, "b")
    now_s = 2.0
    assert ring.find(second)
    remove_key(path, "a")
    now_s = 4.0
    assert ring.find(first) is None
    path.unlink()
    now_s = 6.0
    assert ring.find(second) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [("{", "not readable"), ("[]", "not readable"), ('{"keys": [{"name": "a"}]}', r"keys\.0\.sha256")],
)
def test_file_that_is_none_of_keys(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(InputError, match=told):
        read_keys(path)


def test_names(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "a")
    with pytest.raises(UsageError, match="'a' already"):
        add_key(path, "a")
    with pytest.raises(UsageError, match="name"):
        add_key(path, "a b")
    with pytest.raises(UsageError, match=r"no key 'z'.*there is: a"):
        remove_key(path, "z")


def _groundtune(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serving.cli", "serve", *arguments],
        env={**os.environ, "GROUNDTUNE_VAR": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_command_prints_the_key_once_and_alone(tmp_path: Path) -> None:
    done = _groundtune(tmp_path, "keys", "add", "ward-3", "--tokens-per-day", "1000")
    assert done.returncode == 0, done.stderr
    secret = done.stdout.strip()
    found = KeyRing(tmp_path / "keys.json", lambda: 0.0).find(secret)
    assert found is not None
    assert found.tokens_per_day == 1000
    listed = _groundtune(tmp_path, "keys", "list", "--json").stdout
    assert [key["name"] for key in json.loads(listed)] == ["ward-3"]
    assert found.sha256 not in listed
    assert _groundtune(tmp_path, "keys", "remove", "ward-3").returncode == 0
    # A file without a key would let nobody in: told before anything starts.
    done = _groundtune(tmp_path, "--set", "serve.external={base: {url: 'http://127.0.0.1:9', model: m}}")
    assert done.returncode == 2
    assert "no key in it" in done.stderr
