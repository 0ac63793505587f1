"""A model folder opened in this process with transformers, for one person who tries it: `groundtune chat --model`.

Slower than an engine and one answer at a time, but it takes what no engine here does: an adapter that was not
merged yet, weights in four or eight bits, another prompt template.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import InputError, UsageError
from serving.engines.model_folder import longest_sequence
from serving.engines.prompt_templates import PromptTemplate
from serving.engines.token_text import TokenText

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BITS = (4, 8)


@dataclass(frozen=True)
class FolderChoice:
    """What to open: the folder, and what to do differently from what it says.

    Attributes:
        folder: A Hugging Face model folder.
        adapter: A LoRA adapter's folder, put on top.
        bits: 4 or 8 to load the weights so; None for 16.
        template: Of prompts; None for the folder's own.
    """

    folder: Path
    adapter: Path | None = None
    bits: int | None = None
    template: PromptTemplate | None = None


class FolderModel:
    """The opened model."""

    def __init__(self, choice: FolderChoice) -> None:
        """Load it.

        Raises:
            InputError: a folder is not what it should be, or has no chat template and none was given.
            UsageError: the number of bits is not possible, or not here.
        """
        longest_sequence(choice.folder)
        if choice.adapter is not None and not (choice.adapter / "adapter_config.json").is_file():
            raise InputError(f"{choice.adapter}: no adapter there (no adapter_config.json)")
        if choice.bits is not None:
            _check_bits(choice.bits)
        from transformers import AutoTokenizer
        from transformers.utils import logging

        quiet: Any = logging
        quiet.disable_progress_bar()
        self._template = choice.template
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(choice.folder)
        if choice.template is None and not self._tokenizer.chat_template:
            raise InputError(
                f"{choice.folder}: the folder has no chat template; name one with --prompt-template"
            )
        self._model = _load(choice)
        self._turn = threading.Lock()

    def answer(
        self,
        messages: Sequence[Mapping[str, str]],
        max_tokens: int,
        temperature: float,
        stop: threading.Event,
    ) -> Iterator[str]:
        """Yield the answer's text as it comes, until it ends or `stop` is set.

        Raises:
            RuntimeError: whatever went wrong in generating.
        """
        from transformers import StoppingCriteriaList

        stops = self._template.stops if self._template else ()
        decode: Any = self._tokenizer.decode
        streamer = TokenText(partial(decode, skip_special_tokens=True))
        faults: list[Exception] = []
        settings: dict[str, Any] = {
            **self._prompt(messages),
            "max_new_tokens": max_tokens,
            "do_sample": temperature > 0,
            "streamer": streamer,
            "stopping_criteria": StoppingCriteriaList([lambda *_, **__: stop.is_set()]),
        }
        if temperature > 0:
            settings["temperature"] = temperature
        else:  # or transformers warns of the model's own settings
            settings |= {"temperature": None, "top_p": None, "top_k": None}
        if stops:
            settings |= {"stop_strings": list(stops), "tokenizer": self._tokenizer}

        def generate() -> None:
            try:
                self._model.generate(**settings)  # type: ignore[operator]
            except Exception as error:
                faults.append(error)
                streamer.end()

        with self._turn:
            thread = threading.Thread(target=generate, name="generate", daemon=True)
            thread.start()
            try:
                yield from before_stop(iter(streamer), stops)
            finally:
                stop.set()
                thread.join()
        if faults:
            raise RuntimeError(f"{type(faults[0]).__name__}: {faults[0]}") from faults[0]

    def _prompt(self, messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        if self._template is not None:
            encoded = self._tokenizer(self._template.text(messages), return_tensors="pt")
        else:
            encoded = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                add_generation_prompt=True,
                return_tensors="pt",
                return_dict=True,
            )
        device = self._model.device
        return {name: encoded[name].to(device) for name in ("input_ids", "attention_mask")}


def before_stop(pieces: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """Yield the text before the first stop string, holding back what may be the beginning of one."""
    held = ""
    for piece in pieces:
        held += piece
        cuts = [held.index(text) for text in stops if text in held]
        if cuts:
            if held[: min(cuts)]:
                yield held[: min(cuts)]
            return
        keep = max((_overlap(held, text) for text in stops), default=0)
        ready, held = held[: len(held) - keep], held[len(held) - keep :]
        if ready:
            yield ready
    if held:
        yield held


def _overlap(text: str, stop: str) -> int:
    """Return how long an end of `text` is that begins `stop`."""
    return next((size for size in range(len(stop) - 1, 0, -1) if text.endswith(stop[:size])), 0)


def _check_bits(bits: int) -> None:
    if bits not in _BITS:
        raise UsageError(f"--bits {bits}: 4 or 8, or leave it out for 16")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(f"--bits {bits} needs bitsandbytes; `pip install bitsandbytes`, or leave it out")


def _load(choice: FolderChoice) -> PreTrainedModel:
    import torch
    import transformers

    settings: dict[str, Any] = {"dtype": torch.bfloat16}
    quantized: Any = transformers.BitsAndBytesConfig
    if choice.bits == 4:
        settings["quantization_config"] = quantized(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    elif choice.bits == 8:
        settings["quantization_config"] = quantized(load_in_8bit=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        choice.folder, device_map=device, **settings
    )
    if choice.adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(choice.adapter))
    model.eval()
    loaded: PreTrainedModel = model
    return loaded
