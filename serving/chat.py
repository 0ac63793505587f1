"""A conversation with a served model in a terminal: history, streaming, numbered citations.

Talks to the API as any other client would, through OpenAI's own library, and so works with every server of
that kind. Knows nothing of engines, the knowledge base or how a terminal is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam


class CommandError(Exception):
    """A command that cannot be carried out, with the reason for people."""


@dataclass(frozen=True)
class Source:
    """What a `[number]` in an answer stands for; `cell` and `text` are of the row, where the server sends them."""

    number: int
    title: str
    url: str
    cell: str = ""
    text: str = ""


@dataclass(frozen=True)
class Turn:
    """A question, its complete answer, who gave it and what it cites by number."""

    question: str
    answer: str
    model: str
    sources: tuple[Source, ...]


class Conversation:
    """One conversation; keeps what was said. `model` and `system` may be changed between questions."""

    def __init__(self, client: OpenAI, model: str, system: str | None = None) -> None:
        self._client = client
        self.model = model
        self.system = system
        self._turns: list[Turn] = []

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What was asked and answered."""
        return tuple(self._turns)

    @property
    def sources(self) -> tuple[Source, ...]:
        """What the last answer cited, by number."""
        return self._turns[-1].sources if self._turns else ()

    @property
    def messages(self) -> list[ChatCompletionMessageParam]:
        """What the next question would follow."""
        return self._messages_of(self._turns)

    def clear(self) -> None:
        """Forget what was said."""
        self._turns.clear()

    def ask(self, question: str) -> Iterator[str]:
        """Yield the answer's text as it comes.

        Question and answer enter the history when the answer is complete: after an error, or when the caller
        stops in the middle, the question may be asked again.

        Raises:
            openai.OpenAIError: the server refuses, fails or is gone.
        """
        return self._answer(list(self._turns), question)

    def ask_again(self) -> Iterator[str]:
        """Yield another answer to the last question; it takes the place of the first when it is complete.

        Raises:
            CommandError: nothing was answered yet.
            openai.OpenAIError: as `ask`.
        """
        if not self._turns:
            raise CommandError("nothing was answered yet")
        return self._answer(self._turns[:-1], self._turns[-1].question)

    def _answer(self, before: list[Turn], question: str) -> Iterator[str]:
        model = self.model
        asked: list[ChatCompletionMessageParam] = [
            *self._messages_of(before),
            {"role": "user", "content": question},
        ]
        answer: list[str] = []
        annotations: list[Mapping[str, Any]] = []
        passages: list[Mapping[str, Any]] = []
        stream = self._client.chat.completions.create(model=model, messages=asked, stream=True)
        with stream:
            for chunk in stream:
                for delta in _deltas(chunk):
                    annotations += delta.get("annotations") or ()
                    passages += (delta.get("context") or {}).get("citations") or ()
                    if text := delta.get("content"):
                        answer.append(text)
                        yield text
        whole = "".join(answer)
        self._turns = [*before, Turn(question, whole, model, _sources(whole, annotations, passages))]

    def _messages_of(self, turns: Sequence[Turn]) -> list[ChatCompletionMessageParam]:
        messages: list[ChatCompletionMessageParam] = []
        if self.system:
            messages.append({"role": "system", "content": self.system})
        for turn in turns:
            messages.append({"role": "user", "content": turn.question})
            messages.append({"role": "assistant", "content": turn.answer})
        return messages


def _deltas(chunk: ChatCompletionChunk) -> list[dict[str, Any]]:
    return [choice.delta.model_dump(exclude_none=True) for choice in chunk.choices]


def _sources(
    answer: str, annotations: Sequence[Mapping[str, Any]], passages: Sequence[Mapping[str, Any]]
) -> tuple[Source, ...]:
    """Return each cited source once, under the number that the text shows for it."""
    found: dict[int, Source] = {}
    for annotation in annotations:
        cited = annotation.get("url_citation") or {}
        mark = answer[cited.get("start_index", 0) : cited.get("end_index", 0)].strip("[]")
        if mark.isdigit() and (number := int(mark)) not in found:
            row = passages[number - 1] if 0 < number <= len(passages) else {}
            found[number] = Source(
                number,
                cited.get("title", ""),
                cited.get("url", ""),
                row.get("filepath", ""),
                row.get("content", ""),
            )
    return tuple(found[number] for number in sorted(found))


def converse(
    conversation: Conversation,
    read_message: Callable[[], str | None],
    show: Callable[[str], None],
    show_source: Callable[[Source], None],
    show_error: Callable[[str], None],
    run_command: Callable[[str], Iterator[str] | None] | None = None,
) -> bool:
    """Ask what `read_message` returns until it returns None or `exit`; tells whether everything worked.

    `run_command` gets what begins with one slash; what it returns is shown as an answer. Two slashes begin a question
    that begins with one.

    """
    from openai import APIError

    worked = True
    while (message := read_message()) is not None:
        message = message.strip()
        if message.lower() in ("exit", "quit", "/exit", "/quit"):
            break
        if not message:
            continue
        is_command = run_command is not None and message.startswith("/") and not message.startswith("//")
        try:
            if is_command and run_command is not None:
                answer = run_command(message)
            else:
                answer = conversation.ask(message.removeprefix("/") if message.startswith("//") else message)
            if answer is None:
                continue
            for text in answer:
                show(text)
            show("\n")
            for source in conversation.sources:
                show_source(source)
        except KeyboardInterrupt:
            # Ctrl-C ends the answer, not the conversation.
            show("\n")
        except CommandError as error:
            worked = False
            show_error(str(error))
        except APIError as error:
            worked = False
            told = error.body.get("message") if isinstance(error.body, dict) else None
            show_error(told or error.message)
    return worked
