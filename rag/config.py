"""The configuration sections of retrieval: `index` and `retrieve`."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from data.config import Section

View = Literal["question", "answer", "row"]
Precision = Literal["auto", "float32", "bfloat16"]
StageName = Literal["dense", "lexical", "coverage"]
Fusion = Literal["scores", "ranks"]


class IndexSection(Section):
    """How rows become an index, with the embedding model that `models.embedding` names.

    A change of what is embedded makes the index anew; one of device, precision, batches, threads
    or kept versions does not.
    """

    views: Annotated[tuple[View, ...], Field(min_length=1)] = ("question", "answer")
    """The texts of a row that are embedded; its one vector is their mean. `question`: info_1, info_2 and Q;
    `answer`: A; `row`: all of it as one text. Two views find more paraphrases than any one."""
    question_weight: Annotated[int, Field(ge=1)] = 3
    """How many times a question's terms count in the lexical index, an answer's counting once."""
    max_tokens: Annotated[int, Field(ge=8)] = 512
    """A longer text is cut before it is embedded; the model's own limit applies too."""
    precision: Precision = "auto"
    """Arithmetic of the embedding model; auto: bfloat16 where the CPU gains by it, else float32."""
    device: str = "cpu"
    """Where embedding runs: cpu, cuda, cuda:1 ..."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Texts in one forward pass."""
    threads: Annotated[int, Field(ge=1)] = 1
    """CPU threads that embed questions. One embeds a question in some 25 ms; two wait for each other ten times as
    long whenever an engine is busy on the same cores. Building an index takes all cores."""
    chroma_url: Annotated[str, Field(pattern=r"^https?://[^/]+$")] | None = None
    """A Chroma server (the Rust one, `chroma run`) to search the vectors in, as in http://127.0.0.1:8100: `rag index`
    puts each version there before it becomes current. None: the version's own folder is searched, in this process."""
    keep_versions: Annotated[int, Field(ge=0)] = 3
    """Older versions of the index that are kept to roll back to, besides the current one."""


class RetrieveSection(Section):
    """How rows are found and how many ground an answer."""

    top_k: Annotated[int, Field(ge=1, le=50)] = 3
    """Rows that ground an answer; on a CPU each costs about as much time as a sentence of the answer."""
    max_similarity: Annotated[float, Field(gt=0, le=1)] | None = 0.9
    """Of rows whose answers are this alike (Jaccard similarity of their character n-grams), only the best one grounds
    an answer, and a further row takes the place; None takes all."""
    context_tokens: Annotated[int, Field(ge=64)] | None = 1500
    """The rows' share of a prompt, in tokens of the model asked. A row that does not fit is passed over for a shorter
    one; the best row is cut at a sentence's end where it alone is longer. None sets no limit."""
    rerank: str | None = None
    """A cross-encoder that puts the best rows in order once more: a fetched model (`hf:BAAI/bge-reranker-base`) or a
    folder. None, the default: the fused order stands."""
    rerank_depth: Annotated[int, Field(ge=2)] = 10
    """How many rows `rerank` looks at; each costs a pass of its model."""
    depth: Annotated[int, Field(ge=1)] = 50
    """Rows that each stage ranks."""
    fusion: Fusion = "scores"
    """How the stages' rankings become one. `scores` adds the cosine and the scaled BM25 score, so that a weak
    match in wording cannot outvote a strong one in meaning; `ranks` is reciprocal rank fusion."""
    rrf_k: Annotated[float, Field(ge=0)] = 10.0
    """The constant of reciprocal rank fusion (`fusion: ranks`); the smaller, the more the first ranks count."""
    weights: dict[StageName, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """A stage's weight in the fusion, 1 where it is not named."""
    refuse_below: Annotated[float, Field(ge=0, le=1)] | None = None
    """Refuse to answer when the best row's fused score is lower; None refuses only where nothing is found. The score
    means something else in every knowledge base: `wrong_answer_rate` is the better choice."""
    wrong_answer_rate: Annotated[float, Field(gt=0, lt=1)] | None = 0.085
    """Of people's questions that no row answers, about so many are answered all the same; the threshold for it is
    calibrated on the workbook (docs/refusal.md). The lower, the more questions are refused that a row does answer:
    `groundtune rag calibrate` shows how many. None refuses only where nothing is found, as is done with fewer than 24
    rows."""
    verbatim: bool = False
    """Give the approved cell unchanged, without asking the model, where a row clearly holds the very question."""
    verbatim_error_rate: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """How often a neighbour may pass for the row that was asked for, when `verbatim` is on."""
    keep_unanswered: bool = False
    """Keep questions that got no answer in the run's unanswered.jsonl, for `groundtune rag inbox`. People write about
    themselves: see to it that they know."""
    quote_unsupported: bool = True
    """Give the nearest row's approved answer in place of one that no row supports (the model repeated the question,
    answered "yes", made something up). A stream is then held until its first sentence is seen to be a row's."""

    @field_validator("weights")
    @classmethod
    def _some_weight(cls, value: dict[StageName, float]) -> dict[StageName, float]:
        # Coverage ranks nothing for a short question.
        if not any(value.get(stage, 1.0) for stage in get_args(StageName) if stage != "coverage"):
            raise ValueError("dense and lexical both have weight 0; give one of them more")
        return value

    def weight(self, stage: str) -> float:
        """Return the weight of a stage in the fusion."""
        return next((weight for name, weight in self.weights.items() if name == stage), 1.0)
