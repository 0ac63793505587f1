"""The terminal's conversation, against a live gateway."""

from __future__ import annotations

import subprocess
import sys

from openai import OpenAI

from serving.chat import Conversation, Source, converse
from tests.serving.conftest import Running
from tests.serving.knowledge import ROWS
from tests.serving.scripted_engine import ScriptedEngine


def _talk(client: OpenAI, model: str, *lines: str) -> tuple[str, list[Source], list[str], bool]:
    """Return what was shown: text, sources, errors; and whether all was answered."""
    conversation, waiting = Conversation(client, model, system="短"), list(lines)
    texts: list[str] = []
    sources: list[Source] = []
    errors: list[str] = []
    read = lambda: waiting.pop(0) if waiting else None  # noqa: E731
    answered = converse(conversation, read, texts.append, sources.append, errors.append)
    return "".join(texts), sources, errors, answered


def test_history_is_kept_and_exit_ends(gateway: Running, engine: ScriptedEngine) -> None:
    text, sources, errors, answered = _talk(gateway.client, "base", "一", "", "二", " EXIT ", "三")
    assert text == "你好。\n你好。\n"
    assert (sources, errors, answered) == ([], [], True)
    assert [message["content"] for message in engine.requests[-1]["messages"]] == ["短", "一", "你好。", "二"]


def test_sources_are_those_cited_by_number(gateway: Running, engine: ScriptedEngine) -> None:
    engine.texts = ["前[3]", "后[1]", "又[3]"]
    _, sources, _, _ = _talk(gateway.client, "base-rag", "问题")
    shown = {source.number: source for source in sources}
    assert list(shown) == sorted(shown)
    assert {1, 3} <= set(shown)
    assert shown[3].title == ROWS[2].title
    assert shown[3].url.endswith(ROWS[2].row_id)


def test_failed_question_is_told_and_forgotten(gateway: Running, engine: ScriptedEngine) -> None:
    engine.stop_after = 1
    text, _, errors, answered = _talk(gateway.client, "base", "一")
    assert not answered
    assert text == "你"
    assert "engine 'base' is not available" in errors[0]
    engine.stop_after = None
    _talk(gateway.client, "base", "二")
    assert [message["content"] for message in engine.requests[-1]["messages"]] == ["短", "二"]


def _chat(*arguments: str, piped: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serving.cli", "chat", *arguments]
    return subprocess.run(command, input=piped, capture_output=True, text=True, timeout=300, check=False)


def test_command_with_piped_questions(gateway: Running, engine: ScriptedEngine) -> None:
    engine.texts = ["答[bold]案[1]"]
    done = _chat("--url", f"{gateway.url}/v1", "--model", "tuned-rag", piped="一\n二\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("答[bold]案") == 2
    assert "\x1b" not in done.stdout
    assert f"[1] {ROWS[0].title}  {gateway.url}/kb/rows/{ROWS[0].row_id}" in done.stdout


def test_command_names_the_models_there_are(gateway: Running) -> None:
    done = _chat("--url", f"{gateway.url}/v1", "--model", "gpt-4", piped="")
    assert done.returncode == 2
    assert "served: base, base-rag" in done.stderr


def test_command_without_a_server() -> None:
    done = _chat("--url", "http://127.0.0.1:9/v1", piped="")
    assert done.returncode == 1
    assert "groundtune serve" in done.stderr
    assert "Traceback" not in done.stderr
