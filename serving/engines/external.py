"""An engine that somebody else runs: vLLM, SGLang, llama.cpp, Ollama, an LMDeploy proxy or a hosted API."""

from __future__ import annotations

from collections.abc import Sequence

from serving.engines.engine import Engine

# What OpenAI's own API takes and these servers implement. A server that lacks one answers with its own error,
# which the gateway hands on.
_ACCEPTS = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "presence_penalty",
        "response_format",
        "seed",
        "stop",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
    }
)


def external_engine(name: str, urls: Sequence[str], model: str, api_key: str | None = None) -> Engine:
    """Return the engine at `urls`, which may end with /v1 or not."""
    first, *more = (_base(url) for url in urls)
    return Engine(name, first, model, _ACCEPTS, api_key=api_key, more_urls=tuple(more))


def _base(url: str) -> str:
    base = url.rstrip("/")
    return base if base.endswith("/v1") else f"{base}/v1"
