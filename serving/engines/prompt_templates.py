"""Conversations as text in the formats that XTuner names, for models whose folder has no chat template or another.

A model answers in the format that it was trained in; in any other it answers worse, and nothing else tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data.errors import UsageError


@dataclass(frozen=True)
class PromptTemplate:
    """One format.

    Attributes:
        system: Once, at the beginning; `{text}` is the system prompt.
        user: Before each answer; `{text}` is the question.
        answered: After each answer that a further question follows.
        stops: What ends an answer, beside the tokenizer's own end.
    """

    system: str
    user: str
    answered: str
    stops: tuple[str, ...] = ()

    def text(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the conversation up to where the next answer begins."""
        forms = {"system": self.system, "user": self.user, "assistant": "{text}" + self.answered}
        return "".join(forms[message["role"]].replace("{text}", message["content"]) for message in messages)


_IM = "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
_IM_SYSTEM = "<|im_start|>system\n{text}<|im_end|>\n"

TEMPLATES: Mapping[str, PromptTemplate] = {
    "default": PromptTemplate("<|System|>:{text}\n", "<|User|>:{text}\n<|Bot|>:", "\n"),
    "internlm_chat": PromptTemplate(
        "<|System|>:{text}\n", "<|User|>:{text}<eoh>\n<|Bot|>:", "<eoa>\n", ("<eoa>",)
    ),
    "internlm2_chat": PromptTemplate(_IM_SYSTEM, _IM, "<|im_end|>\n", ("<|im_end|>",)),
    "qwen_chat": PromptTemplate(_IM_SYSTEM, _IM, "<|im_end|>\n", ("<|im_end|>", "<|endoftext|>")),
    "chatglm3": PromptTemplate("<|system|>\n{text}", "<|user|>\n{text}<|assistant|>\n", "\n"),
    "baichuan2_chat": PromptTemplate("{text}\n", "<reserved_106>{text}<reserved_107>", "\n"),
    "zephyr": PromptTemplate("<|system|>\n{text}\n", "<|user|>\n{text}\n<|assistant|>\n", "\n"),
}


def find_template(name: str) -> PromptTemplate:
    """Return the template of that name.

    Raises:
        UsageError: there is none, with those that there are.
    """
    if name not in TEMPLATES:
        raise UsageError(f"--prompt-template {name!r}: unknown; known: {', '.join(TEMPLATES)}")
    return TEMPLATES[name]
