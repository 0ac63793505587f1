"""A conversation with a served model in a terminal: history, streaming, numbered citations.

Talks to the API as any other client would, through OpenAI's own library, and so works with every server of
that kind. Knows nothing of engines or the knowledge base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam


@dataclass(frozen=True)
class Source:
    """What a `[number]` in an answer stands for."""

    number: int
    title: str
    url: str


class Conversation:
    """One conversation; keeps what was said."""

    def __init__(self, client: OpenAI, model: str, system: str | None = None) -> None:
        self._client = client
        self._model = model
        self._messages: list[ChatCompletionMessageParam] = []
        if system:
            self._messages.append({"role": "system", "content": system})
        self._sources: tuple[Source, ...] = ()

    @property
    def sources(self) -> tuple[Source, ...]:
        """What the last answer cited, by number."""
        return self._sources

    @property
    def num_messages(self) -> int:
        """How many messages the next question would follow."""
        return len(self._messages)

    def ask(self, question: str) -> Iterator[str]:
        """Yield the answer's text as it comes.

        Question and answer enter the history when the answer is complete: after an error, or when the caller
        stops in the middle, the question may be asked again.

        Raises:
            openai.OpenAIError: the server refuses, fails or is gone.
        """
        self._sources = ()
        asked: list[ChatCompletionMessageParam] = [*self._messages, {"role": "user", "content": question}]
        answer: list[str] = []
        annotations: list[Mapping[str, Any]] = []
        stream = self._client.chat.completions.create(model=self._model, messages=asked, stream=True)
        with stream:
            for chunk in stream:
                for delta in _deltas(chunk):
                    annotations += delta.get("annotations") or ()
                    if text := delta.get("content"):
                        answer.append(text)
                        yield text
        whole = "".join(answer)
        self._messages = [*asked, {"role": "assistant", "content": whole}]
        self._sources = _sources(whole, annotations)


def _deltas(chunk: ChatCompletionChunk) -> list[dict[str, Any]]:
    return [choice.delta.model_dump(exclude_none=True) for choice in chunk.choices]


def _sources(answer: str, annotations: Sequence[Mapping[str, Any]]) -> tuple[Source, ...]:
    """Return each cited source once, under the number that the text shows for it."""
    found: dict[int, Source] = {}
    for annotation in annotations:
        cited = annotation.get("url_citation") or {}
        mark = answer[cited.get("start_index", 0) : cited.get("end_index", 0)].strip("[]")
        if mark.isdigit():
            found.setdefault(int(mark), Source(int(mark), cited.get("title", ""), cited.get("url", "")))
    return tuple(found[number] for number in sorted(found))


def converse(
    conversation: Conversation,
    read_line: Callable[[], str | None],
    show: Callable[[str], None],
    show_source: Callable[[Source], None],
    show_error: Callable[[str], None],
) -> bool:
    """Ask what `read_line` returns until it returns None or `exit`; tells whether every question was answered."""
    from openai import APIError

    answered = True
    while (line := read_line()) is not None and line.strip().lower() not in ("exit", "quit"):
        if not line.strip():
            continue
        try:
            for text in conversation.ask(line.strip()):
                show(text)
            show("\n")
            for source in conversation.sources:
                show_source(source)
        except KeyboardInterrupt:
            # Ctrl-C ends the answer, not the conversation.
            show("\n")
        except APIError as error:
            answered = False
            told = error.body.get("message") if isinstance(error.body, dict) else None
            show_error(told or error.message)
    return answered
