"""The bodies of requests, checked before anything is asked of an engine.

Four kinds of field. Those the gateway acts on itself. Those it hands to an engine that takes them (sampling,
tools). Those that say something about the client and change no answer (`user`, `metadata`): accepted, dropped.
All others are refused with 400 unless the engine takes them: a field that is silently dropped is an answer
that is silently wrong. A field at the value that it has anyway (`n: 1`, `logprobs: false`) is no request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, WithJsonSchema

from rag.filters import RowFilter
from serving.engines.engine import Engine
from serving.gateway.errors import bad_request

SAMPLING = frozenset({"temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "logit_bias"})
_ABOUT_THE_CLIENT = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False, 0),
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("auto", "none"),
    "tools": ([],),
    "top_logprobs": (0,),
    "top_p": (1,),
}


class TextPart(BaseModel):
    """A piece of a message's content; images and sound are not supported."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message of a conversation; `tool_calls`, `tool_call_id` and `name` pass as they are."""

    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None

    def as_sent(self) -> dict[str, Any]:
        """Return the message with plain text as its content, as every chat template understands it."""
        content = self.content
        if isinstance(content, list):
            content = "\n".join(part.text for part in content)
        role = "system" if self.role == "developer" else self.role
        return {**(self.model_extra or {}), "role": role, "content": content or ""}


class StreamOptions(BaseModel):
    """`include_usage` asks for a last chunk with the token counts.

    Load tools send vLLM's `continuous_usage_stats`, counts in every chunk; they come at the end all the same.
    """

    model_config = ConfigDict(extra="forbid")
    include_usage: StrictBool = False
    continuous_usage_stats: StrictBool = False
    include_obfuscation: StrictBool = False


class GenerationRequest(BaseModel):
    """What chat and plain completions share."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())
    model: str
    stream: StrictBool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The strings that end an answer."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in given if text)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    def fields_for(
        self, engine: Engine, default_temperature: float
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return the fields to send beside messages, model and length, and the names that have no effect.

        Raises:
            ApiError: 400, a field that neither the gateway nor `engine` takes.
        """
        given = {name: getattr(self, name) for name in SAMPLING} | (self.model_extra or {})
        sent: dict[str, Any] = {"temperature": default_temperature if engine.samples else 0}
        without_effect = []
        for name, value in given.items():
            if value is None or name in _ABOUT_THE_CLIENT or value in _NEUTRAL.get(name, ()):
                continue
            if name in engine.accepts:
                sent[name] = value
            elif name in SAMPLING and not engine.samples:
                if (name, value) != ("temperature", 0):
                    without_effect.append(name)
            else:
                raise bad_request(
                    f"{name}: not supported by the model {self.model!r}; leave it out",
                    name,
                    "unsupported_parameter",
                )
        return sent, tuple(sorted(without_effect))


class FilterFields(BaseModel):
    """Which rows to search: those whose field has the value, or one of the values."""

    model_config = ConfigDict(extra="forbid")
    info_1: str | list[str] = []
    info_2: str | list[str] = []

    @property
    def row_filter(self) -> RowFilter:
        """The same for the index."""
        return RowFilter(*(_several(value) for value in (self.info_1, self.info_2)))


def _several(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


class Extension(BaseModel):
    """The field `groundtune` of a request: what OpenAI's API has no field for."""

    model_config = ConfigDict(extra="forbid")
    filter: FilterFields | None = None
    ground_stale: StrictBool = True
    """Whether `tuned` answers from the rows where the answer that it learned has changed since."""

    @property
    def row_filter(self) -> RowFilter | None:
        """The part of the rows to search, if one was chosen."""
        return self.filter.row_filter if self.filter is not None else None


class ChatRequest(GenerationRequest):
    """The body of /v1/chat/completions; `groundtune.filter` is for grounded models."""

    groundtune: Extension | None = None
    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    @property
    def length(self) -> int | None:
        """Most tokens of the answer, by its new or its old name."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(GenerationRequest):
    """The body of /v1/completions; one prompt, as text."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)]

    @property
    def text(self) -> str:
        """The prompt."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


class EmbeddingRequest(BaseModel):
    """The body of /v1/embeddings. `input_type` says on which side of a search the text stands."""

    model_config = ConfigDict(extra="forbid")
    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None
    input_type: Literal["query", "passage"] = "query"

    @property
    def texts(self) -> list[str]:
        """The texts to embed, in order."""
        return [self.input] if isinstance(self.input, str) else self.input


def _refuse_rewriting(asked: bool) -> bool:
    if asked:
        raise ValueError("queries are searched as they are; leave it out")
    return asked


# Literal[False] would take 0 too.
_Never = Annotated[StrictBool, AfterValidator(_refuse_rewriting), WithJsonSchema({"const": False})]


class SearchRequest(BaseModel):
    """The body of /v1/vector_stores/{kb}/search; a filter goes into `groundtune`."""

    model_config = ConfigDict(extra="forbid")
    query: str | Annotated[list[str], Field(min_length=1)]
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    rewrite_query: _Never = False
    groundtune: Extension | None = None

    @property
    def queries(self) -> Sequence[str]:
        """The questions to search for."""
        return [self.query] if isinstance(self.query, str) else self.query
