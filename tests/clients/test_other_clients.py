"""curl, langchain-openai, litellm's SDK and npm's openai, each a process in its own environment."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Api
from tests.serving.knowledge import ROWS

HERE = Path(__file__).parent
VERBATIM = "多喝温水。[3]"


def said(command: Sequence[str], api: Api, folder: Path) -> str:
    """Return what the program prints."""
    done = subprocess.run(
        command, env=api.environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(found: dict[str, Any]) -> None:
    """Assert what is true of every client."""
    assert found["text"] == "字字字"
    assert found["tokens"] == 3
    assert found["streamed"] == VERBATIM


def check_citation(found: dict[str, Any]) -> None:
    """Assert that the client's own field has the citation."""
    (annotation,) = found["annotations"]
    assert annotation["type"] == "url_citation"
    assert annotation["url_citation"]["url"].endswith(f"/kb/rows/{ROWS[2].row_id}")


@pytest.fixture
def python(client_environments: Path) -> str:
    program = client_environments / "python" / "bin" / "python"
    if not program.exists():
        pytest.skip(f"{program} is not there: run `make test-clients`")
    return str(program)


def test_langchain(api: Api, python: str, tmp_path: Path) -> None:
    found = json.loads(said([python, str(HERE / "ask_langchain.py")], api, tmp_path))
    check(found)
    assert found["vector"] == [1.0, 0.5]


def test_litellm(api: Api, python: str, tmp_path: Path) -> None:
    found = json.loads(said([python, str(HERE / "ask_litellm.py")], api, tmp_path).splitlines()[-1])
    check(found)
    check_citation(found)
    assert found["error"] == "NotFoundError"


def test_openai_of_npm(api: Api, client_environments: Path, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (client_environments / "node_modules" / "openai").is_dir():
        pytest.skip("node or npm's openai is not there: run `make test-clients`")
    # An import is looked for beside the file that has it.
    (tmp_path / "node_modules").symlink_to(client_environments / "node_modules")
    script = shutil.copy(HERE / "ask_openai.mjs", tmp_path)
    found = json.loads(said([node, str(script)], api, tmp_path))
    check(found)
    check_citation(found)
    assert found["error"] == "NotFoundError"


def test_curl(api: Api, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    headers = ["-H", f"Authorization: Bearer {api.key}", "-H", "Content-Type: application/json"]
    body = {"model": "base-rag", "messages": [{"role": "user", "content": "要喝水吗?"}]}
    ask = ["curl", "-sS", "--fail-with-body", f"{api.url}/chat/completions", *headers, "-d"]
    whole = json.loads(said([*ask, json.dumps(body)], api, tmp_path))
    assert whole["choices"][0]["message"]["content"] == VERBATIM
    streamed = said(["curl", "-N", *ask[1:], json.dumps({**body, "stream": True})], api, tmp_path)
    events = [line.removeprefix("data: ") for line in streamed.splitlines() if line]
    assert events[-1] == "[DONE]"
    texts = [json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events[:-1]]
    assert "".join(texts) == VERBATIM
    (annotation,) = whole["choices"][0]["message"]["annotations"]
    row = json.loads(said(["curl", "-sS", *headers, annotation["url_citation"]["url"]], api, tmp_path))
    assert row["answer"] == ROWS[2].answer
