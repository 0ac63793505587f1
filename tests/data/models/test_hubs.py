"""The hub's real client against a server on this machine that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from data.errors import InputError
from data.manifest import read_manifest
from data.models.gguf_folder import write_gguf_folder
from data.models.hubs import download_repository
from data.models.sources import HubModel
from tests.data.models.tiny_gguf import random_tensors, write_tiny_gguf

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(BaseHTTPRequestHandler):
    """`repositories`: name to its files."""

    repositories: ClassVar[dict[str, dict[str, bytes]]] = {}

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        for name, files in self.repositories.items():
            if path.startswith(f"api/models/{name}"):
                return self._info(name, files)
            prefix = f"{name}/resolve/{COMMIT}/"
            if path.startswith(prefix) and path.removeprefix(prefix) in files:
                return self._answer(files[path.removeprefix(prefix)])
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def _info(self, name: str, files: dict[str, bytes]) -> None:
        if "/tree/" in self.path:
            tree = [{"type": "file", "path": f, "size": len(c), "oid": "0" * 40} for f, c in files.items()]
            return self._answer(json.dumps(tree).encode())
        info = {
            "id": name,
            "sha": COMMIT,
            "cardData": {"license": "apache-2.0"},
            "siblings": [{"rfilename": f, "size": len(c)} for f, c in files.items()],
        }
        return self._answer(json.dumps(info).encode())

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    made = tmp_path / "published"
    made.mkdir()
    write_gguf_folder(write_tiny_gguf(tmp_path / "a.gguf", random_tensors()), made)
    files = {path.name: path.read_bytes() for path in made.iterdir()}
    extra = {"pytorch_model.bin": b"pickle", "modeling.py": b"code", "onnx/config.json": b"{}"}
    _Hub.repositories = {
        "org/whole": {**files, **extra},
        "org/pickles": {"config.json": b"{}", "pytorch_model.bin": b"pickle"},
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _groundtune(workspace_root: Path, hub: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process whose hub is `hub`; the client reads its settings at import."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "GROUNDTUNE_VAR": str(workspace_root),
    }
    command = [sys.executable, "-m", "serving.cli", "models", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_fetches_weights_configuration_and_tokenizer_only(hub: str, workspace_root: Path) -> None:
    done = _groundtune(workspace_root, hub, "fetch", "hf:org/whole", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["fetched"] is True
    folder = workspace_root / "models" / "org--whole"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        *("config.json", "generation_config.json", "model.safetensors", "groundtune.json"),
        *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"),
    }
    manifest = read_manifest(folder)
    assert manifest is not None
    assert manifest.facts["revision"] == COMMIT
    assert manifest.facts["license"] == "apache-2.0"
    again = _groundtune(workspace_root, hub, "fetch", "hf:org/whole")
    assert "hf:org/whole up to date" in again.stdout


@pytest.mark.parametrize(
    ("repository", "message"),
    [
        ("org/pickles", "the repository has no safetensors weights"),
        ("org/gone", "check the name, the network"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    hub: str, workspace_root: Path, repository: str, message: str
) -> None:
    done = _groundtune(workspace_root, hub, "fetch", f"hf:{repository}")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"groundtune: error: hf:{repository}: ")
    assert message in last
    assert "Traceback" not in done.stderr


def test_an_offline_client_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"hf:a/b: .*; check the name, the network") as error:
        download_repository(HubModel("hf", "a/b", None), tmp_path)
    assert "\n" not in str(error.value)


def test_a_missing_client_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pip install modelscope"):
        download_repository(HubModel("modelscope", "a/b", None), tmp_path)
