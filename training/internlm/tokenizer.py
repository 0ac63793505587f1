"""InternLM's tokenizer.model as a fast tokenizer: BPE over SentencePiece's pieces, with bytes for what they lack.

SentencePiece keeps no list of merges: it joins the two neighbours whose joint piece has the best score. So every
way to split a piece into two others is a merge, and the piece's score is its place in the order.

SentencePiece may put a space before a text. The fast tokenizer does so unless the text begins with one, and not
after `<s>`; so the chat template writes it there.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

from data.artefacts import write_json, write_text
from data.errors import InputError
from training.internlm.sentencepiece_model import PieceKind, SentencePieceModel

_SPACE = "▁"
END_OF_HUMAN, END_OF_ANSWER = "<eoh>", "<eoa>"
# What XTuner trains as `internlm_chat`, and the model's own chat() says.
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<|System|>:' + message['content'] + '\\n' }}"
    "{% elif message['role'] == 'user' %}{{ '<|User|>:' + message['content'] + '<eoh>\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|Bot|>:' + message['content'] + '<eoa>\\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|Bot|>:' }}{% endif %}"
)


def chat_template(model: SentencePieceModel) -> str:
    """Return the template, whose token ids are those of SentencePiece with `<s>` before them."""
    return "{{ bos_token" + (" + ' '" if model.add_dummy_prefix else "") + " }}" + _CHAT_TEMPLATE


def build_tokenizer(model: SentencePieceModel) -> Tokenizer:
    """Return the tokenizer; every piece keeps its id, and a text begins with `<s>`.

    Raises:
        InputError: the model has no `<s>`, `</s>` or unknown piece.
    """
    vocabulary = {piece.text: i for i, piece in enumerate(model.pieces)}
    unknown = next((piece.text for piece in model.pieces if piece.kind == PieceKind.UNKNOWN), None)
    if unknown is None or not {"<s>", "</s>"} <= vocabulary.keys():
        raise InputError("tokenizer.model: has no <s>, </s> or unknown piece; not InternLM's")
    tokenizer = Tokenizer(
        BPE(
            vocab=vocabulary,
            merges=_merges(model, vocabulary),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=model.byte_fallback,
        )
    )
    scheme = "first" if model.add_dummy_prefix else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme, split=False)
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if model.add_dummy_prefix:
        steps.append(decoders.Strip(content=" ", left=1))
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    special = [piece.text for piece in model.pieces if piece.kind in (PieceKind.CONTROL, PieceKind.UNKNOWN)]
    special += [text for text in (END_OF_HUMAN, END_OF_ANSWER) if text in vocabulary]
    defined = [piece.text for piece in model.pieces if piece.kind == PieceKind.USER_DEFINED]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in defined if text not in special])
    return tokenizer


def _merges(model: SentencePieceModel, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    ranked = sorted(
        (piece for piece in model.pieces if piece.kind == PieceKind.NORMAL and len(piece.text) > 1),
        key=lambda piece: (-piece.score, vocabulary[piece.text]),
    )
    normal = {piece.text for piece in model.pieces if piece.kind == PieceKind.NORMAL}
    return [
        (piece.text[:cut], piece.text[cut:])
        for piece in ranked
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in normal and piece.text[cut:] in normal
    ]


def write_tokenizer(folder: Path, model: SentencePieceModel, model_max_length: int) -> None:
    """Write tokenizer.json and tokenizer_config.json, with the internlm chat template."""
    write_text(folder / "tokenizer.json", build_tokenizer(model).to_str(pretty=False))
    unknown = next(piece.text for piece in model.pieces if piece.kind == PieceKind.UNKNOWN)
    config = {
        "bos_token": "<s>",
        "chat_template": chat_template(model),
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": model_max_length,
        "pad_token": "</s>",
        # The class that takes tokenizer.json as it is; LlamaTokenizer would build its own.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": unknown,
    }
    write_json(folder / "tokenizer_config.json", config)
