"""A byte-level BPE tokenizer from the lists that a GGUF file carries, as the files transformers reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from data.artefacts import write_json, write_text
from data.errors import InputError

# The Qwen2 family's rule for what merges may not cross, as published with the models.
_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
END_OF_TEXT = "<|endoftext|>"


class TokenType(IntEnum):
    """GGUF's kinds of token; UNUSED ones only fill the embedding matrix up to a round number of rows."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


@dataclass(frozen=True)
class BpeVocabulary:
    """What a GGUF file says of its tokenizer.

    `flavour` is GGUF's name of the pre-tokenizer; `tokens` and `types` are indexed by token id; a merge is
    two tokens with a space between.
    """

    flavour: str
    tokens: Sequence[str]
    types: Sequence[int]
    merges: Sequence[str]
    bos_id: int | None
    eos_id: int
    pad_id: int
    unk_id: int | None
    chat_template: str | None

    @property
    def ids(self) -> Mapping[str, int]:
        """Token to id, without those that only fill up."""
        pairs = zip(self.tokens, self.types, strict=True)
        return {token: i for i, (token, kind) in enumerate(pairs) if kind != TokenType.UNUSED}

    @property
    def stop_ids(self) -> list[int]:
        """Ids at which generation ends: the turn's end and the text's end."""
        end_of_text = self.ids.get(END_OF_TEXT)
        return [self.eos_id] + [i for i in (end_of_text,) if i is not None and i != self.eos_id]


def build_tokenizer(vocabulary: BpeVocabulary) -> Tokenizer:
    """Return the tokenizer whose ids are those of the GGUF file.

    Raises:
        InputError: a pre-tokenizer that is not known here.
    """
    ids = vocabulary.ids
    added = {
        token: AddedToken(token, special=kind == TokenType.CONTROL, normalized=False)
        for token, kind in zip(vocabulary.tokens, vocabulary.types, strict=True)
        if kind in (TokenType.CONTROL, TokenType.USER_DEFINED)
    }
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in vocabulary.merges)]
    tokenizer = Tokenizer(BPE(vocab=dict(ids), merges=merges, fuse_unk=False, byte_fallback=False))
    if vocabulary.flavour == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_QWEN2_SPLIT), behavior="isolated", invert=False),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    elif vocabulary.flavour == "smollm":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    else:
        raise InputError(f"pre-tokenizer {vocabulary.flavour!r} is not known; known: qwen2, smollm")
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(list(added.values()))
    return tokenizer


def write_tokenizer(
    folder: Path, vocabulary: BpeVocabulary, tokenizer_class: str, model_max_length: int
) -> None:
    """Write tokenizer.json, tokenizer_config.json, and vocab.json with merges.txt for slow loaders."""
    tokenizer = build_tokenizer(vocabulary)
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=False))
    plain = {token: i for token, i in vocabulary.ids.items() if vocabulary.types[i] == TokenType.NORMAL}
    write_text(folder / "vocab.json", json.dumps(plain, ensure_ascii=False))
    write_text(folder / "merges.txt", "#version: 0.2\n" + "".join(f"{m}\n" for m in vocabulary.merges))
    write_json(
        folder / "tokenizer_config.json", _tokenizer_config(vocabulary, tokenizer_class, model_max_length)
    )


def _tokenizer_config(
    vocabulary: BpeVocabulary, tokenizer_class: str, model_max_length: int
) -> dict[str, Any]:
    def token(token_id: int | None) -> str | None:
        return None if token_id is None else vocabulary.tokens[token_id]

    config: dict[str, Any] = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(i): {
                "content": text,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": kind == TokenType.CONTROL,
            }
            for i, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True))
            if kind in (TokenType.CONTROL, TokenType.USER_DEFINED)
        },
        "bos_token": token(vocabulary.bos_id),
        "clean_up_tokenization_spaces": False,
        "eos_token": token(vocabulary.eos_id),
        "errors": "replace",
        # Without it, transformers 4's plain fast class adds token_type_ids, which generate() then refuses.
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": model_max_length,
        "pad_token": token(vocabulary.pad_id),
        "split_special_tokens": False,
        "tokenizer_class": tokenizer_class,
        "unk_token": token(vocabulary.unk_id),
    }
    if vocabulary.chat_template is not None:
        config["chat_template"] = vocabulary.chat_template
    return config
