"""What the gateway knows of an engine: where it listens, the model id to send, and what it acts on.

Deliberately knows nothing of processes: an engine that `serve` started and one that somebody else runs look
the same from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Engine:
    """One OpenAI-compatible endpoint.

    Attributes:
        name: How logs and /health/ready call it.
        base_url: Ends with `/v1`, no slash behind it.
        model: The id that the engine expects in `model`.
        accepts: Request fields, beside messages, prompt, model, stream and max_tokens, that it takes and acts
            on. The gateway sends no other: some engines refuse what they do not know, others silently drop it.
        samples: False for an engine that decodes greedily whatever a request asks for.
        context_tokens: Most tokens, prompt and answer together, of one request; None where it is not known.
        tokenizer: The model's tokenizer.json, to count long prompts with; None where there is none to read.
        api_key: Sent as a bearer token.
        more_urls: Further servers of the same model, as `base_url`; a request goes to one of them.
    """

    name: str
    base_url: str
    model: str
    accepts: frozenset[str]
    samples: bool = True
    context_tokens: int | None = None
    tokenizer: Path | None = None
    api_key: str | None = field(default=None, repr=False)
    more_urls: tuple[str, ...] = ()

    @property
    def urls(self) -> tuple[str, ...]:
        """Every server of it."""
        return (self.base_url, *self.more_urls)

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that every request to it carries."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}


@dataclass(frozen=True)
class Command:
    """How to start an engine.

    Attributes:
        argv: The program and its arguments.
        environment: What is set on top of the environment.
        folder: The working directory.
        in_turn: Whether it takes a share of the memory that is free when it starts, so that no other of its kind
            may start beside it.
        files: What it reads beside the model's folder.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    in_turn: bool = False
    files: tuple[Path, ...] = ()
