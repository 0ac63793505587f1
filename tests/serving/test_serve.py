"""`groundtune serve` as a user runs it: real engines with a tiny model, a real index, OpenAI's client."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI

from data.records import write_records
from rag.config import IndexSection
from rag.index import build_index
from tests.conftest import REPOSITORY
from tests.serving.knowledge import ROWS
from tests.serving.live_serve import Served, command_line_of, gone_within, serve_command, serving

_SNIPPET = re.compile(r"```(python|bash)\n(.*?)```", re.DOTALL)

QUESTION = [{"role": "user", "content": "高血压患者能吃盐吗"}]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, fetched_models: Path) -> Path:
    """A var/ with an index for the run `r`, and the fetched models."""
    root = tmp_path_factory.mktemp("var")
    (root / "models").symlink_to(fetched_models)
    dataset = root / "runs" / "r" / "dataset"
    write_records(dataset / "rows.jsonl", ROWS)
    build_index(dataset, fetched_models / "multilingual-e5-small-asked", root / "index" / "r", IndexSection())
    return root


@pytest.fixture(scope="module")
def served(root: Path, tiny_model: Path) -> Iterator[Served]:
    """A server with all four models."""
    with serving(root, "--base", str(tiny_model), "--merged", str(tiny_model)) as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[OpenAI]:
    """OpenAI's client for it."""
    with OpenAI(base_url=served.url, api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.integration
def test_all_four_models_answer_and_repeat_themselves(client: OpenAI) -> None:
    ids = [model.id for model in client.models.list()]
    assert ids == ["base", "base-rag", "tuned", "tuned-rag", "multilingual-e5-small-asked"]
    for model in ids[:4]:
        answers = {
            client.chat.completions.create(model=model, messages=QUESTION, max_tokens=12)
            .choices[0]
            .message.content
            for _ in range(2)
        }
        stream = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=12, stream=True)
        answers.add("".join(chunk.choices[0].delta.content or "" for chunk in stream))
        assert len(answers) == 1


@pytest.mark.integration
def test_usage_and_length(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=7)
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 7
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.integration
def test_grounded_answer_carries_its_rows(client: OpenAI, served: Served) -> None:
    raw = client.chat.completions.with_raw_response.create(model="tuned-rag", messages=QUESTION, max_tokens=8)
    assert raw.headers["x-kb-version"]
    assert {"embed", "retrieve", "ttft"} <= {
        part.strip().split(";")[0] for part in raw.headers["server-timing"].split(",")
    }
    context = raw.parse().choices[0].message.model_dump()["context"]
    assert ROWS[0].row_id in [citation["chunk_id"] for citation in context["citations"]]
    url = context["citations"][0]["url"]
    assert url.startswith(served.url.removesuffix("/v1"))
    assert httpx.get(url).json()["answer"]


@pytest.mark.integration
def test_search_and_embeddings(client: OpenAI) -> None:
    page = client.vector_stores.search("r", query="血压高能不能吃咸的", max_num_results=1)
    assert page.data[0].file_id == ROWS[0].row_id
    vectors = client.embeddings.create(model="multilingual-e5-small-asked", input=["盐", "水"]).data
    assert len(vectors[0].embedding) == 384


@pytest.mark.integration
def test_clients_of_the_readme_run_as_printed(served: Served, tmp_path: Path) -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    printed = [match for match in _SNIPPET.findall(text) if "127.0.0.1:8000/v1" in match[1]]
    assert [language for language, _ in printed] == ["python", "python", "bash"]
    for language, snippet in printed:
        script = tmp_path / language
        script.write_text(snippet.replace("http://127.0.0.1:8000/v1", served.url), encoding="utf-8")
        program = [sys.executable] if language == "python" else ["bash", "-euo", "pipefail"]
        done = subprocess.run(
            [*program, str(script)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


@pytest.mark.integration
def test_many_at_once(client: OpenAI) -> None:
    def ask(number: int) -> str | None:
        model = ("base", "tuned", "base-rag", "tuned-rag")[number % 4]
        answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=16)
        return answer.choices[0].finish_reason

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, range(32))) <= {"stop", "length"}


@pytest.mark.integration
def test_prompt_that_would_kill_the_engine_is_refused(client: OpenAI, served: Served) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="base", messages=[{"role": "user", "content": "长" * 20000}])
    assert caught.value.code == "context_length_exceeded"
    ready = httpx.get(f"{served.url.removesuffix('/v1')}/health/ready")
    assert ready.json()["engines"] == {"base": "ready", "tuned": "ready"}


@pytest.mark.integration
def test_chat_finds_the_server_by_its_run(served: Served, root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serving.cli", "chat", "--name", "r", "--model", "base"],
        input="好\nexit\n",
        env={**os.environ, "GROUNDTUNE_VAR": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.integration
@pytest.mark.parametrize("stream", [False, True])
def test_client_that_goes_frees_the_engine(served: Served, stream: bool) -> None:
    body = {"model": "base", "messages": QUESTION, "max_tokens": 3000, "stream": stream}
    url = f"{served.url}/chat/completions"
    if stream:
        with httpx.stream("POST", url, json=body, timeout=60) as response:
            next(response.iter_lines())
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, json=body, timeout=1.0)
    time.sleep(1.5)
    before = [_cpu_s(pid) for pid in served.family]
    time.sleep(1)
    assert sum(_cpu_s(pid) for pid in served.family) - sum(before) < 0.3


def _cpu_s(pid: int) -> float:
    """Return how long a process has used a CPU so far."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.integration
def test_killed_engine_ends_its_answers_and_comes_back(root: Path, tiny_model: Path) -> None:
    arguments = ("--base", str(tiny_model), "--merged", str(tiny_model))
    with (
        serving(root, *arguments) as served,
        OpenAI(base_url=served.url, api_key="none", max_retries=0) as client,
    ):
        victim = next(pid for pid in served.family if command_line_of(pid)[1:3] == [b"-P", b"-m"])
        stream = client.chat.completions.create(model="base", messages=QUESTION, max_tokens=3000, stream=True)
        next(iter(stream))
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(openai.APIError):
            list(stream)
        assert client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=2).choices
        # Asked while it is away: waits for it.
        assert client.chat.completions.create(model="base", messages=QUESTION, max_tokens=2).choices
        assert httpx.get(f"{served.url.removesuffix('/v1')}/health/ready").status_code == 200
        # Ctrl-C, with an answer under way.
        client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=3000, stream=True)
        family, started = served.family, time.monotonic()
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(10) == 0
        assert time.monotonic() - started < 10
        assert gone_within(family, 1)
        assert not (served.run_folder / "serve.json").exists()


@pytest.mark.integration
def test_killed_server_leaves_no_process(root: Path, tiny_model: Path) -> None:
    with serving(root, "--base", str(tiny_model)) as served:
        family = served.family
        assert len(family) >= 3
        served.process.kill()
        served.process.wait(10)
        assert gone_within(family, 6)


@pytest.mark.integration
def test_interrupt_while_engines_start(root: Path, tiny_model: Path) -> None:
    environment = {**os.environ, "GROUNDTUNE_VAR": str(root)}
    command = serve_command("--base", str(tiny_model))
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "starting" not in process.stderr.readline():
            pass
        time.sleep(1)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert time.monotonic() - started < 10


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GROUNDTUNE_VAR": str(root)}
    command = serve_command(*arguments)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_port_in_use_is_told_before_anything_is_started(tmp_path: Path, tiny_model: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = _run(tmp_path, "--base", str(tiny_model), "--port", str(port))
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.log"))


def test_tuned_model_that_is_not_there(tmp_path: Path, tiny_model: Path) -> None:
    done = _run(tmp_path, "--base", str(tiny_model), "--require-tuned")
    assert done.returncode == 1
    assert "train merge" in done.stderr


@pytest.mark.integration
def test_engine_that_cannot_load_is_told_with_its_log(tmp_path: Path, tiny_model: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in tiny_model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "architectures": ["NoSuchModel"]}))
    done = _run(tmp_path / "var", "--base", str(broken))
    assert done.returncode == 1
    assert "engine 'base' ended with status 1 while starting" in done.stderr
    assert "NoSuchModel" in done.stderr
