"""The `serve` section of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from data.config import Section
from serving.engines.llamacpp import LlamacppSection
from serving.engines.lmdeploy import LmdeploySection
from serving.engines.transformers_serve import Dtype

Weights = Literal["base", "tuned"]
EngineKind = Literal["auto", "transformers", "lmdeploy", "llamacpp"]
# YAML reads a bare `off` as false.
LogPlace = Annotated[
    Literal["file", "stderr", "off"], BeforeValidator(lambda value: "off" if value is False else value)
]
ModelName = Literal["base", "tuned", "base-rag", "tuned-rag"]
HttpUrl = Annotated[str, Field(pattern=r"^https?://")]


class ExternalEndpoint(Section):
    """An engine that somebody else runs, at an OpenAI-compatible URL or at several that serve the same model."""

    url: HttpUrl | Annotated[tuple[HttpUrl, ...], Field(min_length=1)]
    """Of several, a request goes to the one with the fewest; one that fails again and again is left alone a while."""
    model: str
    api_key_variable: str | None = None
    """The environment variable that holds the key, so that no file has to."""

    @property
    def urls(self) -> tuple[str, ...]:
        """Every server."""
        return (self.url,) if isinstance(self.url, str) else self.url


class ServeSection(Section):
    """How the models are served."""

    engine: EngineKind = "auto"
    """What generates: transformers on a CPU (auto), LMDeploy's TurboMind on a GPU, llama.cpp with a GGUF."""
    lmdeploy: LmdeploySection = LmdeploySection()
    """Settings of LMDeploy."""
    llamacpp: LlamacppSection = LlamacppSection(gguf={})
    """Settings of llama.cpp."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Length of an answer where the request does not say."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Where the request does not say, for engines that sample at all."""
    threads_per_engine: Annotated[int, Field(ge=0)] = 0
    """CPU threads of an engine; 0: every core."""
    cache_tokens: Annotated[int, Field(ge=1024)] = 32768
    """Tokens in an engine's key-value cache, all requests together; also the longest single request."""
    batch_tokens: Annotated[int, Field(ge=64)] = 2048
    """Most tokens of one forward pass; longer prompts are taken in parts."""
    dtype: Dtype = "bfloat16"
    """What engines compute in. float32 is slower and takes twice the memory; an answer should then depend less on
    which others are generated beside it (not measured)."""
    follow_index: bool = True
    """Whether a new current version of the index is served as soon as it is there, or is rolled back to."""
    start_timeout_s: Annotated[float, Field(gt=0)] = 180.0
    """How long an engine may take to its first token."""
    engine_timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Longest silence of an engine before a request ends with 504."""
    ready_window_s: Annotated[float, Field(ge=0)] = 30.0
    """How long a token proves that an engine works."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Longest time of one request, the wait for its turn included."""
    max_requests: Annotated[int, Field(ge=1)] = 256
    """Most requests in the gateway at once, all engines together; more get 429."""
    max_running: Annotated[int, Field(ge=1)] = 32
    """Most requests that one engine is asked at once."""
    max_waiting: Annotated[int, Field(ge=0)] = 64
    """Most requests that wait for their turn at one engine; more get 429."""
    wait_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """Longest wait for a turn; then 429."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1 << 20
    """Largest body of a request; larger ones get 413."""
    keys_file: str | None = None
    """The keys to ask for; default: keys.json under var/ where there is one, and no keys where there is none."""
    public_rows: bool = False
    """Whether the pages that citations link to (/kb/rows/ID) open without a key."""
    public_metrics: bool = False
    """Whether /metrics opens without a key."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose web pages may call the service, as in https://example.org; none by default."""
    log: LogPlace = "file"
    """Where a line of JSON for each request goes; the file is logs/requests.jsonl of the run."""
    log_prompts: bool = False
    """Whether that line has what was asked."""
    public_url: HttpUrl | None = None
    """How clients reach the server, for links in answers; default: as the request was addressed."""
    model_ids: Annotated[dict[ModelName, str], Field(default_factory=dict)]
    """Ids for clients that should not see base, tuned, base-rag and tuned-rag."""
    external: Annotated[dict[Weights, ExternalEndpoint], Field(default_factory=dict)]
    """Engines to use in place of starting one."""

    def model_id(self, name: ModelName) -> str:
        """Return the id under which clients ask for `name`."""
        return self.model_ids.get(name, name)
